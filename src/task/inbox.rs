//! What other threads send to a loop, and how a sleeping loop hears of it.
//!
//! **Guarantees.** Items come out in the order in which they went in. A loop that was allowed to
//! sleep ([`Inbox::prepare_sleep`] answered true) is unparked for every item that comes later:
//! no wake is lost. Of a burst only the first item can cost an unpark.
//!
//! ```text
//!   sender                                   loop
//!   ──────                                   ────
//!   items.push, pending = true (locked)      sleeping = true
//!   the first of a burst:                    ── fence ──
//!     ── fence ──                            pending?  yes: sleeping = false, do not park
//!     sleeping?  yes: unpark                           no:  park … sleeping = false
//! ```
//!
//! Each side writes its own flag, fences, and reads the other's, so at least one of the two sees
//! the other. `pending` changes only under the lock, `sleeping` only in the loop. The model test at
//! the end of this file runs every interleaving (`--cfg loom`).
//!
//! An inbox stands in a permanent entry of the loop table and serves many loops one after another;
//! `owner` says which one it serves now (0: none, items are refused).

#[cfg(loom)]
use loom::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering, fence},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering, fence},
};

struct State<T> {
    owner: u64,
    items: Vec<T>,
}

/// The inbox; see the module.
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    pending: AtomicBool,
    sleeping: AtomicBool,
}

impl<T> Inbox<T> {
    /// An inbox that serves nobody yet.
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                owner: 0,
                items: Vec::new(),
            }),
            pending: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> R {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on the inbox serves `owner`.
    pub(super) fn open(&self, owner: u64) {
        self.with(|state| state.owner = owner);
    }

    /// From now on every item is refused. Returns what nobody will take.
    pub(super) fn close(&self) -> Vec<T> {
        self.with(|state| {
            state.owner = 0;
            self.pending.store(false, Ordering::Relaxed);
            std::mem::take(&mut state.items)
        })
    }

    /// Appends an item if the present owner is `admitted`, else gives it back.
    /// `Ok(true)`: the loop sleeps and it is the caller's part to unpark it.
    pub(super) fn push(&self, item: T, admitted: impl FnOnce(u64) -> bool) -> Result<bool, T> {
        let first = self.with(|state| {
            if state.owner == 0 || !admitted(state.owner) {
                return Err(item);
            }
            state.items.push(item);
            let first = !self.pending.load(Ordering::Relaxed);
            self.pending.store(true, Ordering::Relaxed);
            Ok(first)
        })?;
        if !first {
            // Whoever came first sees to the loop.
            return Ok(false);
        }
        fence(Ordering::SeqCst);
        Ok(self.sleeping.load(Ordering::Relaxed))
    }

    /// Whether something came; may be late, [`Inbox::prepare_sleep`] is not.
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Swaps everything that came with the empty vector `into`, whose memory serves the next items.
    pub(super) fn take(&self, into: &mut Vec<T>) {
        self.with(|state| {
            self.pending.store(false, Ordering::Relaxed);
            std::mem::swap(&mut state.items, into);
        });
    }

    /// Announces that the loop is about to park. False: something came, do not.
    pub(super) fn prepare_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let idle = !self.pending.load(Ordering::Relaxed);
        if !idle {
            self.sleeping.store(false, Ordering::Relaxed);
        }
        idle
    }

    /// The loop parks no more.
    pub(super) fn finish_sleep(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::Inbox;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// An unpark that ends the park going on or the next one, as drivers promise.
    #[derive(Default)]
    struct Parker {
        token: Mutex<bool>,
        wake: Condvar,
    }

    impl Parker {
        fn park(&self) {
            let mut token = self.token.lock().unwrap();
            while !*token {
                token = self.wake.wait(token).unwrap();
            }
            *token = false;
        }

        fn unpark(&self) {
            *self.token.lock().unwrap() = true;
            self.wake.notify_one();
        }
    }

    /// Loop and senders in every interleaving (of at most `preemptions`, if given): a lost wake is a
    /// deadlock, which loom reports.
    fn no_lost_wake(senders: usize, each: usize, preemptions: Option<usize>) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = preemptions;
        model.check(move || {
            let inbox = Arc::new(Inbox::new());
            let parker = Arc::new(Parker::default());
            inbox.open(1);
            let threads: Vec<_> = (0..senders)
                .map(|sender| {
                    let (inbox, parker) = (inbox.clone(), parker.clone());
                    thread::spawn(move || {
                        for item in 0..each {
                            if inbox.push((sender, item), |owner| owner == 1).unwrap() {
                                parker.unpark();
                            }
                        }
                    })
                })
                .collect();
            let mut taken = Vec::new();
            let mut buffer = Vec::new();
            while taken.len() < senders * each {
                if inbox.is_pending() {
                    inbox.take(&mut buffer);
                    taken.append(&mut buffer);
                    continue;
                }
                if inbox.prepare_sleep() {
                    parker.park();
                    inbox.finish_sleep();
                }
            }
            for sender in 0..senders {
                let items: Vec<_> = taken.iter().filter(|item| item.0 == sender).collect();
                assert!(items.is_sorted(), "one sender's items keep their order");
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn loom_one_sender_two_items() {
        no_lost_wake(1, 2, None);
    }

    #[test]
    fn loom_two_senders() {
        no_lost_wake(2, 1, Some(3));
    }

    /// A close racing with a sender: the item is either returned by close or refused, never both
    /// and never lost.
    #[test]
    fn loom_close_refuses_or_returns() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            inbox.open(1);
            let sender = {
                let inbox = inbox.clone();
                thread::spawn(move || inbox.push((), |_| true).is_ok())
            };
            let left = inbox.close().len();
            assert_eq!(left == 1, sender.join().unwrap());
        });
    }
    /// An item for one owner never reaches the next, nor keeps it awake.
    #[test]
    fn loom_what_was_sent_to_one_owner_is_not_the_next_ones() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            inbox.open(1);
            let sender = {
                let inbox = inbox.clone();
                thread::spawn(move || inbox.push((), |owner| owner == 1).is_ok())
            };
            let left = inbox.close().len();
            inbox.open(2);
            assert_eq!(left == 1, sender.join().unwrap());
            let mut taken = Vec::new();
            assert!(!inbox.is_pending() && inbox.prepare_sleep());
            inbox.take(&mut taken);
            assert!(taken.is_empty());
        });
    }
}
