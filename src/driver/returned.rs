//! Buffers that other threads give back, and how a loop that waits for one hears of it.
//!
//! **Guarantees.** Every buffer given back is taken once. What its holder did with it happens before
//! its next use. A loop that said it starves, and then took nothing, is woken for every buffer that
//! comes later:
//!
//! ```text
//!   holder                         loop
//!   ──────                         ────
//!   bit = 1                        starving = true
//!   ── fence ──                    ── fence ──
//!   starving?  yes: unpark         take the bits; none: park
//! ```
//!
//! Each side writes its own word, fences, and reads the other's, so at least one of the two sees the
//! other. The model test at the end of this file runs every interleaving (`--cfg loom`).

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// Whether a loop waits for a buffer.
pub(super) struct Starving(AtomicBool);

impl Starving {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// By the loop, which takes what was given back right after it has said yes.
    pub(super) fn set(&self, starving: bool) {
        self.0.store(starving, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// One bit for each buffer of a segment: it was given back.
pub(super) struct Returned(AtomicU64);

impl Returned {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// By any thread. True: the caller wakes the loop.
    #[must_use = "nobody else wakes the loop"]
    pub(super) fn give_back(&self, index: u16, starving: &Starving) -> bool {
        // Release: the holder's accesses happen before the next use.
        self.0.fetch_or(1 << index, Ordering::Release);
        fence(Ordering::SeqCst);
        starving.0.load(Ordering::Relaxed)
    }

    /// By the loop: the bits that came.
    pub(super) fn take(&self) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            // Acquire: pairs with the Release in `give_back`.
            _ => self.0.swap(0, Ordering::Acquire),
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::{Returned, Starving};
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// Two holders, and a loop that waits until it has both buffers. One that is never woken is a
    /// deadlock; an access that is not ordered, a race: loom reports both.
    #[test]
    fn loom_buffers_given_back_wake_a_loop_that_starves() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let returned = Arc::new((Returned::new(), Starving::new()));
            let buffers = Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]);
            let parker = Arc::new((Mutex::new(false), Condvar::new()));
            let threads: Vec<_> = (0..2)
                .map(|index| {
                    let (returned, buffers) = (returned.clone(), buffers.clone());
                    let parker = parker.clone();
                    thread::spawn(move || {
                        // SAFETY: this thread holds the buffer; loom checks it.
                        buffers[index].with_mut(|buffer| unsafe { *buffer = 1 });
                        if returned.0.give_back(index as u16, &returned.1) {
                            *parker.0.lock().unwrap() = true;
                            parker.1.notify_one();
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            while taken != 0b11 {
                returned.1.set(true);
                let bits = returned.0.take();
                assert_eq!(taken & bits, 0, "taken once");
                taken |= bits;
                for index in (0..2).filter(|index| bits & 1 << index != 0) {
                    // SAFETY: the buffer was given back; loom checks it.
                    assert_eq!(buffers[index].with(|buffer| unsafe { *buffer }), 1);
                }
                if bits == 0 {
                    let mut token = parker.0.lock().unwrap();
                    while !*token {
                        token = parker.1.wait(token).unwrap();
                    }
                    *token = false;
                }
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}
