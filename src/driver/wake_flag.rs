//! The flag with which other threads wake a driver: of a burst of calls one writes to the descriptor.
//!
//! **Guarantees.** Whoever finds the flag lowered writes, and only they do. What a thread did before
//! its call is visible to the driver after it lowered the flag behind that call; a call that comes
//! later finds it lowered. So every call is followed by a write, or by a lowering that sees it:
//!
//! ```text
//!   waker                                driver
//!   ─────                                ──────
//!   work                                 park … until a write
//!   raise: was it lowered?  yes: write   lower
//!                           no: nothing  look for work
//! ```
//!
//! A caller that finds the flag raised relies on the write of the one that raised it. If the driver
//! lowers the flag before that write, the write ends the next park for nothing, which is allowed.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct WakeFlag(AtomicBool);

impl WakeFlag {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// From any thread. True: the caller writes.
    #[must_use = "nobody else writes"]
    pub(super) fn raise(&self) -> bool {
        // Release: what was done before is seen by the lowering behind this call, over all calls between.
        !self.0.swap(true, Ordering::Release)
    }

    /// Whether somebody called; may be late.
    #[inline]
    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The driver notices. Whether somebody had called.
    #[inline]
    pub(super) fn lower(&self) -> bool {
        // Acquire: what was done before the calls that it sees. It tells them nothing.
        self.0.swap(false, Ordering::Acquire)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::WakeFlag;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// An eventfd that nobody reads, watched for writes.
    #[derive(Default)]
    struct Event {
        writes: Mutex<usize>,
        written: Condvar,
    }

    impl Event {
        fn write(&self) {
            *self.writes.lock().unwrap() += 1;
            self.written.notify_one();
        }

        /// Sleeps until there is a write that was not seen.
        fn wait(&self, seen: &mut usize) {
            let mut writes = self.writes.lock().unwrap();
            while *writes == *seen {
                writes = self.written.wait(writes).unwrap();
            }
            *seen = *writes;
        }
    }

    /// A wake that is lost is a deadlock, which loom reports. `looks`: whether the driver looks at the
    /// flag before it sleeps, as the one on epoll does.
    fn no_lost_wake(looks: bool) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            const THREADS: usize = 2;
            let flag = Arc::new(WakeFlag::new());
            let event = Arc::new(Event::default());
            let work: Arc<[AtomicUsize; THREADS]> =
                Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let threads: Vec<_> = (0..THREADS)
                .map(|index| {
                    let (flag, event, work) = (flag.clone(), event.clone(), work.clone());
                    thread::spawn(move || {
                        work[index].store(1, Ordering::Relaxed);
                        if flag.raise() {
                            event.write();
                        }
                    })
                })
                .collect();
            let mut seen = 0;
            while work.iter().any(|work| work.load(Ordering::Relaxed) == 0) {
                if !looks || !flag.is_raised() {
                    event.wait(&mut seen);
                }
                flag.lower();
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn loom_a_driver_that_waits_for_writes_loses_no_wake() {
        no_lost_wake(false);
    }

    #[test]
    fn loom_a_driver_that_looks_first_loses_no_wake() {
        no_lost_wake(true);
    }
}
