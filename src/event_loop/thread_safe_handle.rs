//! Handles of callbacks that may be cancelled from any thread.
//!
//! ```text
//!            cancel, or the loop closes
//!   Waiting ───────────────────────────▶ Over ◀──end── Running
//!      └─────────────────run──────────────────────────────▲
//! ```
//!
//! **Guarantees.** The callback runs in a copy of the context of who made the handle, on whatever
//! thread that was. It runs at most once, and not at all when a cancel came first. While it
//! runs, other threads that ask or cancel wait for its end. What it captured is dropped when it ran,
//! was cancelled, or its loop was closed, however long the handle is kept. The models at the end of
//! this file run every interleaving (`--cfg loom`).

use super::handle::Origin;
use crate::task::{ContextSnapshot, is_loop_exit};
#[cfg(loom)]
use loom::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, ThreadId},
};
use std::any::{Any, type_name};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};
#[cfg(not(loom))]
use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, ThreadId},
};

/// A callback scheduled by `call_soon_threadsafe`: may be cancelled from any thread. asyncio (3.14):
/// `_ThreadSafeHandle`.
///
/// Dropping the handle does not cancel the callback.
#[derive(Clone)]
pub struct ThreadSafeHandle(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    ended: Condvar,
    context: ContextSnapshot,
    origin: Origin,
}

struct State {
    cancelled: bool,
    running: Option<ThreadId>,
    callback: Option<Box<dyn FnOnce() + Send>>,
}

/// The payload of a panic in a thread-safe callback, with the callback it came from.
pub(super) struct Failed {
    pub(super) origin: Origin,
    pub(super) payload: Box<dyn Any + Send>,
}

impl ThreadSafeHandle {
    /// A callback to be scheduled, for loops of your own: see
    /// [`call_soon_threadsafe_dyn`](super::AbstractEventLoop::call_soon_threadsafe_dyn).
    #[track_caller]
    pub fn new<F: FnOnce() + Send + 'static>(callback: F) -> Self {
        Self::in_context(ContextSnapshot::new(), callback)
    }

    /// As [`new`](Self::new), to run in a context of its own with these values.
    #[track_caller]
    pub fn in_context<F: FnOnce() + Send + 'static>(context: ContextSnapshot, callback: F) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                cancelled: false,
                running: None,
                callback: Some(Box::new(callback)),
            }),
            ended: Condvar::new(),
            context,
            origin: Origin {
                name: type_name::<F>(),
                created: Location::caller(),
            },
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, once the callback is not running on another thread.
    fn settled(&self) -> MutexGuard<'_, State> {
        let me = thread::current().id();
        let mut state = self.lock();
        while state.running.is_some_and(|thread| thread != me) {
            let waited = self.0.ended.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Cancels the callback if it did not start. While it runs on another thread this waits for its
    /// end; from the callback itself it returns at once and does not undo the run.
    pub fn cancel(&self) {
        let callback = {
            let mut state = self.settled();
            state.cancelled = true;
            state.callback.take()
        };
        drop(callback);
    }

    /// The values with which the callback runs. asyncio: `Handle.get_context()`.
    pub fn get_context(&self) -> ContextSnapshot {
        self.0.context.clone()
    }

    /// Whether [`cancel`](Self::cancel) was called; waits while the callback runs on another thread.
    pub fn cancelled(&self) -> bool {
        self.settled().cancelled
    }

    /// What the loop runs in its own thread. Dropped without being called, it drops the callback.
    pub fn into_call(self) -> impl FnOnce() + Send + use<> {
        let queued = Queued(self);
        move || queued.run()
    }
}

/// The loop's share of a handle.
struct Queued(ThreadSafeHandle);

impl Queued {
    fn run(&self) {
        struct Ended<'a>(&'a ThreadSafeHandle);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.lock().running = None;
                self.0.0.ended.notify_all();
            }
        }
        let callback = {
            let mut state = self.0.lock();
            let Some(callback) = state.callback.take() else {
                return;
            };
            state.running = Some(thread::current().id());
            callback
        };
        let _ended = Ended(&self.0);
        let context = &self.0.0.context;
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| context.run(callback))) {
            if is_loop_exit(&*payload) {
                resume_unwind(payload);
            }
            let origin = self.0.0.origin;
            resume_unwind(Box::new(Failed { origin, payload }));
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let callback = self.0.lock().callback.take();
        drop(callback);
    }
}

impl fmt::Debug for ThreadSafeHandle {
    /// Never waits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = if self.lock().cancelled {
            " cancelled"
        } else {
            ""
        };
        write!(f, "<ThreadSafeHandle{cancelled} {}>", self.0.origin.name)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// What a callback changes, without a lock: who is not ordered after that may read what it was.
    type Touched = Arc<AtomicU32>;

    fn touch(touched: &AtomicU32) {
        touched.store(read(touched) + 1, Relaxed);
    }

    fn read(touched: &AtomicU32) -> u32 {
        touched.load(Relaxed)
    }

    /// One thread runs the callback, others cancel it: after that it has run, or never will, and what
    /// it captured is gone.
    fn cancelled_or_over(cancellers: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let touched = Touched::default();
            let captured = touched.clone();
            let handle = ThreadSafeHandle::new(move || {
                touch(&captured);
                thread::yield_now();
                touch(&captured);
            });
            let call = handle.clone().into_call();
            let runner = thread::spawn(call);
            let threads: Vec<_> = (1..cancellers)
                .map(|_| {
                    let handle = handle.clone();
                    thread::spawn(move || handle.cancel())
                })
                .collect();
            handle.cancel();
            let times = read(&touched);
            assert!(times == 0 || times == 2, "half a run");
            assert!(handle.cancelled());
            for thread in threads {
                thread.join().unwrap();
            }
            runner.join().unwrap();
            assert_eq!(read(&touched), times, "run after it was cancelled");
            assert_eq!(Arc::strong_count(&touched), 1, "kept");
        });
    }

    #[test]
    fn loom_who_cancels_waits_for_the_end_of_a_run() {
        cancelled_or_over(1);
    }

    #[test]
    fn loom_all_who_cancel_hear_of_the_end_of_a_run() {
        cancelled_or_over(2);
    }

    /// The loop closes while another thread cancels.
    #[test]
    fn loom_what_a_callback_captured_is_dropped_once() {
        loom::model(|| {
            let touched = Touched::default();
            struct Captured(Touched);
            impl Drop for Captured {
                fn drop(&mut self) {
                    touch(&self.0);
                }
            }
            let captured = Captured(touched.clone());
            let handle = ThreadSafeHandle::new(move || drop(captured));
            let call = handle.clone().into_call();
            let closer = thread::spawn(move || drop(call));
            handle.cancel();
            closer.join().unwrap();
            assert_eq!(read(&touched), 1);
        });
    }
}
