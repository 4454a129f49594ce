//! Waiting for some of several tasks. asyncio: `wait`.

use super::hop::Hop;
use crate::event_loop::{Sleep, sleep};
use crate::task::{Bare, Cancelled, Ended, RawTask, Wait, WaitsFor, bare};
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// When [`wait`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWhen {
    /// A task has ended.
    FirstCompleted,
    /// A task has panicked (which is what raising an exception is to a task), or all have ended.
    FirstException,
    /// All have ended.
    AllCompleted,
}

/// Waits for tasks. Those that have ended when it returns are taken out of `tasks` and returned, in
/// their order; the others stay. asyncio: `wait`, which returns both as sets.
///
/// A timeout is no error: it returns what has ended until then, maybe nothing. Tasks are never
/// cancelled, neither by the timeout nor when who waits is cancelled; then all stay in `tasks`.
/// For tasks of several types, wait for references: `&*task` is a [`RawTask`].
///
/// # Errors
/// [`Cancelled`].
///
/// # Panics
/// When there is nothing to wait for, with a timeout outside a running loop, and when a task is
/// pending and belongs to another loop than the running one.
///
/// # Examples
/// ```
/// use ringloop::{ReturnWhen, create_task, sleep, wait};
/// use std::time::Duration;
///
/// # ringloop::run(async {
/// let nap = |millis| create_task(sleep(Duration::from_millis(millis)));
/// let mut tasks = vec![nap(3_600_000), nap(1)];
/// let done = wait(&mut tasks, None, ReturnWhen::FirstCompleted).await.unwrap();
/// assert_eq!((done.len(), tasks.len()), (1, 1));
/// # }).unwrap();
/// ```
pub async fn wait<H: Deref<Target = RawTask>>(
    tasks: &mut Vec<H>,
    timeout: Option<Duration>,
    return_when: ReturnWhen,
) -> Result<Vec<H>, Cancelled> {
    assert!(!tasks.is_empty(), "Set of Tasks/Futures is empty.");
    let waiting = Waiting {
        tasks,
        return_when,
        timer: timeout.map(|timeout| bare(sleep(timeout))),
        begun: false,
        hop: Hop::default(),
        wait: Wait::new(),
    };
    waiting.await?;
    // As of this moment, not of the one that ended the wait.
    Ok(tasks.extract_if(.., |task| task.done()).collect())
}

struct Waiting<'a, H> {
    tasks: &'a [H],
    return_when: ReturnWhen,
    timer: Option<Bare<Sleep>>,
    begun: bool,
    hop: Hop,
    wait: Wait,
}

impl<H: Deref<Target = RawTask>> Waiting<'_, H> {
    fn is_over(&self) -> bool {
        let mut tasks = self.tasks.iter();
        match self.return_when {
            ReturnWhen::FirstCompleted => tasks.any(|task| task.done()),
            ReturnWhen::AllCompleted => tasks.all(|task| task.done()),
            ReturnWhen::FirstException => {
                tasks.any(|task| task.ended() == Some(Ended::Panicked))
                    || self.tasks.iter().all(|task| task.done())
            }
        }
    }
}

impl<H: Deref<Target = RawTask>> Future for Waiting<'_, H> {
    type Output = Result<(), Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.wait.check()?;
        let timed_out = this
            .timer
            .as_mut()
            .is_some_and(|timer| Pin::new(timer).poll(cx).is_ready());
        if timed_out {
            this.timer = None;
            this.wait.finish();
            return Poll::Ready(Ok(()));
        }
        // As done callbacks of asyncio, what has ended already is noticed in the next iteration.
        if this.begun && this.is_over() && this.hop.poll(cx).is_ready() {
            this.wait.finish();
            return Poll::Ready(Ok(()));
        }
        this.hop.wait();
        let first = !std::mem::replace(&mut this.begun, true);
        for task in this.tasks {
            task.assert_driven();
            if task.poll_done(cx).is_ready() && first {
                cx.waker().wake_by_ref();
            }
        }
        this.wait.suspend(cx, WaitsFor::Other("tasks"))?;
        Poll::Pending
    }
}
