//! What other threads may read of a task's slot, and the order in which its owner writes it.
//!
//! **Guarantees.** Whoever knows the id of a task is given its flags while it is pending and nothing
//! else, never those of a later task in the same slot. What is found pending is, or was, a task. The
//! owner pays plain stores: none of them needs more than Release.
//!
//! ```text
//!   owner                              reader
//!   ─────                              ──────
//!   begin:  flags = …; live = id       id_of:    live                        (Acquire)
//!   steps:  flags = …                  flags_of: flags (Acquire), then live: still the id?
//!   end:    live = 0; flags = …
//! ```
//!
//! Every store releases. An id that was read brings with it the flags its task began with, so
//! [`Public::flags_of`] finds none that are older. Flags of a later task bring with them that the id
//! has gone. The models at the end of this file run every interleaving (`--cfg loom`).
//!
//! **Who may touch it.** The methods say whether they are the owner's, the thread of the loop, or
//! any thread's.

use super::id::TaskId;
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the module. Valid as zeroes: no task is pending in a slot that was never used.
#[repr(C)]
pub(super) struct Public {
    /// The task's id while it is pending, else 0.
    live: AtomicU64,
    flags: AtomicU32,
    /// How many scopes of the task, itself included, keep a request. The owner's alone; it stands
    /// here because here is room.
    kept: AtomicU32,
}

impl Public {
    /// Owner: a task takes the slot.
    #[inline]
    pub(super) fn begin(&self, id: u64, flags: u32) {
        self.set_flags(flags);
        self.live.store(id, Ordering::Release);
    }

    /// Owner: the task is pending no more.
    #[inline]
    pub(super) fn end(&self, flags: u32) {
        self.live.store(0, Ordering::Release);
        self.set_flags(flags);
    }

    /// Owner: whether the task is pending.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed) != 0
    }

    /// Owner.
    #[inline]
    pub(super) fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Owner.
    #[inline]
    pub(super) fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Release);
    }

    /// Owner.
    #[inline]
    pub(super) fn kept(&self) -> u32 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Owner.
    #[inline]
    pub(super) fn set_kept(&self, kept: u32) {
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Any thread: the task that is pending here.
    pub(super) fn id(&self) -> Option<TaskId> {
        TaskId::from_bits(self.live.load(Ordering::Acquire))
    }

    /// Any thread that knows of the task `id`: its flags, while it is pending.
    pub(super) fn flags_of(&self, id: TaskId) -> Option<u32> {
        let flags = self.flags.load(Ordering::Acquire);
        (self.live.load(Ordering::Relaxed) == id.get()).then_some(flags)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    impl Public {
        pub(in crate::task) fn new() -> Self {
            Self {
                live: AtomicU64::new(0),
                flags: AtomicU32::new(0),
                kept: AtomicU32::new(0),
            }
        }
    }

    const FIRST: u32 = 1 << 8;
    const SECOND: u32 = 2 << 8;
    const OF: u32 = 0xff << 8;
    const STEP: u32 = 1;

    /// The second half of the first task's life, and the second task.
    fn two_tasks(slot: &Public) {
        slot.set_flags(FIRST | STEP);
        slot.end(0);
        slot.set_flags(0);
        slot.begin(2, SECOND);
        slot.set_flags(SECOND | STEP);
        slot.end(0);
    }

    #[test]
    fn loom_whoever_knows_an_id_is_given_flags_of_that_task() {
        loom::model(|| {
            let slot = Arc::new(Public::new());
            slot.begin(1, FIRST);
            let reader = {
                let slot = slot.clone();
                let id = slot.id().unwrap();
                thread::spawn(move || {
                    if let Some(flags) = slot.flags_of(id) {
                        assert_eq!(flags & OF, FIRST);
                    }
                })
            };
            two_tasks(&slot);
            reader.join().unwrap();
        });
    }

    #[test]
    fn loom_what_is_found_pending_is_a_task_and_its_flags_are_its_own() {
        loom::model(|| {
            let slot = Arc::new(Public::new());
            let reader = {
                let slot = slot.clone();
                thread::spawn(move || {
                    let Some(id) = slot.id() else { return };
                    assert!((1..=2).contains(&id.get()));
                    if let Some(flags) = slot.flags_of(id) {
                        assert_eq!(u64::from(flags & OF), id.get() << 8);
                    }
                })
            };
            slot.begin(1, FIRST);
            two_tasks(&slot);
            reader.join().unwrap();
            assert_eq!(slot.id(), None);
        });
    }
}
