//! One child of a group: its body, which tells the group how it ended, and its handle.

use super::failure::{Failure, Panic};
use super::task_group::Membership;
use crate::task::{Cancelled, JoinError, RawTask, Task, cancellations_held, is_loop_exit};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What a child's task gives: its value; or its error, when that carries the task's cancellation;
/// or nothing, when the failure went to the group.
pub(super) type Ended<T, E> = Result<T, Option<E>>;

pin_project! {
    /// The body of a child's task. It is dropped in the task's last step, whatever ends that, and
    /// with it the membership.
    pub(super) struct ChildBody<F, E>
    where
        E: 'static,
    {
        #[pin]
        future: F,
        membership: Membership<E>,
    }
}

impl<F, E: 'static> ChildBody<F, E> {
    pub(super) fn new(future: F, membership: Membership<E>) -> Self {
        Self { future, membership }
    }
}

impl<T, E: 'static, F: Future<Output = Result<T, E>>> Future for ChildBody<F, E> {
    type Output = Ended<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let failure = match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(polled) => match ready!(polled) {
                Ok(value) => return Poll::Ready(Ok(value)),
                // The task will see the same and end cancelled.
                Err(error) if cancellations_held() > 0 => return Poll::Ready(Err(Some(error))),
                Err(error) => Failure::Error(error),
            },
            Err(payload) if is_loop_exit(&*payload) => {
                this.membership.leave_loop();
                resume_unwind(payload);
            }
            Err(payload) => Failure::Panicked(Panic::new(payload)),
        };
        this.membership.fail(failure);
        Poll::Ready(Err(None))
    }
}

/// The handle of a child: a future of its value, and through [`Deref`] its task's handle.
///
/// Awaiting it gives [`Cancelled`] when the child was cancelled, and when it failed: its error is
/// then one of the group's. Dropping it changes nothing: the group waits for the child. As with a
/// [`Task`], cancelling who awaits it cancels the child.
///
/// # Panics
/// As awaiting a [`Task`] does.
///
/// # Examples
/// ```
/// use ringloop::{Cancelled, task_group};
///
/// # ringloop::run(async {
/// let child = task_group(async |group| {
///     let child = group.create_task(async { Ok(7) })?;
///     Ok::<_, Cancelled>(child)
/// });
/// // The group has ended, and so has the child.
/// let mut child = child.await.unwrap();
/// assert_eq!(child.result().unwrap().unwrap(), 7);
/// # }).unwrap();
/// ```
pub struct Child<T, E = Cancelled> {
    task: Task<Ended<T, E>>,
}

impl<T, E> Child<T, E> {
    pub(super) fn new(task: Task<Ended<T, E>>) -> Self {
        Self { task }
    }

    /// Takes the value of a child that has ended, once; `None` before, and after it was taken.
    /// asyncio: `Task.result()`.
    ///
    /// # Errors
    /// Inside: as awaiting gives it.
    pub fn result(&mut self) -> Option<Result<T, Cancelled>> {
        self.task.result().map(value)
    }
}

/// What who awaits a child gets.
fn value<T, E>(ended: Result<Ended<T, E>, JoinError>) -> Result<T, Cancelled> {
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Cancelled::with_message(
            "the child failed; its error is the group's",
        )),
        Err(JoinError::Cancelled(cancelled)) => Err(cancelled),
        // What leaves the loop was caught nowhere; all else went to the group.
        Err(JoinError::Panicked(payload)) => resume_unwind(payload),
    }
}

impl<T, E> Future for Child<T, E> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx).map(value)
    }
}

impl<T, E> Deref for Child<T, E> {
    type Target = RawTask;

    fn deref(&self) -> &RawTask {
        &self.task
    }
}

impl<T, E> fmt::Debug for Child<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}
