//! What the handler of a signal and the one who catches it share.
//!
//! **Guarantees.** One catches at a time. A handler that was given the descriptor may use it until it
//! leaves: [`SignalSlot::retire`] returns when no handler has it, and none is given it later. What a
//! handler counts and compares with belongs to the catch whose descriptor it was given. The handler's
//! part is async-signal-safe: it takes no lock, waits for nobody and calls nothing.
//!
//! ```text
//!   handler                      who catches
//!   ───────                      ───────────
//!   busy += 1                    event = -1
//!   ── fence ──                  ── fence ──
//!   event?  write to it          busy?  wait for 0
//!   busy -= 1  (Release)         (Acquire) close it
//! ```
//!
//! Each side writes its own word, fences, and reads the other's, so at least one of the two sees the
//! other. The model tests at the end of this file run every interleaving (`--cfg loom`).

#[cfg(loom)]
use loom::{
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering, fence},
    thread,
};
#[cfg(not(loom))]
use std::{
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering, fence},
    thread,
};

/// The event of a signal that nobody catches.
const NOBODY: i32 = -1;

/// See the module.
pub(super) struct SignalSlot {
    taken: AtomicBool,
    /// The descriptor to write to, or `NOBODY`.
    event: AtomicI32,
    /// Deliveries since it is caught.
    count: AtomicU32,
    /// The delivery from which on the default action is taken; 0: none.
    last: AtomicU32,
    /// Handlers that may be about to use `event`.
    busy: AtomicU32,
}

/// What a handler is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Write to this descriptor.
    Event(i32),
    /// Have the default action taken.
    Last,
    /// Nobody catches the signal.
    Nobody,
}

impl SignalSlot {
    // The model checker's atomics are not made at compile time.
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            event: AtomicI32::new(NOBODY),
            count: AtomicU32::new(0),
            last: AtomicU32::new(0),
            busy: AtomicU32::new(0),
        }
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            event: AtomicI32::new(NOBODY),
            count: AtomicU32::new(0),
            last: AtomicU32::new(0),
            busy: AtomicU32::new(0),
        }
    }

    /// From any thread: the slot is the caller's until it [releases](Self::release) it. False: it is
    /// somebody else's.
    #[must_use = "who has not got it must not touch it"]
    pub(super) fn claim(&self) -> bool {
        !self.taken.swap(true, Ordering::Acquire)
    }

    /// Who catches: handlers are given `event` from now on, `last` - 1 times; 0: for ever.
    pub(super) fn publish(&self, event: i32, last: u32) {
        self.count.store(0, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        self.event.store(event, Ordering::Release);
    }

    /// Who catches: takes the descriptor back, and returns when no handler has it any more. Those who
    /// have are in other threads and about to leave.
    pub(super) fn retire(&self) {
        self.event.store(NOBODY, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while self.busy.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
    }

    /// Who caught: the slot is free.
    pub(super) fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// Handler: what to do, which must be done before it [leaves](Self::leave).
    pub(super) fn enter(&self) -> Delivery {
        self.busy.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let event = self.event.load(Ordering::Acquire);
        if event == NOBODY {
            return Delivery::Nobody;
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match self.last.load(Ordering::Relaxed) {
            last if last != 0 && count >= last => Delivery::Last,
            _ => Delivery::Event(event),
        }
    }

    /// Handler: it is over.
    pub(super) fn leave(&self) {
        self.busy.fetch_sub(1, Ordering::Release);
    }

    /// Deliveries since it is caught.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// In a forked child nobody catches anything, whatever other threads did when it was forked.
    pub(super) fn forget(&self) {
        self.event.store(NOBODY, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// A slot, and two descriptors: whether they are open. Loom reports a use that is not ordered
    /// before the close, or after the opening.
    struct World {
        slot: SignalSlot,
        open: [UnsafeCell<bool>; 2],
    }

    impl World {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                slot: SignalSlot::new(),
                open: [UnsafeCell::new(false), UnsafeCell::new(false)],
            })
        }

        fn set(&self, event: i32, open: bool) {
            // SAFETY: no handler has the descriptor; loom checks it.
            self.open[event as usize].with_mut(|place| unsafe { *place = open });
        }

        fn handler(&self) -> Delivery {
            let delivery = self.slot.enter();
            if let Delivery::Event(event) = delivery {
                // SAFETY: given to this handler; loom checks it.
                assert!(self.open[event as usize].with(|open| unsafe { *open }));
            }
            self.slot.leave();
            delivery
        }

        fn catch(&self, event: i32, last: u32) {
            self.set(event, true);
            self.slot.publish(event, last);
        }

        fn let_go(&self, event: i32) {
            self.slot.retire();
            self.set(event, false);
            self.slot.release();
        }
    }

    /// One catch after another, with other descriptors, while handlers run in other threads.
    fn open_while_used(handlers: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let world = World::new();
            assert!(world.slot.claim());
            world.catch(0, 0);
            let threads: Vec<_> = (0..handlers)
                .map(|_| {
                    let world = world.clone();
                    thread::spawn(move || world.handler())
                })
                .collect();
            world.let_go(0);
            assert!(world.slot.claim());
            // Here each delivery is the last.
            world.catch(1, 1);
            for thread in threads {
                let delivery = thread.join().unwrap();
                assert_ne!(
                    delivery,
                    Delivery::Event(1),
                    "a count or a limit of the first"
                );
            }
            world.let_go(1);
        });
    }

    #[test]
    fn loom_a_descriptor_is_open_while_a_handler_has_it() {
        open_while_used(1);
    }

    #[test]
    fn loom_a_descriptor_is_open_while_one_of_two_handlers_has_it() {
        open_while_used(2);
    }

    /// Of two threads that want to catch a signal one at a time does.
    #[test]
    fn loom_one_catches_at_a_time() {
        loom::model(|| {
            let world = World::new();
            let try_to_catch = |world: &World| {
                let claimed = world.slot.claim();
                if claimed {
                    world.catch(0, 2);
                    assert_eq!(world.handler(), Delivery::Event(0));
                    assert_eq!(world.handler(), Delivery::Last);
                    assert_eq!(world.slot.count(), 2);
                    world.let_go(0);
                }
                claimed
            };
            let other = {
                let world = world.clone();
                thread::spawn(move || try_to_catch(&world))
            };
            let one = try_to_catch(&world);
            assert!(other.join().unwrap() || one);
        });
    }
}
