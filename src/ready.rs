//! The ready queue: what runs next, in order.
//!
//! **Guarantees.** First in, first out. Entries are small plain values (20 bytes): they own
//! nothing, point at nothing, and may go stale; whoever runs an entry compares its generation
//! with the one in the table the index points into, and drops the entry when they differ.
//!
//! **Who may touch it.** Every floor above may push. Only the iteration of the event loop pops.
//! It belongs to one thread; what comes from other threads waits in the loop's remote queue and
//! is pushed here by the loop itself.

use std::cell::RefCell;
use std::collections::VecDeque;

/// Which table the index of a [`ReadyEntry`] points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A task whose next step is due: index and generation of its slot.
    Task,
    /// A callback given to `call_soon`, `call_later` or `call_soon_threadsafe`.
    Callback,
    /// A completion of an operation whose target is a callback: index and generation of its key,
    /// with the result and flags of the completion.
    Completion,
}

/// One thing to run.
#[derive(Clone, Copy, Debug)]
pub struct ReadyEntry {
    /// Index in the table that `kind` names.
    pub index: u32,
    /// Generation the slot had when the entry was made.
    pub generation: u32,
    /// Result of a completion; 0 for other kinds.
    pub result: i32,
    /// Flags of a completion (see [`crate::driver::Completion`]); 0 for other kinds.
    pub flags: u32,
    /// What to run.
    pub kind: Kind,
}

const _: () = assert!(size_of::<ReadyEntry>() <= 24);

impl ReadyEntry {
    /// The next step of a task.
    pub const fn task(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation,
            result: 0,
            flags: 0,
            kind: Kind::Task,
        }
    }

    /// A callback.
    pub const fn callback(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation,
            result: 0,
            flags: 0,
            kind: Kind::Callback,
        }
    }
}

/// The queue itself; see the module.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    entries: RefCell<VecDeque<ReadyEntry>>,
}

impl ReadyQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            entries: RefCell::new(VecDeque::with_capacity(256)),
        }
    }

    /// Appends an entry.
    #[inline]
    pub fn push(&self, entry: ReadyEntry) {
        self.entries.borrow_mut().push_back(entry);
    }

    /// Takes the oldest entry.
    #[inline]
    pub fn pop(&self) -> Option<ReadyEntry> {
        self.entries.borrow_mut().pop_front()
    }

    /// How many entries wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
