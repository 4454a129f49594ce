//! Waiting for a task without passing a cancellation on to it. asyncio: `shield`.

use super::hop::Hop;
use crate::task::{JoinError, Task, Wait, WaitsFor};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for a task as awaiting its handle does, except that a cancellation ends the wait alone:
/// the task runs on. asyncio: `shield`. To shield a plain future, make it a task first.
///
/// A task that panics after that is reported to the loop's exception handler. The loop owns its
/// tasks, so nobody needs to keep the handle.
///
/// # Errors
/// [`JoinError`]: how the task ended, or the cancellation of the wait.
///
/// # Panics
/// As awaiting a [`Task`].
///
/// # Examples
/// ```
/// use ringloop::{create_task, shield, sleep, timeout};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// # ringloop::run(async {
/// let saved = Rc::new(Cell::new(false));
/// let save = saved.clone();
/// let task = create_task(async move {
///     sleep(Duration::from_millis(2)).await.unwrap();
///     save.set(true);
/// });
/// let limited = timeout(Duration::ZERO, shield(task)).await;
/// assert!(limited.is_err() && !saved.get());
/// sleep(Duration::from_millis(5)).await.unwrap();
/// assert!(saved.get(), "it ran on");
/// # }).unwrap();
/// ```
pub fn shield<T>(task: Task<T>) -> Shield<T> {
    Shield {
        task,
        hop: Hop::default(),
        wait: Wait::new(),
    }
}

/// The future of [`shield`].
pub struct Shield<T> {
    task: Task<T>,
    hop: Hop,
    wait: Wait,
}

impl<T> Future for Shield<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.wait.check()?;
        this.task.assert_driven();
        if this.task.poll_done(cx).is_ready() {
            if this.hop.poll(cx).is_ready() {
                this.wait.finish();
                let result = this.task.result();
                return Poll::Ready(result.expect("the result of the task was taken already"));
            }
        } else {
            this.hop.wait();
        }
        this.wait.suspend(cx, WaitsFor::Task(this.task.id()))?;
        Poll::Pending
    }
}

impl<T> fmt::Debug for Shield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shield").field(&self.task).finish()
    }
}
