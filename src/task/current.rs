//! Which task of a loop is current: said by the loop's thread, asked by any.
//!
//! **Guarantees.** What another thread is told was current while it asked, and pending then or ended
//! since; never a later task in the same slot (until the generation wraps). Entering and leaving a
//! task of the arena costs a load and a store.
//!
//! ```text
//!   word:   NOBODY    ◀──leave── enter──▶  a task of the arena: its waker's word
//!           └───────────── swap ─────────────┘
//!                 ▲                         ▲
//!                 │ swap, locked            │ swap, locked
//!                 ▼                         ▼
//!           FOREIGN: the mutex holds it
//! ```
//!
//! A reader that finds the word of a task looks up which task is pending in the slot, then reads the
//! word again. The store of the word releases, so the look-up finds that task or what came later. If
//! it found something later, the task has ended, and with that came that it was left: the second
//! read finds another word, and the reader asks again. The word is FOREIGN just while the mutex holds
//! a task, and changes to and from that under the lock. The models at the end of this file run every
//! interleaving (`--cfg loom`).

use super::id::{NO_INDEX, TaskId, pack, unpack};
#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// No task is current.
const NOBODY: u64 = pack(0, NO_INDEX, 0);
/// The current task is foreign.
const FOREIGN: u64 = pack(0, NO_INDEX, 1);

/// The current task of a loop, as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Current<F> {
    Nobody,
    Arena { index: u32, generation: u32 },
    Foreign(F),
}

/// The current task of a loop, as any thread is told of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<F> {
    Arena { index: u32, id: TaskId },
    Foreign(F),
}

/// See the module. `F` is a reference to a foreign task, whose clone runs no code of others.
pub(super) struct CurrentTask<F> {
    /// Of the loop.
    tag: u16,
    word: AtomicU64,
    foreign: Mutex<Option<F>>,
}

impl<F: Clone> CurrentTask<F> {
    pub(super) fn new(tag: u16) -> Self {
        Self {
            tag,
            word: AtomicU64::new(NOBODY),
            foreign: Mutex::new(None),
        }
    }

    /// Owner: makes a task of the arena current. False, and nothing changed: somebody is current.
    #[inline]
    pub(super) fn enter(&self, word: u64) -> bool {
        let free = self.word.load(Ordering::Relaxed) == NOBODY;
        if free {
            self.word.store(word, Ordering::Release);
        }
        free
    }

    /// Owner: ends what `enter` began. False, and nothing changed: another task, or none, is current.
    #[inline]
    pub(super) fn leave(&self, word: u64) -> bool {
        let matches = self.word.load(Ordering::Relaxed) == word;
        if matches {
            self.word.store(NOBODY, Ordering::Relaxed);
        }
        matches
    }

    /// Owner: replaces the current task.
    pub(super) fn swap(&self, new: Current<F>) -> Current<F> {
        let (word, foreign) = match new {
            Current::Nobody => (NOBODY, None),
            Current::Arena { index, generation } => (pack(self.tag, index, generation), None),
            Current::Foreign(task) => (FOREIGN, Some(task)),
        };
        let old = self.word.load(Ordering::Relaxed);
        let mut place = (old == FOREIGN || word == FOREIGN).then(|| self.foreign());
        self.word.store(word, Ordering::Release);
        let gone = place
            .as_mut()
            .and_then(|place| std::mem::replace(&mut **place, foreign));
        drop(place);
        match old {
            NOBODY => Current::Nobody,
            FOREIGN => gone.map_or(Current::Nobody, Current::Foreign),
            word => {
                let (index, generation) = unpack(word);
                Current::Arena { index, generation }
            }
        }
    }

    /// Any thread: the current task. `pending` says which one is pending in a slot.
    pub(super) fn find(&self, pending: impl Fn(u32) -> Option<TaskId>) -> Option<Found<F>> {
        loop {
            match self.word.load(Ordering::Acquire) {
                NOBODY => return None,
                FOREIGN => {
                    let foreign = self.foreign();
                    if self.word.load(Ordering::Relaxed) == FOREIGN {
                        return foreign.clone().map(Found::Foreign);
                    }
                }
                word => {
                    let (index, _) = unpack(word);
                    let id = pending(index);
                    if self.word.load(Ordering::Relaxed) == word {
                        return id.map(|id| Found::Arena { index, id });
                    }
                }
            }
            // The owner has gone on meanwhile.
        }
    }

    /// For a forked child, which must not wait for locks that other threads of its parent held.
    pub(super) fn forget(&self) {
        self.word.store(NOBODY, Ordering::Relaxed);
    }

    fn foreign(&self) -> MutexGuard<'_, Option<F>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::public::{DONE, Public};
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    const TAG: u16 = 5;

    const fn word(generation: u32) -> u64 {
        pack(TAG, 0, generation)
    }

    /// Of three tasks in one slot only the second is ever current.
    #[test]
    fn loom_a_task_that_never_was_current_is_never_found() {
        loom::model(|| {
            let shared = Arc::new((CurrentTask::<u32>::new(TAG), Public::new()));
            let reader = {
                let shared = shared.clone();
                thread::spawn(move || shared.0.find(|_| Some(shared.1.pending()?.0)))
            };
            let (current, slot) = &*shared;
            slot.set_flags(DONE);
            slot.begin(1, 0);
            slot.set_flags(DONE);
            slot.begin(2, 0);
            assert!(current.enter(word(2)));
            assert!(!current.enter(word(2)), "taken");
            assert!(current.leave(word(2)));
            slot.set_flags(DONE);
            slot.begin(3, 0);
            assert!(!current.leave(word(3)), "never entered");
            let second = TaskId::from_bits(2).unwrap();
            match reader.join().unwrap() {
                None => {}
                found => assert_eq!(
                    found,
                    Some(Found::Arena {
                        index: 0,
                        id: second
                    })
                ),
            }
        });
    }

    /// From the task of the arena over two foreign ones to one of the arena again, without a moment in
    /// which nobody is current.
    #[test]
    fn loom_while_tasks_are_swapped_one_of_them_is_found() {
        loom::model(|| {
            let shared = Arc::new((CurrentTask::<u32>::new(TAG), [Public::new(), Public::new()]));
            let (current, slots) = &*shared;
            let arena = |index| Current::Arena {
                index,
                generation: 9,
            };
            slots.iter().for_each(|slot| slot.set_flags(DONE));
            slots[0].begin(1, 0);
            assert_eq!(current.swap(arena(0)), Current::Nobody);
            let reader = {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared
                        .0
                        .find(|index| Some(shared.1[index as usize].pending()?.0))
                })
            };
            assert_eq!(current.swap(Current::Foreign(7)), arena(0));
            slots[0].set_flags(DONE);
            assert_eq!(current.swap(Current::Foreign(8)), Current::Foreign(7));
            slots[1].begin(2, 0);
            assert_eq!(current.swap(arena(1)), Current::Foreign(8));
            match reader.join().unwrap().expect("somebody is current") {
                Found::Foreign(task) => assert!(task == 7 || task == 8),
                Found::Arena { index, id } => assert_eq!(u64::from(index) + 1, id.get()),
            }
        });
    }
}
