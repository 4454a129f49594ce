//! Waiting for a task without passing a cancellation on to it. asyncio: `shield`.

use super::hop::Hop;
use crate::event_loop::{ExceptionContext, try_get_running_loop};
use crate::task::{JoinError, RawTask, Task, Wait, WaitsFor};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
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
        task: Some(task),
        cancelled: false,
        hop: Hop::default(),
        wait: Wait::new(),
    }
}

/// The future of [`shield`].
pub struct Shield<T> {
    /// Always there, until the drop.
    task: Option<Task<T>>,
    /// The wait was cancelled.
    cancelled: bool,
    hop: Hop,
    wait: Wait,
}

impl<T> Future for Shield<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let task = this.task.as_mut().expect("there until the drop");
        if let Err(cancelled) = this.wait.check() {
            this.cancelled = true;
            return Poll::Ready(Err(cancelled.into()));
        }
        task.assert_driven();
        if task.poll_done(cx).is_ready() {
            if this.hop.poll(cx).is_ready() {
                this.wait.finish();
                let result = task.result();
                return Poll::Ready(result.expect("the result of the task was taken already"));
            }
        } else {
            this.hop.wait();
        }
        if let Err(cancelled) = this.wait.suspend(cx, WaitsFor::Task(task.id())) {
            this.cancelled = true;
            return Poll::Ready(Err(cancelled.into()));
        }
        Poll::Pending
    }
}

impl<T> Drop for Shield<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take()
            && self.cancelled
            && !task.done()
        {
            report_panic_of(task.into_raw());
        }
    }
}

/// Nobody waits for the task any more, and somebody did.
fn report_panic_of(task: RawTask) {
    // Its own handle, in a callback that goes with its end.
    let task = Rc::new(task);
    let ended = task.clone();
    task.add_done_callback(move |_| {
        let Some(text) = ended.exception() else {
            return;
        };
        if let Ok(event_loop) = try_get_running_loop() {
            let mut context = ExceptionContext::error("panic exception in shielded future", text);
            context.task = Some((*ended).as_ref());
            event_loop.call_exception_handler(context);
        }
    });
}

impl<T> fmt::Debug for Shield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shield").field(&self.task).finish()
    }
}
