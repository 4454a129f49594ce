//! Handles of tasks: [`RawTask`] and [`Task`] own a task's result, [`LocalTask`] only names a task.
//!
//! **Guarantees.** A task has at most one owning handle. While it exists the slot is not reused, so
//! the result can stand in place until it is taken. Dropping the handle detaches the task. All
//! handles belong to the loop's thread.

use super::body::{FutureBody, TaskBody};
use super::cancelled::Cancelled;
use super::context;
use super::done::Ended;
use super::id::TaskId;
use super::join::JoinError;
use super::registry::TaskRef;
use super::report::panic_message;
use super::running;
use super::slot::{
    ABORT, CALLBACKS, CANCELLED, CANCELLING, DONE, FORGIVEN, HANDLE, Header, NAMED, PANICKED, TAKEN,
};
use super::tasks::Tasks;
use super::wait::{Wait, WaitsFor};
use super::waker::{clone_waker, drop_waker};
use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The owning handle of a task whose output type is not known; see [`Task::from_raw`].
///
/// Dropping it detaches the task, which goes on. If the task panicked, or panics later, and nobody
/// takes that, it is reported as "Task exception was never retrieved".
pub struct RawTask {
    tasks: Rc<Tasks>,
    /// A slot of the arena of `tasks`, marked `HANDLE`.
    slot: NonNull<Header>,
}

impl RawTask {
    #[inline]
    pub(super) fn new(tasks: Rc<Tasks>, slot: NonNull<Header>) -> Self {
        Self { tasks, slot }
    }

    #[inline]
    pub(super) fn slot(&self) -> &Header {
        // SAFETY: a slot of the arena that `tasks` keeps, which never moves; headers are only
        // borrowed shared.
        unsafe { self.slot.as_ref() }
    }

    #[inline]
    pub(super) fn tasks(&self) -> &Rc<Tasks> {
        &self.tasks
    }

    /// A handle that does not own.
    pub fn local(&self) -> LocalTask {
        LocalTask {
            tasks: self.tasks.clone(),
            index: self.slot().index(),
            generation: self.slot().generation(),
            id: self.id(),
        }
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.slot().id().expect("a task has an id")
    }

    /// Asks the task to stop: its pending awaits end with [`Cancelled`]. False when it has ended
    /// already. True does not mean that it will end cancelled: it may catch the cancellation and
    /// go on. asyncio: `Task.cancel()`; a cancel of a task that ended by a panic suppresses the
    /// report of that panic.
    ///
    /// A task whose body returns before any await could hear of the request ends cancelled, and what
    /// the body returned is dropped, be it an `Ok` or an `Err`: to a task an `Err` is a value like any
    /// other. A panic stays a panic, as an exception does in asyncio.
    pub fn cancel(&self) -> bool {
        self.request(None)
    }

    /// As [`RawTask::cancel`], with a message; of several requests not yet delivered the first
    /// one's message counts.
    pub fn cancel_with(&self, message: impl Into<Arc<str>>) -> bool {
        self.request(Some(message.into()))
    }

    fn request(&self, message: Option<Arc<str>>) -> bool {
        let slot = self.slot();
        let pending = self.tasks.cancel(slot, message);
        if !pending {
            slot.set(FORGIVEN);
        }
        pending
    }

    /// How often it was asked to stop, minus [`RawTask::uncancel`]s; survives the task's end.
    /// asyncio: `Task.cancelling()`.
    pub fn cancelling(&self) -> u32 {
        self.tasks.cancelling(self.slot())
    }

    /// Takes one request back and returns how many stay. At 0 a request that was not delivered yet
    /// is withdrawn. asyncio: `Task.uncancel()`.
    pub fn uncancel(&self) -> u32 {
        self.tasks.uncancel(self.slot())
    }

    /// The next step drops the body without polling it; the task ends cancelled. Does nothing to
    /// one that has ended, or that ends in the step going on. asyncio has no counterpart.
    pub fn abort(&self) {
        self.tasks.abort(self.slot());
    }

    /// Whether the task has ended.
    #[inline]
    pub fn done(&self) -> bool {
        self.slot().has(DONE)
    }

    /// Whether it ended cancelled.
    pub fn cancelled(&self) -> bool {
        self.slot().has(CANCELLED)
    }

    /// How it ended; `None` while it is pending.
    pub fn ended(&self) -> Option<Ended> {
        self.done().then(|| Ended::from_flags(self.slot().flags()))
    }

    /// The text of the panic it ended with, if it did; reading it is enough that the panic is not
    /// reported as never retrieved. The payload itself comes with the result. asyncio:
    /// `Task.exception()`, which raises while the task is pending and when it was cancelled: see
    /// [`ended`](Self::ended).
    pub fn exception(&self) -> Option<String> {
        let slot = self.slot();
        if !slot.has(PANICKED) {
            return None;
        }
        slot.set(FORGIVEN);
        let payload = &slot.cold()?.payload;
        let taken = payload.take();
        let text = taken
            .as_deref()
            .map(|payload| panic_message(payload).to_owned());
        payload.set(taken);
        text
    }

    /// The message with which it was cancelled, once it ended so. asyncio: the argument of the
    /// `CancelledError` that `Task.result()` raises.
    pub fn cancel_message(&self) -> Option<String> {
        let cold = self.cancelled().then(|| self.slot().cold()).flatten()?;
        let message = cold.requests.borrow().message()?;
        Some(message.to_string())
    }

    /// The type of its body, while that exists: until it ended. asyncio: `Task.get_coro()`.
    pub fn get_body(&self) -> Option<&'static str> {
        let vtable = self.slot().vtable().filter(|_| !self.done())?;
        Some((vtable.name)())
    }

    /// Where it was made; known in debug mode only.
    pub fn created(&self) -> Option<&'static Location<'static>> {
        self.slot().cold()?.created.get()
    }

    /// Its name: the one it was given, else "Task-N".
    pub fn get_name(&self) -> String {
        self.tasks.get_name(self.slot())
    }

    /// Gives it another name.
    pub fn set_name(&self, name: impl Into<Arc<str>>) {
        self.tasks.name(self.slot(), name.into());
    }

    /// The context it runs in. asyncio: `Task.get_context()`.
    pub fn get_context(&self) -> context::Context {
        context::context_in(self.slot().context())
    }

    /// What it waits for, oldest first; empty when it waits only at foreign futures, or has ended.
    pub fn waits_for(&self) -> Vec<WaitsFor> {
        self.tasks.waits_for(self.slot())
    }

    /// A reference for any thread.
    pub fn as_ref(&self) -> TaskRef {
        self.tasks.task_ref(self.slot()).expect("a task has an id")
    }

    /// Ready when the task has ended; else `cx` is woken when it does. The result stays, and
    /// nothing is cancelled or forwarded: this is for combinators that watch tasks they do not
    /// await. Only the last waker given here or by awaiting the handle is woken.
    pub fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let slot = self.slot();
        if slot.has(DONE) {
            return Poll::Ready(());
        }
        let old = slot.take_joiner();
        let began = old.is_none();
        let new = match old {
            Some(old) if old.will_wake(cx.waker()) => old,
            old => {
                let new = clone_waker(cx.waker());
                if let Some(old) = old {
                    drop_waker(old);
                }
                new
            }
        };
        // The task may have ended while the wakers of others were cloned and dropped.
        if slot.has(DONE) {
            return Poll::Ready(());
        }
        let other = slot.replace_joiner(new);
        self.note_joiner(began);
        drop(other);
        Poll::Pending
    }
}

impl RawTask {
    /// The waker of the awaiting task, which is of this floor.
    #[inline]
    pub(super) fn set_joiner(&self, waker: &Waker) {
        let old = self.slot().replace_joiner(clone_waker(waker));
        self.note_joiner(old.is_none());
        if let Some(old) = old {
            drop_waker(old);
        }
    }

    /// Nobody awaits the pending task any more.
    #[inline(never)]
    fn detach(&self) {
        if let Some(joiner) = self.slot().take_joiner() {
            drop_waker(joiner);
        }
    }

    /// Who awaits is called in its turn among the done callbacks: from its first await on.
    #[inline]
    fn note_joiner(&self, began: bool) {
        let slot = self.slot();
        if began
            && slot.has(CALLBACKS)
            && let Some(cold) = slot.cold()
        {
            cold.callbacks.borrow_mut().note_joiner();
        }
    }
}

impl Drop for RawTask {
    #[inline]
    fn drop(&mut self) {
        let slot = self.slot();
        slot.clear(HANDLE);
        if slot.has(DONE) {
            self.tasks.retire(slot);
        } else {
            self.detach();
        }
    }
}

impl fmt::Debug for RawTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.ended() {
            None if self.slot().has(CANCELLING) => "cancelling",
            None => "pending",
            Some(Ended::Cancelled) => "cancelled",
            Some(Ended::Finished | Ended::Panicked) => "finished",
        };
        write!(f, "<Task {state} name='{}' {}", self.get_name(), self.id())?;
        if let Some(body) = self.slot().vtable().map(|vtable| (vtable.name)()) {
            write!(f, " body={body}")?;
        }
        if self.ended() == Some(Ended::Panicked) {
            f.write_str(" panicked")?;
        }
        let waits_for = self.waits_for();
        if !waits_for.is_empty() {
            write!(f, " wait_for={waits_for:?}")?;
        }
        if let Some(cold) = self.slot().cold() {
            let callbacks = cold.callbacks.borrow().len();
            if callbacks > 0 {
                write!(f, " cb={callbacks}")?;
            }
        }
        if let Some(created) = self.created() {
            write!(f, " created at {created}")?;
        }
        f.write_str(">")
    }
}

/// A task as its creator holds it: a future of its result. asyncio: `Task`.
///
/// Awaiting it gives the output, or [`JoinError`] when the task was cancelled or panicked. Dropping
/// it detaches the task. When the awaiting task is cancelled, the request goes to this task, and
/// the awaiter hears of it when this one has ended: cancelled, or with its output if it refused.
///
/// # Panics
/// Awaiting panics when the result was taken already, when a task awaits itself, and when the task
/// is pending and belongs to another loop than the running one.
pub struct Task<T> {
    raw: RawTask,
    wait: Wait,
    output: PhantomData<fn() -> T>,
}

impl<T: 'static> Task<T> {
    /// The typed handle of a task whose output is `T`.
    ///
    /// # Errors
    /// The handle itself, when the output is of another type.
    pub fn from_raw(raw: RawTask) -> Result<Self, RawTask> {
        let output = raw.slot().vtable().map(|vtable| (vtable.output)());
        if output == Some(TypeId::of::<T>()) {
            Ok(Self::trust(raw))
        } else {
            Err(raw)
        }
    }
}

impl<F: Future + 'static> FutureBody<F> {
    /// The typed handle of the task that was made of this body.
    ///
    /// # Errors
    /// The handle itself, when the task is of a body with another output.
    #[inline]
    pub(crate) fn task(&self, raw: RawTask) -> Result<Task<F::Output>, RawTask> {
        // One table names one type of output.
        let table = raw.slot().vtable();
        if table.is_some_and(|table| std::ptr::eq(table, self.vtable())) {
            Ok(Task::trust(raw))
        } else {
            Task::from_raw(raw)
        }
    }
}

impl<T> Task<T> {
    /// The caller knows that the output is a `T`.
    #[inline]
    pub(super) fn trust(raw: RawTask) -> Self {
        Self {
            raw,
            wait: Wait::new(),
            output: PhantomData,
        }
    }

    /// The handle without its type.
    pub fn into_raw(self) -> RawTask {
        self.raw
    }

    #[inline]
    pub(super) fn wait_and_raw(&mut self) -> (&mut Wait, &RawTask) {
        (&mut self.wait, &self.raw)
    }

    /// Takes the result of a task that has ended, once. asyncio: `Task.result()`, which keeps it.
    ///
    /// # Errors
    /// Inside: [`JoinError`], as awaiting gives it. `None` while the task is pending and after the
    /// result was taken.
    pub fn result(&mut self) -> Option<Result<T, JoinError>> {
        let slot = self.raw.slot();
        (slot.has(DONE) && !slot.has(TAKEN)).then(|| self.take(None))
    }

    /// The task is done and the result was not taken. `forwarded`: the scope of the awaiting task
    /// whose request went to this one.
    #[inline]
    pub(super) fn take(&mut self, forwarded: Option<u32>) -> Result<T, JoinError> {
        let slot = self.raw.slot();
        slot.set(TAKEN);
        if (slot.cold().is_some() || slot.has(CANCELLED))
            && let Some(error) = self.take_error(forwarded)
        {
            return Err(error);
        }
        let mut output: Option<T> = None;
        if let Some(vtable) = slot.vtable()
            && !slot.has(CANCELLED | PANICKED)
        {
            // SAFETY: the task finished, so its output is there: TAKEN was not set before. Nobody else
            // uses it, and the handle keeps the slot; T is the output type (`trust`).
            unsafe { (vtable.take)(slot, (&raw mut output).cast()) };
        }
        Ok(output.expect("a finished task has its output"))
    }

    #[cold]
    fn take_error(&self, forwarded: Option<u32>) -> Option<JoinError> {
        let slot = self.raw.slot();
        if slot.has(CANCELLED) {
            let message = slot
                .cold()
                .and_then(|cold| cold.requests.borrow().message());
            return Some(JoinError::Cancelled(match forwarded {
                Some(scope) => Cancelled::of_scope(scope, message),
                None => Cancelled::unprompted(message),
            }));
        }
        let payload = slot.cold().and_then(|cold| cold.payload.take());
        payload.map(JoinError::Panicked)
    }
}

impl<T> Deref for Task<T> {
    type Target = RawTask;

    #[inline]
    fn deref(&self) -> &RawTask {
        &self.raw
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

/// A task of a loop on this thread, named and not owned. asyncio: what `current_task()` and
/// `all_tasks()` return, on the loop's own thread.
#[derive(Clone)]
pub struct LocalTask {
    tasks: Rc<Tasks>,
    index: u32,
    generation: u32,
    id: TaskId,
}

impl LocalTask {
    fn slot(&self) -> Option<&Header> {
        self.tasks.pending(self.index, self.generation)
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// See [`RawTask::cancel`].
    pub fn cancel(&self) -> bool {
        self.slot()
            .is_some_and(|slot| self.tasks.cancel(slot, None))
    }

    /// See [`RawTask::cancel_with`].
    pub fn cancel_with(&self, message: impl Into<Arc<str>>) -> bool {
        self.slot()
            .is_some_and(|slot| self.tasks.cancel(slot, Some(message.into())))
    }

    /// See [`RawTask::cancelling`]; 0 after the task ended.
    pub fn cancelling(&self) -> u32 {
        self.slot().map_or(0, |slot| self.tasks.cancelling(slot))
    }

    /// See [`RawTask::uncancel`]; 0 after the task ended.
    pub fn uncancel(&self) -> u32 {
        self.slot().map_or(0, |slot| self.tasks.uncancel(slot))
    }

    /// See [`RawTask::abort`].
    pub fn abort(&self) {
        if let Some(slot) = self.slot() {
            self.tasks.abort(slot);
        }
    }

    /// Whether the task has ended.
    pub fn done(&self) -> bool {
        self.slot().is_none()
    }

    /// What it waits for, oldest first; empty when it waits only at foreign futures, or has ended.
    pub fn waits_for(&self) -> Vec<WaitsFor> {
        self.slot()
            .map_or_else(Vec::new, |slot| self.tasks.waits_for(slot))
    }

    /// The context it runs in; an empty one after the task ended. asyncio: `Task.get_context()`.
    pub fn get_context(&self) -> context::Context {
        self.slot().map_or_else(context::Context::new, |slot| {
            context::context_in(slot.context())
        })
    }

    /// A reference for any thread.
    pub fn as_ref(&self) -> TaskRef {
        TaskRef::arena(self.tasks.shared.clone(), self.index, self.id)
    }
}

impl fmt::Debug for LocalTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// The task that runs now on this thread, if it is one of an arena (not of a foreign kind).
/// `None` in plain callbacks and outside a loop. asyncio: `current_task()`.
pub fn current() -> Option<LocalTask> {
    let tasks = running::owned()?;
    let slot = tasks.current_slot()?;
    let (index, generation, id) = (slot.index(), slot.generation(), slot.id()?);
    Some(LocalTask {
        tasks,
        index,
        generation,
        id,
    })
}

impl Tasks {
    /// The task that `task` refers to, while it is pending and one of this loop's arena.
    pub fn local(self: &Rc<Self>, task: &TaskRef) -> Option<LocalTask> {
        let index = task.index_in(&self.shared)?;
        let slot = self.arena.get(index)?;
        (slot.is_live() && slot.id() == Some(task.id())).then(|| LocalTask {
            tasks: self.clone(),
            index,
            generation: slot.generation(),
            id: task.id(),
        })
    }

    fn abort(&self, slot: &Header) {
        if slot.is_live() {
            slot.set(ABORT);
            self.schedule(slot.word());
        }
    }

    fn get_name(&self, slot: &Header) -> String {
        let Some(id) = slot.id() else {
            return String::new();
        };
        slot.has(NAMED)
            .then(|| self.shared.name(id))
            .flatten()
            .map_or_else(|| id.to_string(), |name| name.to_string())
    }
}
