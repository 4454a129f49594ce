//! What threads put down for a driver to pick up.
//!
//! **Guarantees.** What is posted comes out once, each thread's in its order. Whoever posts wakes the
//! driver *after* that; a driver that takes after it was woken finds what it was woken for. Asking
//! whether there is something costs a load.
//!
//! ```text
//!   thread                         driver
//!   ──────                         ──────
//!   push (locked)                  any?  any = false
//!   any = true                     take (locked)
//!   wake
//! ```
//!
//! The flag is lowered before the list is taken, so a flag that is lowered though something comes
//! later is raised again by who brings it. The model at the end of this file runs every interleaving
//! (`--cfg loom`).

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// See the module.
pub(super) struct Posted<T> {
    list: Mutex<Vec<T>>,
    /// Something is in the list.
    any: AtomicBool,
}

impl<T> Posted<T> {
    pub(super) fn new() -> Self {
        Self {
            list: Mutex::new(Vec::new()),
            any: AtomicBool::new(false),
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<T>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By any thread, which wakes the driver then.
    pub(super) fn post(&self, item: T) {
        self.list().push(item);
        self.any.store(true, Ordering::Relaxed);
    }

    /// By the driver: whether there is something; may be late for who was not woken yet.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// By the driver: everything that came.
    pub(super) fn take(&self) -> Vec<T> {
        self.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.list())
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::Posted;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// Threads that post one after another, and a driver that sleeps until it is woken: what it does
    /// not find is a deadlock, which loom reports.
    fn nothing_is_missed(threads: usize, each: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let posted = Arc::new(Posted::new());
            let wakes = Arc::new((Mutex::new(false), Condvar::new()));
            let handles: Vec<_> = (0..threads)
                .map(|thread| {
                    let (posted, wakes) = (posted.clone(), wakes.clone());
                    thread::spawn(move || {
                        for item in 0..each {
                            posted.post((thread, item));
                            *wakes.0.lock().unwrap() = true;
                            wakes.1.notify_one();
                        }
                    })
                })
                .collect();
            let mut taken = Vec::new();
            while taken.len() < threads * each {
                if posted.any() {
                    taken.append(&mut posted.take());
                    continue;
                }
                let mut woken = wakes.0.lock().unwrap();
                while !*woken {
                    woken = wakes.1.wait(woken).unwrap();
                }
                *woken = false;
            }
            for thread in 0..threads {
                let items: Vec<_> = taken.iter().filter(|item| item.0 == thread).collect();
                assert!(items.is_sorted(), "one thread's items keep their order");
            }
            for handle in handles {
                handle.join().unwrap();
            }
        });
    }

    #[test]
    fn loom_a_driver_finds_all_that_a_thread_posts() {
        nothing_is_missed(1, 2);
    }

    #[test]
    fn loom_a_driver_finds_what_two_threads_post() {
        nothing_is_missed(2, 1);
    }
}
