//! Tasks in the order in which they end. asyncio: `as_completed`.
//!
//! **Guarantees.** No task is lost: one that ended and was not handed out is handed out by the next
//! wait, also when the wait that was woken for it was cancelled or dropped. A wait that ends without
//! a task does not count as one. Waits are served in the order in which they began.

use super::failure::Failure;
use crate::event_loop::{EventLoopExt, TimeoutError, TimerHandle, get_running_loop};
use crate::task::{Task, Wait, WaitsFor, call_all};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

struct Shared<T> {
    tasks: RefCell<Vec<Option<Task<T>>>>,
    /// Those that have ended and were not handed out.
    done: RefCell<VecDeque<usize>>,
    /// How many waits may still begin.
    left: Cell<usize>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    next_wait: Cell<u64>,
    /// How many tasks have not ended.
    open: Cell<usize>,
    timer: RefCell<Option<TimerHandle>>,
    timed_out: Cell<bool>,
}

impl<T> Shared<T> {
    /// The task has ended.
    fn ended(&self, at: usize) {
        if self.timed_out.get() {
            return;
        }
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0 {
            self.stop_timer();
        }
        self.done.borrow_mut().push_back(at);
        self.wake_next();
    }

    fn time_out(&self) {
        self.timed_out.set(true);
        let waiting = self.waiting.take();
        call_all(waiting, |(_, waker)| waker.wake());
    }

    fn wake_next(&self) {
        let first = self.waiting.borrow_mut().pop_front();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }

    fn stop_timer(&self) {
        let timer = self.timer.take();
        if let Some(timer) = timer {
            timer.cancel();
        }
    }

    /// The next task that has ended.
    fn take(&self) -> Option<Task<T>> {
        let at = self.done.borrow_mut().pop_front()?;
        self.tasks.borrow_mut()[at].take()
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        self.stop_timer();
    }
}

/// Waits for tasks in the order in which they end. asyncio: `as_completed`.
///
/// As an iterator it gives one future for each task; whichever is awaited first gives the result of
/// the task that ended first. With [`next_task`](AsCompleted::next_task) it gives the tasks
/// themselves. Both may be stopped and taken up again, and mixed. When the timeout is over, waits for
/// tasks that have not ended fail; the tasks run on. Dropping it leaves them alone too.
///
/// # Errors
/// The futures give [`Failure`]: how the task ended, the cancellation of the wait, or
/// [`TimeoutError`].
///
/// # Panics
/// With a timeout, outside a running loop. Awaiting panics when another loop runs than that of the
/// tasks that have not ended.
///
/// # Examples
/// ```
/// use ringloop::{as_completed, create_task, sleep};
/// use std::time::Duration;
///
/// # ringloop::run(async {
/// let naps = [200, 1].map(|millis| {
///     create_task(async move { sleep(Duration::from_millis(millis)).await.map(|()| millis) })
/// });
/// let mut order = Vec::new();
/// for next in as_completed(naps, None) {
///     order.push(next.await.unwrap().unwrap());
/// }
/// assert_eq!(order, [1, 200]);
/// # }).unwrap();
/// ```
#[track_caller]
pub fn as_completed<T: 'static>(
    tasks: impl IntoIterator<Item = Task<T>>,
    timeout: Option<Duration>,
) -> AsCompleted<T> {
    let tasks: Vec<_> = tasks.into_iter().map(Some).collect();
    let count = tasks.len();
    let shared = Rc::new(Shared {
        tasks: RefCell::new(tasks),
        done: RefCell::default(),
        left: Cell::new(count),
        waiting: RefCell::default(),
        next_wait: Cell::new(0),
        open: Cell::new(count),
        timer: RefCell::default(),
        timed_out: Cell::new(false),
    });
    if let Some(timeout) = timeout
        && count > 0
    {
        let weak = Rc::downgrade(&shared);
        let timer = get_running_loop().call_later(timeout, move || {
            if let Some(shared) = weak.upgrade() {
                shared.time_out();
            }
        });
        let timer = timer.unwrap_or_else(|error| panic!("{error}"));
        shared.timer.replace(Some(timer));
    }
    for (at, task) in shared.tasks.borrow().iter().flatten().enumerate() {
        let weak = Rc::downgrade(&shared);
        task.add_done_callback(move |_| {
            if let Some(shared) = weak.upgrade() {
                shared.ended(at);
            }
        });
    }
    AsCompleted { shared }
}

/// See [`as_completed`].
pub struct AsCompleted<T> {
    shared: Rc<Shared<T>>,
}

impl<T: 'static> AsCompleted<T> {
    /// Waits for the next task that ends; `None` when all were handed out.
    /// asyncio: `async for`.
    ///
    /// # Errors
    /// Inside: the timeout, or the cancellation of the wait.
    ///
    /// # Examples
    /// ```
    /// use ringloop::{as_completed, create_task};
    ///
    /// # ringloop::run(async {
    /// let task = create_task(async { 1 });
    /// let id = task.id();
    /// let mut tasks = as_completed([task], None);
    /// while let Some(task) = tasks.next_task().await {
    ///     let mut task = task.unwrap();
    ///     assert_eq!(task.id(), id);
    ///     assert_eq!(task.result().unwrap().unwrap(), 1);
    /// }
    /// # }).unwrap();
    /// ```
    pub async fn next_task(&mut self) -> Option<Result<Task<T>, Failure<TimeoutError>>> {
        let next = self.begin()?;
        Some(next.await)
    }

    fn begin(&self) -> Option<NextTask<T>> {
        let left = self.shared.left.get().checked_sub(1)?;
        self.shared.left.set(left);
        Some(NextTask {
            shared: self.shared.clone(),
            id: None,
            over: false,
            wait: Wait::new(),
        })
    }
}

impl<T: 'static> Iterator for AsCompleted<T> {
    type Item = NextCompleted<T>;

    fn next(&mut self) -> Option<NextCompleted<T>> {
        let next = self.begin()?;
        Some(NextCompleted { next })
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("left", &self.shared.left.get())
            .field("pending", &self.shared.open.get())
            .finish()
    }
}

/// One wait for one task.
struct NextTask<T> {
    shared: Rc<Shared<T>>,
    /// The name of its entry among those that wait; while it has one, or was woken.
    id: Option<u64>,
    /// It has given its task or failed for good.
    over: bool,
    wait: Wait,
}

impl<T> NextTask<T> {
    /// Waits no more. One that was woken passes that on.
    fn leave(&mut self) {
        let Some(id) = self.id.take() else { return };
        let entry = {
            let mut waiting = self.shared.waiting.borrow_mut();
            let at = waiting.iter().position(|&(known, _)| known == id);
            at.and_then(|at| waiting.remove(at))
        };
        if entry.is_none() && !self.shared.done.borrow().is_empty() {
            self.shared.wake_next();
        }
        drop(entry);
    }

    fn enter(&mut self, cx: &Context<'_>) {
        let shared = &self.shared;
        let id = *self.id.get_or_insert_with(|| {
            let id = shared.next_wait.get();
            shared.next_wait.set(id + 1);
            id
        });
        let waker = cx.waker().clone();
        let mut waiting = shared.waiting.borrow_mut();
        let old = match waiting.iter_mut().find(|(known, _)| *known == id) {
            Some((_, old)) => std::mem::replace(old, waker),
            None => {
                waiting.push_back((id, waker));
                return;
            }
        };
        drop(waiting);
        drop(old);
    }
}

impl<T> Future for NextTask<T> {
    type Output = Result<Task<T>, Failure<TimeoutError>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Err(cancelled) = this.wait.check() {
            this.leave();
            return Poll::Ready(Err(Failure::Cancelled(cancelled)));
        }
        assert!(!this.over, "a wait was polled after it ended");
        if let Some(task) = this.shared.take() {
            this.over = true;
            this.wait.finish();
            this.leave();
            return Poll::Ready(Ok(task));
        }
        if this.shared.timed_out.get() {
            this.over = true;
            this.wait.finish();
            return Poll::Ready(Err(Failure::Error(TimeoutError)));
        }
        if this.id.is_none() {
            let tasks = this.shared.tasks.borrow();
            tasks.iter().flatten().for_each(|task| task.assert_driven());
        }
        this.enter(cx);
        if let Err(cancelled) = this.wait.suspend(cx, WaitsFor::Other("tasks")) {
            this.leave();
            return Poll::Ready(Err(Failure::Cancelled(cancelled)));
        }
        Poll::Pending
    }
}

impl<T> Drop for NextTask<T> {
    fn drop(&mut self) {
        self.leave();
        if !self.over {
            self.shared.left.set(self.shared.left.get() + 1);
        }
    }
}

/// The result of the next task that ends; see [`as_completed`].
pub struct NextCompleted<T> {
    next: NextTask<T>,
}

impl<T> Future for NextCompleted<T> {
    type Output = Result<T, Failure<TimeoutError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = std::task::ready!(Pin::new(&mut self.next).poll(cx));
        Poll::Ready(task.and_then(|mut task| {
            let result = task.result();
            result
                .expect("the result of the task was taken already")
                .map_err(Failure::from)
        }))
    }
}

impl<T> fmt::Debug for NextCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextCompleted").finish_non_exhaustive()
    }
}
