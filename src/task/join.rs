//! Awaiting a task.
//!
//! **Guarantees.** A task that ended is joined without suspension. A request to the awaiter goes
//! to the awaited task at once, and counts as delivered; what the awaiter hears is how the awaited
//! task ended.

use super::cancelled::Cancelled;
use super::handle::Task;
use super::report::panic_message;
use super::slot::TAKEN;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a task ended that gave no output.
pub enum JoinError {
    /// It was cancelled, or the await of it was.
    Cancelled(Cancelled),
    /// It panicked, with this payload; asyncio: it raised an exception.
    Panicked(Box<dyn Any + Send>),
}

impl JoinError {
    /// Whether it was cancelled.
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// Whether it panicked.
    pub const fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Panicked(payload) => f
                .debug_tuple("Panicked")
                .field(&panic_message(&**payload))
                .finish(),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Panicked(payload) => write!(f, "task panicked: {}", panic_message(&**payload)),
        }
    }
}

impl Error for JoinError {}

impl From<Cancelled> for JoinError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Cancelled(cancelled) => cancelled.into(),
            JoinError::Panicked(_) => Self::other(error.to_string()),
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (wait, raw) = this.wait_and_raw();
        if !raw.done() {
            return this.poll_pending(cx);
        }
        if wait.is_registered() || raw.slot().has(TAKEN) {
            return this.poll_done_task();
        }
        Poll::Ready(this.take(None))
    }
}

impl<T> Task<T> {
    #[inline(never)]
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let (wait, raw) = self.wait_and_raw();
        let slot = raw.slot();
        if let Some(current) = wait.suspend_join_plainly(cx, raw.tasks(), slot) {
            assert!(
                !std::ptr::eq(current, slot),
                "Task cannot await on itself: {raw:?}"
            );
            raw.set_joiner(cx.waker());
            return Poll::Pending;
        }
        self.poll_otherwise(cx)
    }

    /// The task has ended, and was awaited before.
    #[inline(never)]
    fn poll_done_task(&mut self) -> Poll<Result<T, JoinError>> {
        let (wait, raw) = self.wait_and_raw();
        let forwarded = wait.finish_join()?;
        assert!(
            !raw.slot().has(TAKEN),
            "the result of {raw:?} was taken already"
        );
        Poll::Ready(self.take(forwarded))
    }

    /// A poll of a pending task that is not the first, or with something special.
    #[inline(never)]
    fn poll_otherwise(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let (wait, raw) = self.wait_and_raw();
        wait.check()?;
        wait.suspend_join(cx, raw.tasks(), raw.slot())?;
        if raw.poll_done(cx).is_pending() {
            return Poll::Pending;
        }
        self.poll_done_task()
    }
}
