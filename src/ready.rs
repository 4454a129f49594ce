//! The ready queue: what runs next, in order.
//!
//! **Guarantees.** First in, first out. Entries are small plain values (20 bytes): they point
//! at nothing and may go stale; whoever runs an entry compares its generation
//! with the one in the table the index points into, and drops the entry when they differ.
//!
//! **Who may touch it.** Every floor above may push. Only the iteration of the event loop pops.
//! It belongs to one thread; what comes from other threads waits in the loop's remote queue and
//! is pushed here by the loop itself.

use std::cell::RefCell;

/// Which table the index of a [`ReadyEntry`] points into. As large as the other fields: an entry without
/// padding is taken from the queue field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A task whose next step is due: index and generation of its slot.
    Task,
    /// A callback given to `call_soon`, `call_later` or `call_soon_threadsafe`.
    Callback,
    /// A timer that is due and only rings: index and generation of its bell.
    Bell,
    /// A completion of an operation whose target is a callback: index and generation of its key,
    /// with the result and flags of the completion.
    Completion,
}

/// One thing to run. It may bring a buffer or a descriptor to whoever runs it, so it can be moved, and is
/// run once.
#[derive(Debug)]
pub struct ReadyEntry {
    /// Index in the table that `kind` names.
    pub index: u32,
    /// Generation the slot had when the entry was made.
    pub generation: u32,
    /// Result of a completion; 0 for other kinds. Not public, as the flags: together they say who
    /// owns a buffer or a descriptor.
    pub(crate) result: i32,
    /// Flags of a completion (see [`crate::driver::Completion`]); 0 for other kinds.
    pub(crate) flags: u32,
    /// What to run.
    pub kind: Kind,
}

const _: () = assert!(size_of::<ReadyEntry>() == 20);

impl ReadyEntry {
    /// The same entry: the one it is taken from must not be looked at again.
    #[inline]
    pub(crate) const fn taken(&self) -> Self {
        Self {
            index: self.index,
            generation: self.generation,
            result: self.result,
            flags: self.flags,
            kind: self.kind,
        }
    }

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

    /// A bell.
    pub const fn bell(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation,
            result: 0,
            flags: 0,
            kind: Kind::Bell,
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
///
/// A ring of entries that is written and read field by field: an entry is often popped right after
/// it was pushed, and a wide load of what narrow stores just wrote would stall.
#[derive(Debug)]
pub struct ReadyQueue {
    ring: RefCell<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// A power of two of them.
    entries: Box<[ReadyEntry]>,
    /// Where the oldest stands.
    first: usize,
    len: usize,
}

const CAPACITY: usize = 256;

fn empty(capacity: usize) -> Box<[ReadyEntry]> {
    std::iter::repeat_with(|| ReadyEntry::task(0, 0))
        .take(capacity)
        .collect()
}

impl Ring {
    /// The place of the entry `number` after the oldest.
    #[inline]
    fn place(&self, number: usize) -> usize {
        self.first.wrapping_add(number) & (self.entries.len() - 1)
    }

    #[cold]
    fn grow(&mut self) {
        let mut entries = empty(self.entries.len() * 2);
        for (number, entry) in entries.iter_mut().enumerate().take(self.len) {
            *entry = self.entries[self.place(number)].taken();
        }
        self.entries = entries;
        self.first = 0;
    }
}

impl Default for ReadyQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadyQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            ring: RefCell::new(Ring {
                entries: empty(CAPACITY),
                first: 0,
                len: 0,
            }),
        }
    }

    /// Appends an entry.
    #[inline]
    pub fn push(&self, entry: ReadyEntry) {
        let mut ring = self.ring.borrow_mut();
        if ring.len == ring.entries.len() {
            ring.grow();
        }
        let place = ring.place(ring.len);
        ring.entries[place] = entry;
        ring.len += 1;
    }

    /// Takes the oldest entry.
    #[inline]
    pub fn pop(&self) -> Option<ReadyEntry> {
        let mut ring = self.ring.borrow_mut();
        if ring.len == 0 {
            return None;
        }
        let place = ring.place(0);
        ring.first = place + 1;
        ring.len -= 1;
        Some(ring.entries[place].taken())
    }

    /// Whether this is the newest entry that waits.
    #[inline]
    pub(crate) fn ends_with(&self, entry: &ReadyEntry) -> bool {
        let ring = self.ring.borrow();
        if ring.len == 0 {
            return false;
        }
        let last = &ring.entries[ring.place(ring.len - 1)];
        (last.kind, last.index, last.generation) == (entry.kind, entry.index, entry.generation)
    }

    /// How many entries wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.ring.borrow().len
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_order_around_the_ring_and_while_it_grows() {
        let queue = ReadyQueue::new();
        let (mut pushed, mut popped) = (0, 0);
        for round in 1..=20 {
            for _ in 0..round * 60 {
                queue.push(ReadyEntry::callback(pushed, pushed ^ 5));
                pushed += 1;
            }
            for _ in 0..round * 50 {
                let entry = queue.pop().unwrap();
                assert_eq!((entry.index, entry.generation), (popped, popped ^ 5));
                assert_eq!(entry.kind, Kind::Callback);
                popped += 1;
            }
            assert_eq!(queue.len(), (pushed - popped) as usize);
        }
        assert!(!queue.is_empty());
        while let Some(entry) = queue.pop() {
            assert_eq!(entry.index, popped);
            popped += 1;
        }
        assert_eq!((popped, queue.is_empty()), (pushed, true));
    }
}
