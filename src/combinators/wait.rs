//! Waiting for some of several tasks. asyncio: `wait`.

use crate::event_loop::{Sleep, sleep};
use crate::task::{Bare, Cancelled, DoneCallbackId, Ended, RawTask, Wait, WaitsFor, bare};
use std::cell::Cell;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
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
/// For tasks of several types, and for a task that several wait for, wait for references: `&*task` is
/// a [`RawTask`].
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
        callbacks: Vec::new(),
        ends: Rc::new(Ends {
            return_when,
            left: Cell::new(tasks.len()),
            over: Cell::new(false),
            waker: Cell::new(None),
        }),
        timer: timeout.map(|timeout| bare(sleep(timeout))),
        wait: Wait::new(),
    };
    waiting.await?;
    // As of this moment, not of the one that ended the wait.
    Ok(tasks.extract_if(.., |task| task.done()).collect())
}

/// What the done callbacks tell who waits.
struct Ends {
    return_when: ReturnWhen,
    /// How many have not ended.
    left: Cell<usize>,
    over: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Ends {
    fn one_more(&self, ended: Ended) {
        let left = self.left.get() - 1;
        self.left.set(left);
        let enough = match self.return_when {
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => ended == Ended::Panicked,
            ReturnWhen::AllCompleted => false,
        };
        if left == 0 || enough {
            self.over.set(true);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

struct Waiting<'a, H: Deref<Target = RawTask>> {
    tasks: &'a [H],
    /// One for each task, from the first poll on.
    callbacks: Vec<DoneCallbackId>,
    ends: Rc<Ends>,
    timer: Option<Bare<Sleep>>,
    wait: Wait,
}

impl<H: Deref<Target = RawTask>> Waiting<'_, H> {
    fn watch(&mut self) {
        self.callbacks.reserve_exact(self.tasks.len());
        for task in self.tasks {
            task.assert_driven();
            let ends = self.ends.clone();
            let id = task.add_waiting_callback(move |done| ends.one_more(done.ended()));
            self.callbacks.push(id);
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
        if timed_out || this.ends.over.get() {
            this.wait.finish();
            return Poll::Ready(Ok(()));
        }
        if this.callbacks.is_empty() {
            this.watch();
        }
        let old = this.ends.waker.replace(Some(cx.waker().clone()));
        drop(old);
        this.wait.suspend(cx, WaitsFor::Other("tasks"))?;
        Poll::Pending
    }
}

impl<H: Deref<Target = RawTask>> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        for (task, &callback) in self.tasks.iter().zip(&self.callbacks) {
            task.remove_done_callback(callback);
        }
    }
}
