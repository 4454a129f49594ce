//! Awaiting a future.
//!
//! ```text
//!   poll ──done──▶ value, error, Cancelled
//!     │ pending: one more waiter, woken in its turn
//!     └──▶ suspended ──future ends──▶ woken ──▶ poll
//!              │  └─ the task is cancelled ──▶ poll: the future is cancelled
//!              └─ dropped: one waiter less
//! ```

use super::Future;
use super::callbacks::Waiter;
use super::error::FutureError;
use crate::task::{Cancelled, Wait, WaitsFor, running_loop_id};
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

impl<T: 'static> Future<T> {
    /// Waits for the value and clones it: any number of waits, and later ones, get it. A future that
    /// is done answers without suspending. `future.await` and `(&future).await` are this. asyncio:
    /// `await future`.
    ///
    /// # Errors
    /// [`FutureError`]: the error it ended with; cancelled, it or the wait, which cancels it too; its
    /// value was taken; pending, and of another loop than the awaiting task.
    pub fn wait(&self) -> FutureWait<T>
    where
        T: Clone,
    {
        self.wait_and(Self::result)
    }

    /// As [`wait`](Self::wait), for a value that is not to be cloned: it goes to the first that takes
    /// it.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn take(&self) -> FutureWait<T> {
        self.wait_and(Self::take_result)
    }

    fn wait_and(&self, read: fn(&Self) -> Result<T, FutureError>) -> FutureWait<T> {
        FutureWait {
            future: self.clone(),
            wait: Wait::new(),
            key: None,
            read,
        }
    }
}

impl<T: Clone + 'static> IntoFuture for Future<T> {
    type Output = Result<T, FutureError>;
    type IntoFuture = FutureWait<T>;

    fn into_future(self) -> FutureWait<T> {
        self.wait()
    }
}

impl<T: Clone + 'static> IntoFuture for &Future<T> {
    type Output = Result<T, FutureError>;
    type IntoFuture = FutureWait<T>;

    fn into_future(self) -> FutureWait<T> {
        self.wait()
    }
}

/// An await of a [`Future`]; see [`Future::wait`]. Dropping it leaves the future as it is.
#[must_use = "does nothing unless awaited"]
pub struct FutureWait<T: 'static> {
    future: Future<T>,
    wait: Wait,
    /// Its place among those who wait.
    key: Option<u64>,
    read: fn(&Future<T>) -> Result<T, FutureError>,
}

impl<T> FutureWait<T> {
    /// The future it waits for.
    pub fn future(&self) -> &Future<T> {
        &self.future
    }

    /// The future is to wake `cx`. False: it is done.
    fn register(&mut self, cx: &Context<'_>) -> bool {
        let waiters = &self.future.0.waiters;
        if let Some(key) = self.key
            && let Some(Waiter::Waker(waker)) = waiters.borrow_mut().get_mut(key)
            && waker.will_wake(cx.waker())
        {
            return true;
        }
        // May run code of others, which may end the future.
        let waker = cx.waker().clone();
        if self.future.done() {
            return false;
        }
        let mut waiters = waiters.borrow_mut();
        match self.key.and_then(|key| waiters.get_mut(key)) {
            Some(waiter) => {
                let old = std::mem::replace(waiter, Waiter::Waker(waker));
                drop(waiters);
                drop(old);
            }
            None => self.key = Some(waiters.push(Waiter::Waker(waker))),
        }
        true
    }

    fn unregister(&mut self) {
        if let Some(key) = self.key.take() {
            let waiter = self.future.0.waiters.borrow_mut().remove(key);
            drop(waiter);
        }
    }

    fn is_foreign(&self) -> bool {
        match (self.future.get_loop().loop_id(), running_loop_id()) {
            (Some(owner), Some(running)) => owner != running,
            _ => false,
        }
    }

    fn end(&mut self) -> Poll<Result<T, FutureError>> {
        self.wait.finish();
        self.key = None;
        Poll::Ready((self.read)(&self.future))
    }

    /// Who awaits the future was cancelled.
    #[cold]
    fn cancelled(&mut self, cancelled: Cancelled) -> Poll<Result<T, FutureError>> {
        self.unregister();
        self.future.cancel_as(cancelled.message().map(Arc::from));
        Poll::Ready(Err(cancelled.into()))
    }
}

impl<T> std::future::Future for FutureWait<T> {
    type Output = Result<T, FutureError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Err(cancelled) = this.wait.check() {
            return this.cancelled(cancelled);
        }
        if this.future.done() {
            return this.end();
        }
        if this.is_foreign() {
            this.unregister();
            this.wait.finish();
            return Poll::Ready(Err(FutureError::DifferentLoop));
        }
        if !this.register(cx) {
            return this.end();
        }
        match this.wait.suspend(cx, WaitsFor::Other("future")) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => this.cancelled(cancelled),
        }
    }
}

impl<T> Drop for FutureWait<T> {
    fn drop(&mut self) {
        self.unregister();
    }
}

impl<T> fmt::Debug for FutureWait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FutureWait")
            .field(&self.wait.what())
            .finish()
    }
}
