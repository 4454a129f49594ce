//! Awaiting a concurrent future on a loop.

use super::{ConcurrentError, ConcurrentFuture};
use crate::task::{Cancelled, Wait, WaitsFor};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

impl<T> IntoFuture for ConcurrentFuture<T> {
    type Output = Result<T, ConcurrentError>;
    type IntoFuture = ConcurrentWait<T>;

    /// Waits until it is done, and takes the value.
    fn into_future(self) -> ConcurrentWait<T> {
        ConcurrentWait {
            future: self,
            wait: Wait::new(),
            key: None,
        }
    }
}

/// An await of a [`ConcurrentFuture`]. Dropping it leaves the future as it is.
#[must_use = "does nothing unless awaited"]
pub struct ConcurrentWait<T> {
    future: ConcurrentFuture<T>,
    wait: Wait,
    /// Its place among those who wait.
    key: Option<u64>,
}

impl<T> ConcurrentFuture<T> {
    /// Its end is to wake `cx`, in the place that `key` names. False: it is done.
    pub(in crate::event_loop) fn register(&self, key: &mut Option<u64>, cx: &Context<'_>) -> bool {
        // Cloned and dropped outside the lock.
        let mut waker = Some(cx.waker().clone());
        let pending = {
            let mut state = self.lock();
            let pending = !state.is_done();
            if pending {
                match key.and_then(|key| state.wakers.get_mut(key)) {
                    Some(old) => {
                        if let Some(new) = waker.take() {
                            waker = Some(std::mem::replace(old, new));
                        }
                    }
                    None => *key = waker.take().map(|waker| state.wakers.push(waker)),
                }
            }
            pending
        };
        drop(waker);
        pending
    }

    pub(in crate::event_loop) fn unregister(&self, key: &mut Option<u64>) {
        if let Some(key) = key.take() {
            let waker = self.lock().wakers.remove(key);
            drop(waker);
        }
    }
}

impl<T> ConcurrentWait<T> {
    /// Ready when the future is done; its value stays.
    pub(in crate::event_loop) fn poll_done(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cancelled>> {
        if let Err(cancelled) = self.wait.check() {
            return self.cancelled(cancelled);
        }
        if !self.future.register(&mut self.key, cx) {
            self.wait.finish();
            self.key = None;
            return Poll::Ready(Ok(()));
        }
        let what = WaitsFor::Other("a job in another thread");
        match self.wait.suspend(cx, what) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => self.cancelled(cancelled),
        }
    }

    #[cold]
    fn cancelled(&mut self, cancelled: Cancelled) -> Poll<Result<(), Cancelled>> {
        self.future.unregister(&mut self.key);
        self.future.cancel();
        Poll::Ready(Err(cancelled))
    }
}

impl<T> Future for ConcurrentWait<T> {
    type Output = Result<T, ConcurrentError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.poll_done(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(this.future.read_now()),
            Poll::Ready(Err(cancelled)) => Poll::Ready(Err(cancelled.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for ConcurrentWait<T> {
    fn drop(&mut self) {
        self.future.unregister(&mut self.key);
    }
}

impl<T> fmt::Debug for ConcurrentWait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConcurrentWait").field(&self.future).finish()
    }
}
