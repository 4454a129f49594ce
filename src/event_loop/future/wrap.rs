//! Futures of other kinds as futures of a loop.

use super::Future;
use crate::event_loop::abstract_event_loop::AbstractEventLoop;
use crate::event_loop::concurrent::{ConcurrentError, ConcurrentFuture};
use crate::event_loop::error::LoopError;
use crate::event_loop::running::try_get_running_loop;
use crate::event_loop::threadsafe::make_helper;
use crate::task::Task;
use std::future::{IntoFuture, poll_fn};
use std::sync::Arc;

/// What [`wrap_future`] accepts; open to types of others. One whose [`Wrapped`](Self::Wrapped) is
/// itself is a future of a loop already; asyncio marks those by an attribute (`isfuture`), and takes
/// everything else for one of a pool.
pub trait WrapFuture {
    /// The future of the loop.
    type Wrapped;

    /// As [`wrap_future`], for a loop that is given.
    ///
    /// # Errors
    /// Closed, or the loop has no futures.
    fn wrap_in(self, event_loop: &dyn AbstractEventLoop) -> Result<Self::Wrapped, LoopError>;
}

/// Makes of a future of another kind one of the running loop: a [`Future`] and a [`Task`] are returned
/// as they are, a [`ConcurrentFuture`] is chained to a new [`Future`]. asyncio: `wrap_future`.
///
/// Chained, the one's end becomes the other's: the value goes to the wrapper, an error and a
/// cancellation too, a panic as an error with its message; and cancelling the wrapper cancels a job
/// that has not begun. When the loop is closed first, nothing reaches the wrapper any more.
///
/// # Errors
/// [`LoopError::NoRunningLoop`]; as [`WrapFuture::wrap_in`].
///
/// # Examples
/// ```
/// use ringloop::event_loop::{ConcurrentFuture, wrap_future};
///
/// # ringloop::run(async {
/// let source = ConcurrentFuture::new();
/// let wrapper = wrap_future(source.clone()).unwrap();
/// std::thread::spawn(move || source.set_result("done elsewhere").unwrap());
/// assert_eq!(wrapper.await.unwrap(), "done elsewhere");
/// # }).unwrap();
/// ```
pub fn wrap_future<F: WrapFuture>(future: F) -> Result<F::Wrapped, LoopError> {
    future.wrap_in(&*try_get_running_loop()?)
}

impl<T> WrapFuture for Future<T> {
    type Wrapped = Self;

    fn wrap_in(self, _: &dyn AbstractEventLoop) -> Result<Self, LoopError> {
        Ok(self)
    }
}

impl<T> WrapFuture for Task<T> {
    type Wrapped = Self;

    fn wrap_in(self, _: &dyn AbstractEventLoop) -> Result<Self, LoopError> {
        Ok(self)
    }
}

impl<T: 'static> WrapFuture for ConcurrentFuture<T> {
    type Wrapped = Future<T>;

    fn wrap_in(self, event_loop: &dyn AbstractEventLoop) -> Result<Future<T>, LoopError> {
        let wrapper = Future::new(event_loop.future_loop()?);
        let (source, chained) = (self.clone(), wrapper.clone());
        // What comes from another thread can only reach a task: what it wakes stays on this one.
        let chain = async move {
            let mut wait = self.clone().into_future();
            let ended = match poll_fn(|cx| wait.poll_done(cx)).await {
                // Given up: the value stays where it is.
                Ok(()) if chained.cancelled() => return,
                Ok(()) => self.read_now(),
                Err(cancelled) => Err(cancelled.into()),
            };
            // Refused when somebody else has set the wrapper.
            let _ = match ended {
                Ok(value) => chained.set_result(value),
                Err(ConcurrentError::Cancelled(cancelled)) => {
                    chained.cancel_as(cancelled.message().map(Arc::from));
                    Ok(())
                }
                Err(error) => chained.fail(error.into_shared()),
            };
        };
        make_helper(event_loop, "wrap_future", chain)?;
        wrapper.add_done_callback(move |wrapper| {
            if wrapper.cancelled() {
                source.cancel();
            }
        });
        Ok(wrapper)
    }
}
