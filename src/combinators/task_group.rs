//! Task groups: no child outlives the group, no failure is lost. asyncio: `TaskGroup`.
//!
//! **Guarantees.** [`task_group`] returns when its body and all children have ended, whatever
//! happens. A body that is cancelled by its own group alone is stopped through the cancel scope it
//! runs in: other branches of the task, and the task's `cancelling()`, hear nothing of it.
//!
//! ```text
//!            ┌───────────── body ends ────────────┐
//!   active ──┤                                    ▼
//!      │     └─ child fails ─▶ aborting ──▶ waiting for children ──▶ over
//!      │                          ▲          │
//!      └── body fails, cancelled ─┴──────────┘ child fails, or cancelled from outside
//! ```
//!
//! Aborting cancels the children and the body, once. A child's end takes effect one iteration
//! later, as a done callback does in asyncio; `idle` says that no child is left and that this was
//! noticed.
//!
//! **Who may touch it.** Only [`Membership`] counts children. User code (wakers, destructors of
//! errors) runs outside every borrow.

use super::child::{Child, ChildBody};
use super::failure::{ExceptionGroup, Failure, Panic};
use super::group_error::{GroupError, Refused};
use crate::event_loop::{EventLoopExt, ExceptionContext, try_get_running_loop};
use crate::task::{
    Cancelled, Canceller, LocalTask, Scope, TaskOptions, Wait, WaitsFor, call_all,
    cancellations_held, current, current_task, exit_loop, give_back, is_loop_exit,
};
use pin_project_lite::pin_project;
use slab::Slab;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Inner<E> {
    /// The task whose group it is.
    parent: Option<LocalTask>,
    /// `None` while a child is being made.
    children: RefCell<Slab<Option<LocalTask>>>,
    failures: RefCell<Vec<Failure<E>>>,
    /// No child is left, and who waits for that may go on.
    idle: Cell<bool>,
    aborting: Cell<bool>,
    /// The body has ended.
    exiting: Cell<bool>,
    /// The group's future has ended, or was dropped.
    over: Cell<bool>,
    /// A child left the loop.
    left_loop: Cell<bool>,
    /// Stops the body, while it runs.
    body: RefCell<Option<Canceller>>,
    /// Who polls the group.
    waker: Cell<Option<Waker>>,
}

impl<E> Inner<E> {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Something failed, or the group was cancelled: children and body are to stop.
    fn abort(&self) {
        if self.aborting.replace(true) {
            return;
        }
        let children: Vec<LocalTask> = {
            let children = self.children.borrow();
            children
                .iter()
                .filter_map(|(_, task)| task.clone())
                .collect()
        };
        let body = self.body.take();
        let all = children.into_iter().map(Ok).chain(body.map(Err));
        call_all(all, |told| match told {
            Ok(child) => drop(child.cancel()),
            Err(body) => {
                body.cancel(None);
                // Whoever polls a body that cannot be told drops it.
                self.wake();
            }
        });
    }

    fn push(&self, failure: Failure<E>) {
        self.failures.borrow_mut().push(failure);
    }

    /// A failure that nobody waits for any more.
    fn report(&self) {
        let Ok(event_loop) = try_get_running_loop() else {
            return;
        };
        let task = current_task(None).ok().flatten();
        let mut context = ExceptionContext::new(format!(
            "Task {task:?} has errored out but its parent task {:?} is already completed",
            self.parent
        ));
        context.task = task;
        event_loop.call_exception_handler(context);
    }
}

/// The place of one child in its group. Dropped in the last step of the child's task.
pub(super) struct Membership<E: 'static> {
    group: Rc<Inner<E>>,
    key: usize,
    failed: bool,
}

impl<E> Membership<E> {
    fn new(group: &Rc<Inner<E>>) -> Self {
        group.idle.set(false);
        Self {
            group: group.clone(),
            key: group.children.borrow_mut().insert(None),
            failed: false,
        }
    }

    /// The child failed.
    pub(super) fn fail(&mut self, failure: Failure<E>) {
        if self.group.over.get() {
            self.group.report();
            return drop(failure);
        }
        self.failed = true;
        self.group.push(failure);
    }

    /// The child leaves the loop.
    pub(super) fn leave_loop(&mut self) {
        self.failed = true;
        self.group.left_loop.set(true);
    }
}

impl<E> Drop for Membership<E> {
    fn drop(&mut self) {
        let (task, left) = {
            let mut children = self.group.children.borrow_mut();
            (children.remove(self.key), children.len())
        };
        drop(task);
        if (!self.failed && left > 0) || self.group.over.get() {
            return;
        }
        let (group, failed) = (self.group.clone(), self.failed);
        if let Ok(event_loop) = try_get_running_loop() {
            // A loop that is being closed refuses, and drops the group's task too.
            let _ = event_loop.call_soon(move || {
                if failed && !group.over.get() {
                    group.abort();
                }
                if left == 0 && group.children.borrow().is_empty() {
                    group.idle.set(true);
                    group.wake();
                }
            });
        }
    }
}

/// The handle of a group: makes children. Clones name the same group, so children may hold one and
/// make further children. asyncio: `TaskGroup`, inside its `async with`.
pub struct TaskGroup<E: 'static = Cancelled> {
    inner: Rc<Inner<E>>,
}

impl<E> Clone for TaskGroup<E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        let mut text = f.debug_struct("TaskGroup");
        text.field("tasks", &inner.children.borrow().len())
            .field("errors", &inner.failures.borrow().len());
        let state = match () {
            () if inner.over.get() => "finished",
            () if inner.aborting.get() => "cancelling",
            () => "entered",
        };
        text.field("state", &state).finish()
    }
}

impl<E> TaskGroup<E> {
    fn new(parent: Option<LocalTask>, body: Canceller) -> Self {
        let inner = Rc::new(Inner {
            parent,
            children: RefCell::default(),
            failures: RefCell::default(),
            idle: Cell::new(true),
            aborting: Cell::new(false),
            exiting: Cell::new(false),
            over: Cell::new(false),
            left_loop: Cell::new(false),
            body: RefCell::new(Some(body)),
            waker: Cell::default(),
        });
        Self { inner }
    }

    /// Makes a child: a task of the running loop that the group waits for. An `Err` it returns is a
    /// failure of the group, unless the error carries a cancellation of the child. Children of
    /// children may be made too, also while the group waits for the last ones.
    ///
    /// # Errors
    /// [`Refused`]; the future is dropped then.
    ///
    /// # Examples
    /// ```
    /// use ringloop::{Cancelled, TaskGroup, task_group};
    ///
    /// # ringloop::run(async {
    /// let ended = task_group(async |group: TaskGroup<Cancelled>| {
    ///     let inner = group.clone();
    ///     group.create_task(async move {
    ///         inner.create_task(async { Ok(()) })?;
    ///         Ok(())
    ///     })?;
    ///     Ok(())
    /// });
    /// ended.await.unwrap();
    /// # }).unwrap();
    /// ```
    pub fn create_task<T, F>(&self, future: F) -> Result<Child<T, E>, Refused>
    where
        T: 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        self.create_task_with(future, TaskOptions::default())
    }

    /// As [`create_task`](Self::create_task), with a name and the like.
    ///
    /// # Errors
    /// [`Refused`]; the future is dropped then.
    ///
    /// # Examples
    /// ```
    /// use ringloop::task::TaskOptions;
    /// use ringloop::{Cancelled, task_group};
    ///
    /// # ringloop::run(async {
    /// let name = task_group(async |group| {
    ///     let child = group.create_task_with(async { Ok(()) }, TaskOptions::named("reader"))?;
    ///     Ok::<_, Cancelled>(child.get_name())
    /// });
    /// assert_eq!(name.await.unwrap(), "reader");
    /// # }).unwrap();
    /// ```
    pub fn create_task_with<T, F>(
        &self,
        future: F,
        options: TaskOptions,
    ) -> Result<Child<T, E>, Refused>
    where
        T: 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        let inner = &self.inner;
        if inner.over.get() || (inner.exiting.get() && inner.idle.get()) {
            return Err(Refused::Finished);
        }
        if inner.aborting.get() {
            return Err(Refused::ShuttingDown);
        }
        let event_loop = try_get_running_loop().map_err(|_| Refused::LoopClosed)?;
        let membership = Membership::new(inner);
        let key = membership.key;
        let body = ChildBody::new(future, membership);
        let task = event_loop
            .create_task_with(body, options)
            .map_err(|_| Refused::LoopClosed)?;
        if let Some(parent) = &inner.parent {
            parent.will_await(&task);
        }
        // One that ended while it was made is no member any more.
        if !task.done()
            && let Some(place) = inner.children.borrow_mut().get_mut(key)
        {
            *place = Some(task.local());
        }
        Ok(Child::new(task))
    }
}

/// How a body ended.
enum BodyEnd<T, E> {
    Returned(Result<T, E>),
    Panicked(Box<dyn Any + Send>),
    /// It was dropped, because it waited for nothing that could be told.
    Dropped,
}

pin_project! {
    /// Polls the body in the group's scope.
    struct InScope<'a, B, E> {
        scope: &'a Scope,
        group: &'a Inner<E>,
        #[pin]
        body: Option<B>,
    }
}

impl<T, E, B: Future<Output = Result<T, E>>> Future for InScope<'_, B, E> {
    type Output = BodyEnd<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let must_drop =
            || this.scope.must_drop() || (this.scope.is_inert() && this.group.aborting.get());
        if must_drop() {
            this.body.set(None);
            return Poll::Ready(BodyEnd::Dropped);
        }
        let body = this.body.as_mut().as_pin_mut();
        let body = body.expect("a task group was polled after it ended");
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _inside = this.scope.enter(cx);
            body.poll(cx)
        }));
        match polled {
            Ok(Poll::Ready(value)) => Poll::Ready(BodyEnd::Returned(value)),
            Err(payload) => Poll::Ready(BodyEnd::Panicked(payload)),
            Ok(Poll::Pending) if must_drop() => {
                this.body.set(None);
                Poll::Ready(BodyEnd::Dropped)
            }
            Ok(Poll::Pending) => {
                if this.scope.is_inert() {
                    let old = this.group.waker.replace(Some(cx.waker().clone()));
                    drop(old);
                }
                Poll::Pending
            }
        }
    }
}

/// Waits until no child is left, or for one cancellation.
struct Emptied<'a, E> {
    group: &'a Inner<E>,
    wait: Wait,
}

impl<E> Future for Emptied<'_, E> {
    type Output = Result<(), Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.wait.check()?;
        if this.group.idle.get() {
            this.wait.finish();
            return Poll::Ready(Ok(()));
        }
        let old = this.group.waker.replace(Some(cx.waker().clone()));
        drop(old);
        this.wait.suspend(cx, WaitsFor::Other("task group"))?;
        Poll::Pending
    }
}

/// The group's future ends, or is dropped: then the children are told to stop, and go on alone.
struct Exit<'a, E>(&'a Inner<E>);

impl<E> Drop for Exit<'_, E> {
    fn drop(&mut self) {
        let failures = self.0.failures.take();
        self.0.over.set(true);
        self.0.exiting.set(true);
        drop(self.0.waker.take());
        if !self.0.children.borrow().is_empty() {
            self.0.abort();
        }
        drop(failures);
    }
}

/// Runs `body` with a group for child tasks, and returns when the body and all children have ended.
/// asyncio: `async with TaskGroup() as group:`.
///
/// The first failure (a child or the body returns an `Err`, or panics) cancels the body and all
/// children that still run, waits for them, and is then returned with all failures that came
/// meanwhile. A child that is cancelled is no failure. A cancellation from outside, of the task or
/// of a timeout around the group, cancels body and children too; it is returned when they have
/// ended, unless something failed: then the failures are returned, and the cancellation is
/// delivered by the next await after the group.
///
/// The body runs in a cancel scope of its own: when a child fails, only the awaits inside the body
/// end with [`Cancelled`]. So a group can be one branch of a `join!` or a `select!`.
///
/// `E` is the error of the body and of the children; it has to be able to carry a [`Cancelled`].
///
/// # Borrowed data
/// Children are `'static`: they may not borrow from the function that makes the group. A future
/// can be leaked (`mem::forget`), and its destructor, the only place where a group could wait for
/// its children or drop them, would then not run while children go on in the loop with references
/// to a frame that is gone. Share with `Rc`, or borrow freely in the body itself, which may also
/// `join!` futures that borrow.
///
/// # Errors
/// [`GroupError`].
///
/// # Dropped
/// When the future is dropped before it ends, the children are cancelled and clean up by themselves;
/// nobody waits for them, and their failures are reported to the loop's exception handler.
///
/// # Panics
/// Outside a task. When the body or a child leaves the loop ([`exit_loop`]), so does the group
/// once its children have ended.
///
/// # Examples
/// ```
/// use ringloop::{Cancelled, sleep, task_group};
/// use std::time::Duration;
///
/// # ringloop::run(async {
/// let sum = task_group(async |group| {
///     let one = group.create_task(async { Ok(1) })?;
///     let two = group.create_task(async {
///         sleep(Duration::from_millis(1)).await?;
///         Ok(2)
///     })?;
///     Ok::<_, Cancelled>(one.await? + two.await?)
/// });
/// assert_eq!(sum.await.unwrap(), 3);
///
/// // A failure stops the others.
/// let failed = task_group::<(), std::io::Error, _>(async |group| {
///     group.create_task(async { Err::<(), _>(std::io::ErrorKind::NotFound.into()) })?;
///     sleep(Duration::from_secs(3600)).await?;
///     Ok(())
/// });
/// let failed = failed.await.unwrap_err();
/// assert_eq!(failed.failures().unwrap().errors().count(), 1);
/// # }).unwrap();
/// ```
pub async fn task_group<T, E, B>(body: B) -> Result<T, GroupError<E>>
where
    B: AsyncFnOnce(TaskGroup<E>) -> Result<T, E>,
    E: From<Cancelled> + 'static,
{
    let parent = current();
    assert!(
        parent.is_some() || matches!(current_task(None), Ok(Some(_))),
        "TaskGroup cannot determine the parent task"
    );
    let held = cancellations_held();
    let scope = Scope::open();
    let group = TaskGroup::new(parent, scope.canceller());
    let inner = &*group.inner;
    let exit = Exit(inner);
    let ended = InScope {
        scope: &scope,
        group: inner,
        body: Some(body(group.clone())),
    }
    .await;
    inner.exiting.set(true);
    drop(inner.body.take());

    // Whether the body's value carries a cancellation from outside; one that counts for the group's
    // own scope though nobody aborted came out of a scope inside that has closed.
    let carried = scope.cancelled_inside();
    let outside = cancellations_held() > held || (carried && !inner.aborting.get());
    let (mut value, mut failure, mut leaves) = (None, None, None);
    match ended {
        BodyEnd::Dropped => {}
        BodyEnd::Panicked(payload) if is_loop_exit(&*payload) => leaves = Some(payload),
        BodyEnd::Panicked(payload) => failure = Some(Failure::Panicked(Panic::new(payload))),
        BodyEnd::Returned(Err(error)) if !outside && !carried => {
            failure = Some(Failure::Error(error));
        }
        BodyEnd::Returned(returned) => value = Some(returned),
    }
    if outside || failure.is_some() || leaves.is_some() {
        inner.abort();
    }

    let mut cancellations = Vec::new();
    while !inner.idle.get() {
        let wait = Wait::new();
        if let Err(cancelled) = (Emptied { group: inner, wait }).await {
            cancellations.push(cancelled);
            inner.abort();
        }
    }

    let mut failures = inner.failures.take();
    failures.extend(failure);
    drop(exit);
    if let Some(payload) = leaves {
        resume_unwind(payload);
    }
    if inner.left_loop.get() {
        exit_loop(());
    }
    if !failures.is_empty() {
        if outside {
            give_back(value);
        } else {
            drop(value);
        }
        give_back(cancellations);
        return Err(GroupError::Failed(ExceptionGroup::new(failures)));
    }
    // Without a failure nothing dropped the body.
    let value = value.expect("the body returned");
    if outside {
        return value.map_err(GroupError::Cancelled);
    }
    match cancellations.into_iter().next() {
        Some(cancelled) => Err(GroupError::Cancelled(cancelled.into())),
        None => value.map_err(GroupError::Cancelled),
    }
}
