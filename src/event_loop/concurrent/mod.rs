//! Futures that any thread may wait for. asyncio: `concurrent.futures.Future`.
//!
//! **Guarantees.** A future leaves `Pending` and `Running` once; whoever waits then, blocking or
//! awaiting, is told, and callbacks run in the thread that ended it. Its value goes to one reader. No
//! code of others (wakers, callbacks, destructors of values) runs while the lock is held.
//!
//! ```text
//!             set_running_or_notify_cancel
//!   Pending ──────────────────────────────▶ Running ──┐
//!      │ └────────────────── finish ──────────────────┴──▶ Finished ──result, await──▶ Taken
//!      └──── cancel ────▶ Cancelled
//! ```

mod error;
#[cfg(all(test, loom))]
mod loom_tests;
mod wait;

pub use error::ConcurrentError;
pub(super) use error::Failure;
pub use wait::ConcurrentWait;

use super::future::{InvalidStateError, SharedError, Waiters};
use crate::task::{LoopId, call_all, running_loop_id};
#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError};
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

type Callback<T> = Box<dyn FnOnce(&ConcurrentFuture<T>) + Send>;

enum Phase<T> {
    Pending,
    Running,
    Finished(Result<T, Failure>),
    Taken,
    /// With the message.
    Cancelled(Option<Arc<str>>),
}

struct State<T> {
    phase: Phase<T>,
    wakers: Waiters<Waker>,
    callbacks: Vec<Callback<T>>,
}

impl<T> State<T> {
    fn is_done(&self) -> bool {
        !matches!(self.phase, Phase::Pending | Phase::Running)
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    done: Condvar,
    /// The loop that brings it about, on whose thread it is in vain to block.
    of: Option<LoopId>,
}

/// What a job in another thread, or a task of another thread's loop, will give: to be waited for by
/// any thread, blocking ([`result`](Self::result)) or awaiting (`future.await`, on any loop). Clones
/// name the same future; dropping them all cancels nothing. asyncio: `concurrent.futures.Future`, as
/// [`run_coroutine_threadsafe`](super::run_coroutine_threadsafe) returns it.
///
/// # Cancellation
/// [`cancel`](Self::cancel) works until the job has begun. Cancelling a task that awaits the future
/// cancels it, too; dropping a wait does not.
///
/// # Examples
/// ```
/// use ringloop::event_loop::ConcurrentFuture;
///
/// let future = ConcurrentFuture::new();
/// let worker = future.clone();
/// std::thread::spawn(move || {
///     if worker.set_running_or_notify_cancel() {
///         worker.set_result(6 * 7).unwrap();
///     }
/// });
/// assert_eq!(future.result().unwrap(), 42);
/// ```
pub struct ConcurrentFuture<T>(Arc<Shared<T>>);

impl<T> Clone for ConcurrentFuture<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for ConcurrentFuture<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for ConcurrentFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.lock().phase {
            Phase::Pending => "pending",
            Phase::Running => "running",
            Phase::Finished(_) | Phase::Taken => "finished",
            Phase::Cancelled(_) => "cancelled",
        };
        write!(f, "<ConcurrentFuture {state}>")
    }
}

impl<T> ConcurrentFuture<T> {
    /// A pending future, for who runs the job: an executor of your own.
    pub fn new() -> Self {
        Self::of(None)
    }

    /// A pending future that a loop brings about.
    pub(super) fn of(of: Option<LoopId>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                phase: Phase::Pending,
                wakers: Waiters::new(),
                callbacks: Vec::new(),
            }),
            done: Condvar::new(),
            of,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic runs while the lock is held.
        let locked = self.0.state.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is finished or cancelled.
    pub fn done(&self) -> bool {
        self.lock().is_done()
    }

    /// Whether it was cancelled.
    pub fn cancelled(&self) -> bool {
        matches!(self.lock().phase, Phase::Cancelled(_))
    }

    /// Whether the job has begun and not ended: it can not be cancelled any more.
    pub fn running(&self) -> bool {
        matches!(self.lock().phase, Phase::Running)
    }

    /// Cancels it, unless the job has begun. True when it is cancelled now.
    pub fn cancel(&self) -> bool {
        self.end(Phase::Cancelled(None), false).is_ok() || self.cancelled()
    }

    /// The job begins. False: it was cancelled (or begun, or done) and is not to run.
    pub fn set_running_or_notify_cancel(&self) -> bool {
        let mut state = self.lock();
        let begins = matches!(state.phase, Phase::Pending);
        if begins {
            state.phase = Phase::Running;
        }
        begins
    }

    /// The job's value.
    ///
    /// # Errors
    /// [`InvalidStateError::Done`], also when it was cancelled; the value is dropped then.
    pub fn set_result(&self, value: T) -> Result<(), InvalidStateError> {
        self.finish(Ok(value))
    }

    /// The job's error.
    ///
    /// # Errors
    /// [`InvalidStateError::Done`], also when it was cancelled; the error is dropped then.
    pub fn set_exception(
        &self,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Result<(), InvalidStateError> {
        self.finish(Err(Failure::Exception(SharedError::new(error))))
    }

    pub(super) fn finish(&self, outcome: Result<T, Failure>) -> Result<(), InvalidStateError> {
        let ended = self.end(Phase::Finished(outcome), true);
        ended.map_err(|_| InvalidStateError::Done)
    }

    /// As [`cancel`](Self::cancel), also of a job that has begun: who ran it says so.
    pub(super) fn cancel_running(&self, message: Option<Arc<str>>) {
        // Refused where it is done.
        let _ = self.end(Phase::Cancelled(message), true);
    }

    /// Ends it in that phase. Gives the phase back, unused, when it is done, or `Running` and that
    /// is in the way.
    fn end(&self, phase: Phase<T>, running: bool) -> Result<(), Phase<T>> {
        let (wakers, callbacks) = {
            let mut state = self.lock();
            if state.is_done() || (matches!(state.phase, Phase::Running) && !running) {
                return Err(phase);
            }
            state.phase = phase;
            (state.wakers.take(), std::mem::take(&mut state.callbacks))
        };
        self.0.done.notify_all();
        enum Told<T> {
            Waker(Waker),
            Callback(Callback<T>),
        }
        let callbacks = callbacks.into_iter().map(Told::Callback);
        call_all(
            wakers.map(Told::Waker).chain(callbacks),
            |told| match told {
                Told::Waker(waker) => waker.wake(),
                Told::Callback(callback) => callback(self),
            },
        );
        Ok(())
    }

    /// Has `callback` called with the future by the thread that ends it; at once when it is done.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Self) + Send + 'static) {
        let callback: Callback<T> = Box::new(callback);
        {
            let mut state = self.lock();
            if !state.is_done() {
                return state.callbacks.push(callback);
            }
        }
        callback(self);
    }

    /// Blocks this thread until it is done, and takes the value.
    ///
    /// # Errors
    /// [`ConcurrentError`]: how it ended without a value; its value was taken before; pending, and
    /// this is the thread of the loop that would have to bring it about.
    pub fn result(&self) -> Result<T, ConcurrentError> {
        let mut state = self.lock();
        if !state.is_done() && self.is_own_loop() {
            return Err(ConcurrentError::OwnLoop);
        }
        while !state.is_done() {
            let waited = self.0.done.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Self::read(state)
    }

    /// As [`result`](Self::result), and waits no longer than that. It is not cancelled when the time is
    /// over: who gives up calls [`cancel`](Self::cancel). asyncio: `result(timeout)`.
    ///
    /// # Errors
    /// As [`result`](Self::result); [`ConcurrentError::TimedOut`].
    pub fn result_timeout(&self, timeout: Duration) -> Result<T, ConcurrentError> {
        let mut state = self.lock();
        if !state.is_done() && self.is_own_loop() {
            return Err(ConcurrentError::OwnLoop);
        }
        let begun = Instant::now();
        while !state.is_done()
            && let Some(left) = timeout.checked_sub(begun.elapsed())
        {
            let waited = self.0.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Self::read(state)
    }

    fn is_own_loop(&self) -> bool {
        self.0.of.is_some() && self.0.of == running_loop_id()
    }

    /// Takes the value if it is there.
    pub(super) fn read_now(&self) -> Result<T, ConcurrentError> {
        Self::read(self.lock())
    }

    /// Takes the value, or says why there is none.
    fn read(mut state: MutexGuard<'_, State<T>>) -> Result<T, ConcurrentError> {
        match &state.phase {
            Phase::Pending | Phase::Running => return Err(ConcurrentError::TimedOut),
            Phase::Taken => return Err(InvalidStateError::Taken.into()),
            Phase::Cancelled(message) => {
                let message = message.clone();
                drop(state);
                return Err(ConcurrentError::cancelled(message));
            }
            Phase::Finished(_) => {}
        }
        match std::mem::replace(&mut state.phase, Phase::Taken) {
            Phase::Finished(outcome) => outcome.map_err(ConcurrentError::from),
            _ => unreachable!("seen above"),
        }
    }
}

/// The side that brings a future about: dropped without having done so, it leaves it cancelled, so
/// that nobody waits in vain.
pub(super) struct Promise<T>(pub(super) ConcurrentFuture<T>);

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.0.cancel_running(None);
    }
}
