//! Waiting for all. asyncio: `gather`.
//!
//! ```text
//!   waiting ──all done, or one failed──▶ noticed ──next step──▶ result
//!      └──cancelled──▶ children cancelled ──all done──▶ Cancelled
//! ```

use super::children::Member;
use super::failure::Failure;
use super::hop::Hop;
use crate::task::{Cancelled, Wait, WaitsFor};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Runs futures side by side and gives all their values, in the order of the arguments.
/// asyncio: `gather`.
///
/// Task handles are waited for as they are; every other future is made a task of the running loop
/// at once. The first failure completes the gathering: an `Err`, a panic, a task that was
/// cancelled. The other tasks run on and fail silently. With
/// [`return_exceptions`](Gather::return_exceptions) failures are values like others. When who
/// awaits it is cancelled, so are all tasks, and the cancellation is returned when they have ended,
/// whatever they made of it.
///
/// Dropping it leaves the tasks alone: they run on.
///
/// # Errors
/// [`Failure`]: what failed first, of those that failed in one iteration the first argument; or
/// the cancellation.
///
/// # Panics
/// When there is a future that is no task, and no running loop. Awaiting it panics when the result
/// of a task it was given was taken elsewhere, and when such a task is pending and belongs to another
/// loop than the running one.
///
/// # Examples
/// ```
/// use ringloop::{Cancelled, gather, sleep};
/// use std::time::Duration;
///
/// # ringloop::run(async {
/// let squares = gather((1..=3).map(|n| async move {
///     sleep(Duration::from_millis(4 - n)).await?;
///     Ok::<_, Cancelled>(n * n)
/// }));
/// assert_eq!(squares.await.unwrap(), [1, 4, 9]);
///
/// let some = gather([Ok(1), Err("no")].map(std::future::ready));
/// let some = some.return_exceptions().await.unwrap();
/// assert_eq!(some[1].as_ref().unwrap_err().error(), Some(&"no"));
/// # }).unwrap();
/// ```
#[track_caller]
pub fn gather<F, T, E>(futures: impl IntoIterator<Item = F>) -> Gather<T, E>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    let members: Vec<_> = futures.into_iter().map(Member::new).collect();
    Gather {
        open: (0..members.len()).collect(),
        results: members.iter().map(|_| None).collect(),
        members,
        failed: None,
        cancelled: None,
        cancel_requested: false,
        registered: None,
        hop: Hop::default(),
        wait: Wait::new(),
    }
}

/// The future of [`gather`].
pub struct Gather<T, E> {
    members: Vec<Member<T, E>>,
    results: Vec<Option<Result<T, Failure<E>>>>,
    /// Those that have not ended, in order.
    open: Vec<usize>,
    /// The first that failed.
    failed: Option<usize>,
    cancelled: Option<Cancelled>,
    cancel_requested: bool,
    /// Whom the open tasks wake when they end.
    registered: Option<Waker>,
    hop: Hop,
    wait: Wait,
}

// Nothing in it is pinned.
impl<T, E> Unpin for Gather<T, E> {}

impl<T: 'static, E: 'static> Gather<T, E> {
    /// Failures become values: the gathering waits for all, and its own error is only a
    /// cancellation.
    pub fn return_exceptions(self) -> GatherAll<T, E> {
        GatherAll { gather: self }
    }

    /// Cancels every task that has not ended; awaiting the gathering then gives a cancellation when
    /// all have. False when all had ended: the result stays. asyncio: `cancel()` of the future.
    ///
    /// # Examples
    /// ```
    /// use ringloop::{Failure, gather, sleep};
    /// use std::time::Duration;
    ///
    /// # ringloop::run(async {
    /// let mut naps = gather([sleep(Duration::from_secs(3600))]);
    /// assert!(naps.cancel());
    /// assert!(matches!(naps.await, Err(Failure::Cancelled(_))));
    /// # }).unwrap();
    /// ```
    pub fn cancel(&mut self) -> bool {
        let mut any = false;
        for &at in &self.open {
            any |= self.members[at].raw().cancel();
        }
        self.cancel_requested |= any;
        any
    }

    /// Collects what has ended.
    fn collect(&mut self) {
        let (members, results, failed) = (&mut self.members, &mut self.results, &mut self.failed);
        self.open.retain(|&at| {
            let Some(result) = members[at].result() else {
                assert!(
                    !members[at].raw().done(),
                    "the result of a task was taken by somebody else"
                );
                return true;
            };
            if result.is_err() && failed.is_none() {
                *failed = Some(at);
            }
            results[at] = Some(result);
            false
        });
    }

    /// Has every open task wake this one: once, as nobody else has their handles.
    fn register(&mut self, cx: &mut Context<'_>) {
        let known = self.registered.as_ref();
        if known.is_some_and(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        self.registered = Some(cx.waker().clone());
        for &at in &self.open {
            let task = self.members[at].raw();
            task.assert_driven();
            // One that ended just now is found in the step that its end has queued.
            let _ = task.poll_done(cx);
        }
    }

    /// Whether it has come to its end: `all` have ended, or one has failed.
    fn poll_end(&mut self, cx: &mut Context<'_>, all: bool) -> Poll<Result<(), Cancelled>> {
        if let Err(cancelled) = self.wait.check() {
            self.cancel();
            self.cancelled.get_or_insert(cancelled);
            self.cancel_requested = true;
        }
        self.collect();
        let all = all || self.cancel_requested;
        let over = self.open.is_empty() || (!all && self.failed.is_some());
        if over && self.hop.poll(cx).is_ready() {
            self.wait.finish();
            return Poll::Ready(if self.cancel_requested {
                Err(self.cancelled.take().unwrap_or_default())
            } else {
                Ok(())
            });
        }
        if !over {
            self.hop.wait();
            self.register(cx);
        }
        if let Err(cancelled) = self.wait.suspend(cx, WaitsFor::Other("gather")) {
            self.cancel();
            self.cancelled.get_or_insert(cancelled);
            self.cancel_requested = true;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T: 'static, E: 'static> Future for Gather<T, E> {
    type Output = Result<Vec<T>, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let end = std::task::ready!(this.poll_end(cx, false));
        if let Err(cancelled) = end {
            return Poll::Ready(Err(Failure::Cancelled(cancelled)));
        }
        let results = std::mem::take(&mut this.results);
        let values = match this.failed {
            Some(failed) => {
                let first = results.into_iter().nth(failed).flatten();
                let first = first.expect("a gathering was polled after it ended");
                first.map(|_| Vec::new()).map_err(|failure| match failure {
                    Failure::Cancelled(cancelled) => Failure::Cancelled(cancelled.raised()),
                    failure => failure,
                })
            }
            None => results.into_iter().flatten().collect(),
        };
        Poll::Ready(values)
    }
}

impl<T, E> Drop for Gather<T, E> {
    fn drop(&mut self) {
        // Who was told of one failure is not told of others.
        if self.failed.is_some() {
            for &at in &self.open {
                self.members[at].raw().forgive();
            }
        }
    }
}

impl<T, E> fmt::Debug for Gather<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("tasks", &self.members.len())
            .field("pending", &self.open.len())
            .finish()
    }
}

/// The future of [`Gather::return_exceptions`].
///
/// # Errors
/// [`Cancelled`], when who awaits it is cancelled, and all tasks have ended.
#[derive(Debug)]
pub struct GatherAll<T, E> {
    gather: Gather<T, E>,
}

impl<T: 'static, E: 'static> GatherAll<T, E> {
    /// As [`Gather::cancel`].
    pub fn cancel(&mut self) -> bool {
        self.gather.cancel()
    }
}

impl<T: 'static, E: 'static> Future for GatherAll<T, E> {
    type Output = Result<Vec<Result<T, Failure<E>>>, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gather = &mut self.get_mut().gather;
        std::task::ready!(gather.poll_end(cx, true))?;
        let results = std::mem::take(&mut gather.results);
        Poll::Ready(Ok(results.into_iter().flatten().collect()))
    }
}
