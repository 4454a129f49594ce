//! What other threads may read of a task's slot, and the order in which its owner writes it.
//!
//! **Guarantees.** Whoever knows the id of a task is given its flags while it is pending and nothing
//! else, never those of a later task in the same slot. What is found pending is, or was, a task. The
//! owner pays plain stores: none of them needs more than Release.
//!
//! ```text
//!   owner                              reader
//!   ─────                              ──────
//!   first use: flags = DONE
//!   begin:  id = …; flags = …          id           (Acquire)
//!   steps:  flags = …                  flags        (Acquire): DONE? then nobody
//!   end:    flags = … | DONE           id: still the same? else once more
//! ```
//!
//! Every store releases. The id stays when its task ended, until the next one begins, so DONE says
//! whether it is pending. An id that was read brings with it that the task before was DONE: flags
//! without DONE that are read after it are its own or of a later task, and those bring with them the
//! later id. The models at the end of this file run every interleaving (`--cfg loom`).
//!
//! **Who may touch it.** The methods say whether they are the owner's, the thread of the loop, or
//! any thread's.

use super::id::TaskId;
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The flag of a task that ended, and of a slot without one.
pub(super) const DONE: u32 = 1 << 3;

/// See the module. Valid as zeroes: a slot that was never used has no id.
#[repr(C)]
pub(super) struct Public {
    /// The id of the task, or of the last one.
    id: AtomicU64,
    flags: AtomicU32,
    /// How many scopes of the task, itself included, keep a request. The owner's alone; it stands
    /// here because here is room.
    kept: AtomicU32,
}

impl Public {
    /// Owner: a task takes the slot, which is DONE.
    #[inline]
    pub(super) fn begin(&self, id: u64, flags: u32) {
        self.id.store(id, Ordering::Release);
        self.set_flags(flags);
    }

    /// Owner: the task in the slot, or the last one.
    #[inline]
    pub(super) fn id(&self) -> Option<TaskId> {
        TaskId::from_bits(self.id.load(Ordering::Relaxed))
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

    /// Any thread: the task that is pending here, and its flags.
    pub(super) fn pending(&self) -> Option<(TaskId, u32)> {
        loop {
            let id = self.id.load(Ordering::Acquire);
            let flags = self.flags.load(Ordering::Acquire);
            if flags & DONE != 0 {
                return None;
            }
            if self.id.load(Ordering::Relaxed) == id {
                return TaskId::from_bits(id).map(|id| (id, flags));
            }
            // The owner has gone on meanwhile.
        }
    }

    /// Any thread that knows of the task `id`: its flags, while it is pending.
    pub(super) fn flags_of(&self, id: TaskId) -> Option<u32> {
        let (found, flags) = self.pending()?;
        (found == id).then_some(flags)
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
                id: AtomicU64::new(0),
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
        slot.set_flags(DONE | FIRST);
        slot.set_flags(DONE);
        slot.begin(2, SECOND);
        slot.set_flags(SECOND | STEP);
        slot.set_flags(DONE | SECOND);
    }

    #[test]
    fn loom_whoever_knows_an_id_is_given_flags_of_that_task() {
        loom::model(|| {
            let slot = Arc::new(Public::new());
            slot.set_flags(DONE);
            slot.begin(1, FIRST);
            let reader = {
                let slot = slot.clone();
                let (id, _) = slot.pending().unwrap();
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
                    let Some((id, flags)) = slot.pending() else {
                        return;
                    };
                    assert!((1..=2).contains(&id.get()));
                    assert_eq!(u64::from(flags & OF), id.get() << 8);
                })
            };
            slot.set_flags(DONE);
            slot.begin(1, FIRST);
            two_tasks(&slot);
            reader.join().unwrap();
            assert_eq!(slot.pending(), None);
        });
    }
}
