//! Handles of scheduled callbacks.

use super::timers::TimerId;
use crate::task::CallKey;
use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

/// What a loop offers to the handles it gave out.
pub(super) trait HandleOwner {
    /// Drops the callback at once if it did not run yet.
    fn cancel_callback(&self, key: CallKey, timer: Option<TimerId>);
    /// Whether the callback neither ran nor was cancelled.
    fn is_callback_waiting(&self, key: CallKey) -> bool;
    /// Whether texts show where the callback was scheduled.
    fn is_debug(&self) -> bool;
}

/// A callback scheduled by `call_soon`. asyncio: `Handle`.
///
/// Dropping the handle does not cancel the callback.
pub struct Handle {
    owner: Rc<dyn HandleOwner>,
    key: CallKey,
    timer: Option<TimerId>,
    cancelled: Cell<bool>,
    name: &'static str,
    created: &'static Location<'static>,
}

impl Handle {
    pub(super) fn new(
        owner: Rc<dyn HandleOwner>,
        key: CallKey,
        timer: Option<TimerId>,
        name: &'static str,
        created: &'static Location<'static>,
    ) -> Self {
        Self {
            owner,
            key,
            timer,
            cancelled: Cell::new(false),
            name,
            created,
        }
    }

    /// Cancels the callback: it does not run, and what it captured is dropped at once. Harmless when
    /// it ran already or was cancelled before.
    pub fn cancel(&self) {
        if !self.cancelled.replace(true) {
            self.owner.cancel_callback(self.key, self.timer);
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Whether the callback neither ran nor was cancelled. (asyncio has no counterpart.)
    pub fn is_waiting(&self) -> bool {
        self.owner.is_callback_waiting(self.key)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.timer.is_some() {
            "TimerHandle"
        } else {
            "Handle"
        };
        let cancelled = if self.cancelled() { " cancelled" } else { "" };
        write!(f, "<{kind}{cancelled} {}", self.name)?;
        if let Some(timer) = self.timer {
            write!(f, " when={}ns", timer.when)?;
        }
        if self.owner.is_debug() {
            write!(f, " created at {}", self.created)?;
        }
        f.write_str(">")
    }
}

/// A callback scheduled by `call_later` or `call_at`. asyncio: `TimerHandle`.
///
/// Ordered by deadline. Dropping the handle does not cancel the callback.
pub struct TimerHandle {
    handle: Handle,
    when: u64,
}

impl TimerHandle {
    pub(super) fn new(handle: Handle, when: u64) -> Self {
        Self { handle, when }
    }

    /// The deadline, in nanoseconds of the loop's clock.
    pub fn when(&self) -> u64 {
        self.when
    }

    /// As [`Handle::cancel`].
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// As [`Handle::cancelled`].
    pub fn cancelled(&self) -> bool {
        self.handle.cancelled()
    }

    /// As [`Handle::is_waiting`].
    pub fn is_waiting(&self) -> bool {
        self.handle.is_waiting()
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// Equal when deadline, callback and cancelled flag are.
impl PartialEq for TimerHandle {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
            && self.handle.key == other.handle.key
            && self.cancelled() == other.cancelled()
    }
}

impl PartialOrd for TimerHandle {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        use std::cmp::Ordering;
        match self.when.cmp(&other.when) {
            Ordering::Equal if self != other => None,
            order => Some(order),
        }
    }
}

/// The deadline alone decides, as in asyncio.
impl std::hash::Hash for TimerHandle {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.when.hash(state);
    }
}

/// A callback scheduled by `call_soon_threadsafe`: may be cancelled from any thread. asyncio (3.14):
/// `_ThreadSafeHandle`.
#[derive(Clone)]
pub struct ThreadSafeHandle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    running: Option<ThreadId>,
    callback: Option<Box<dyn FnOnce() + Send>>,
}

impl ThreadSafeHandle {
    pub(super) fn new(callback: Box<dyn FnOnce() + Send>) -> Self {
        let state = State {
            callback: Some(callback),
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            ended: Condvar::new(),
        }))
    }

    /// The state, once the callback is not running on another thread.
    fn settled(&self) -> std::sync::MutexGuard<'_, State> {
        let me = thread::current().id();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.running.is_some_and(|thread| thread != me) {
            state = self
                .0
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
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

    /// Whether [`cancel`](Self::cancel) was called; waits while the callback runs on another thread.
    pub fn cancelled(&self) -> bool {
        self.settled().cancelled
    }

    /// Runs the callback unless it was cancelled; on the loop's thread.
    pub(super) fn run(&self) {
        struct Ended<'a>(&'a Shared);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .running = None;
                self.0.ended.notify_all();
            }
        }
        let callback = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(callback) = state.callback.take() else {
                return;
            };
            state.running = Some(thread::current().id());
            callback
        };
        let _ended = Ended(&self.0);
        callback();
    }
}

impl fmt::Debug for ThreadSafeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<ThreadSafeHandle>")
    }
}
