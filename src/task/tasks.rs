//! `Tasks`: all tasks of one loop.
//!
//! **Guarantees.** Belongs to one thread at a time (it is `!Send`); what other threads may touch is
//! in [`Shared`] and in the loop's entry of the static table. Task bodies may hold the `Rc` of
//! their own `Tasks`, which is a cycle that [`Tasks::close`] ends: the owner must close.

use super::arena::{Arena, Chunks, NONE, Slot};
use super::body::{FutureBody, TaskBody};
use super::call_all::call_all;
use super::context::{Context, Vars};
use super::handle::{RawTask, Task};
use super::host::TaskHost;
use super::id::{LoopId, reserve_task_ids, unpack};
use super::listing::Tracked;
use super::nodes::Nodes;
use super::noted::Names;
use super::report::Report;
use super::running;
use super::running::{AlreadyRunning, Entered};
use super::scope::Scopes;
use super::shared::{Current, Shared};
use super::slot::{BARE, DONE, HANDLE, Header, NAMED, QUIET, SCHEDULED};
use super::table::{self, Entry, Remote, RemoteCall, Sent};
use crate::driver::Unpark;
use crate::ready::{ReadyEntry, ReadyQueue};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

/// Task ids are taken from the process's counter in blocks of this many.
const ID_BLOCK: u64 = 64;

/// How a task is made.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    /// Its name; `None` is "Task-N", N being its id.
    pub name: Option<Arc<str>>,
    /// Its end while pending, when the loop closes, is not reported.
    pub quiet: bool,
    /// The context it runs in, as it is: what the task sets is seen by all who have it. `None`: a
    /// copy of the current one, of its own.
    pub context: Option<Context>,
    /// Its first step runs inside `create_task`, if its loop runs on this thread; see
    /// [`TaskOptions::eager_start`]. `None`: as the task factory says, else no.
    pub eager_start: Option<bool>,
    /// Where it was made; kept in debug mode, for reports and `Debug`.
    pub created: Option<&'static Location<'static>>,
}

impl TaskOptions {
    /// Options with a name.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::default()
        }
    }

    /// The same options, with an eager start or without. An eager task makes its first step inside
    /// `create_task`, as the current task and in its own context: ended there, it was never
    /// scheduled; else it goes on as any other. A loop exit in that step leaves `create_task`. When
    /// the loop does not run on this thread the first step is scheduled as usual.
    pub fn eager_start(mut self, eager: bool) -> Self {
        self.eager_start = Some(eager);
        self
    }

    /// The same options, with a context to run in; see [`TaskOptions::context`].
    pub fn context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// The same options, with or without a report of a task destroyed while pending.
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }
}

/// All tasks of one loop; see the module.
pub struct Tasks {
    pub(super) ready: Rc<ReadyQueue>,
    pub(super) arena: Arena<Header>,
    pub(super) nodes: Nodes,
    pub(super) names: Names,
    pub(super) scopes: Scopes,
    pub(super) shared: Arc<Shared>,
    /// The slot of the current task, as `shared` has its word; of this arena.
    current: Cell<Option<NonNull<Header>>>,
    entry: &'static Entry,
    id: LoopId,
    pub(super) live: Cell<usize>,
    pub(super) closed: Cell<bool>,
    /// Its loop need not be asked for a task without options.
    direct: Cell<bool>,
    next_id: Cell<u64>,
    last_id: Cell<u64>,
    host: Rc<dyn TaskHost>,
    pub(super) tracked: Tracked,
    sent: RefCell<Vec<Sent>>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("loop", &self.id)
            .field("len", &self.len())
            .field("waits", &self.nodes.in_use())
            .field("scopes", &self.scopes.in_use())
            .field("closed", &self.closed.get())
            .finish()
    }
}

impl Tasks {
    /// The tasks of a new loop, which pushes steps to `ready` and is woken through `unpark`; see
    /// [`TaskHost`] for all that a loop does for its tasks.
    ///
    /// # Panics
    /// When [`MAX_LOOPS`](super::MAX_LOOPS) loops exist.
    pub fn new(ready: Rc<ReadyQueue>, unpark: Arc<dyn Unpark>, host: Rc<dyn TaskHost>) -> Rc<Self> {
        let chunks = Chunks::new();
        let (id, entry, shared) = table::claim(unpark, |id| Shared::new(id, chunks.clone()));
        Rc::new(Self {
            ready,
            arena: Arena::new(chunks),
            nodes: Nodes::default(),
            names: Names::default(),
            scopes: Scopes::default(),
            shared,
            current: Cell::new(None),
            entry,
            id,
            live: Cell::new(0),
            closed: Cell::new(false),
            direct: Cell::new(false),
            next_id: Cell::new(0),
            last_id: Cell::new(0),
            host,
            tracked: Tracked::default(),
            sent: RefCell::new(Vec::new()),
        })
    }

    /// The loop.
    #[inline]
    pub fn loop_id(&self) -> LoopId {
        self.id
    }

    #[inline]
    pub(super) fn tag(&self) -> u16 {
        self.id.tag()
    }

    /// How many tasks are pending.
    #[inline]
    pub fn len(&self) -> usize {
        self.live.get()
    }

    /// Whether no task is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes this the loop that runs on this thread, until the guard is dropped: its wakes become
    /// local, and it is what [`running_loop_id`](super::running_loop_id) answers.
    ///
    /// # Errors
    /// [`AlreadyRunning`] when a loop's guard is active on this thread.
    pub fn enter(self: &Rc<Self>) -> Result<Entered, AlreadyRunning> {
        Entered::new(self)
    }

    /// Starts a task whose body writes itself into its slot; its first step is queued.
    /// After [`Tasks::close`] the body is dropped at once and the task is cancelled.
    ///
    /// # Panics
    /// With the loop exit of an eager first step.
    #[inline(never)]
    pub fn spawn(self: &Rc<Self>, body: &mut dyn TaskBody, mut options: TaskOptions) -> RawTask {
        self.spawn_in(body, &mut options)
    }

    /// Starts a task; its first step is queued. Dropping the handle detaches it.
    /// asyncio: `loop.create_task`.
    #[inline]
    pub fn create_task<F>(self: &Rc<Self>, future: F, mut options: TaskOptions) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        let raw = self.spawn_in(&mut FutureBody::new(future), &mut options);
        Task::trust(raw)
    }

    /// As `spawn`; of the options what few have is taken.
    #[inline(always)]
    pub(crate) fn spawn_in<B: TaskBody + ?Sized>(
        self: &Rc<Self>,
        body: &mut B,
        options: &mut TaskOptions,
    ) -> RawTask {
        let slot = self.begin(
            body,
            match &options.context {
                None => Vars::inherit(),
                Some(given) => given.vars(),
            },
        );
        if options.name.is_some() || options.quiet || options.created.is_some() {
            self.describe(slot, options);
        }
        let task = RawTask::new(self.clone(), NonNull::from(slot));
        if options.eager_start == Some(true) || self.closed.get() {
            self.start_specially(slot);
        } else {
            self.queue_new(slot);
        }
        task
    }

    /// A task with its handle; its first step is to be queued.
    #[inline(always)]
    fn begin<B: TaskBody + ?Sized>(&self, body: &mut B, context: Vars) -> &Header {
        let vtable = body.vtable();
        let slot = self.arena.alloc(&vtable.room);
        // SAFETY: the arena gave a place of this layout.
        unsafe { body.write(slot.body()) };
        let id = self.next_task_id();
        slot.begin(self.tag(), id, vtable, SCHEDULED | HANDLE);
        self.live.set(self.live.get() + 1);
        slot.context().set(context);
        slot
    }

    #[inline]
    fn queue_new(&self, slot: &Header) {
        self.ready
            .push(ReadyEntry::task(slot.index(), slot.generation()));
    }

    /// Says whether [`create_task_directly`](super::create_task_directly) need not ask the loop: it runs,
    /// nothing wraps it, and it does nothing else for a new task.
    pub(crate) fn set_direct(&self, direct: bool) {
        self.direct.set(direct && !self.closed.get());
    }

    #[inline]
    pub(super) fn is_direct(&self) -> bool {
        self.direct.get()
    }

    /// As `create_task`, without options.
    #[inline]
    pub(super) fn create_plainly<F: Future + 'static>(
        self: Rc<Self>,
        future: F,
    ) -> Task<F::Output> {
        let slot = self.begin(&mut FutureBody::new(future), Vars::inherit());
        self.queue_new(slot);
        let slot = NonNull::from(slot);
        Task::trust(RawTask::new(self, slot))
    }

    #[cold]
    fn describe(&self, slot: &Header, options: &mut TaskOptions) {
        if let Some(name) = options.name.take() {
            self.name(slot, name);
        }
        if options.quiet {
            slot.set(QUIET);
        }
        if options.created.is_some() {
            slot.cold_or_new().created.set(options.created);
        }
    }

    /// A task that is eager, or made after the close.
    #[cold]
    fn start_specially(self: &Rc<Self>, slot: &Header) {
        if self.closed.get() {
            self.destroy(slot);
        } else if running::is(self) {
            self.step_eagerly(slot);
        } else {
            self.queue_new(slot);
        }
    }

    #[inline]
    fn next_task_id(&self) -> u64 {
        let id = self.next_id.get();
        if id == self.last_id.get() {
            return self.reserve_ids();
        }
        self.next_id.set(id + 1);
        id
    }

    #[cold]
    fn reserve_ids(&self) -> u64 {
        let first = reserve_task_ids(ID_BLOCK);
        self.next_id.set(first + 1);
        self.last_id.set(first + ID_BLOCK);
        first
    }

    pub(super) fn name(&self, slot: &Header, name: Arc<str>) {
        if let Some(id) = slot.id() {
            slot.set(NAMED);
            self.shared.set_name(id, name);
        }
    }

    /// Queues the next step of the task that a waker's word names, once.
    #[inline]
    pub(super) fn schedule(&self, word: u64) {
        let (index, _) = unpack(word);
        if let Some(slot) = self.arena.get(index)
            && slot.word() == word
        {
            self.queue(slot);
        }
    }

    /// Queues the next step of a task, once.
    #[inline]
    pub(super) fn queue(&self, slot: &Header) {
        let flags = slot.flags();
        if flags & (SCHEDULED | DONE) == 0 {
            slot.set_flags(flags | SCHEDULED);
            let (index, generation) = unpack(slot.word());
            self.ready.push(ReadyEntry::task(index, generation));
        }
    }

    /// The slot of the current task, if it is one of this arena.
    #[inline]
    pub(super) fn current_slot(&self) -> Option<&Header> {
        // SAFETY: a slot of this arena, whose memory stays while `self` lives; headers are only
        // borrowed shared.
        let slot = unsafe { self.current.get()?.as_ref() };
        slot.is_live().then_some(slot)
    }

    /// Makes a task of the arena current, as `enter_task` does. False: somebody is current.
    #[inline]
    pub(super) fn enter_slot(&self, slot: &Header) -> bool {
        let entered = self.shared.current.enter(slot.word());
        if entered {
            self.current.set(Some(NonNull::from(slot)));
        }
        entered
    }

    /// Ends what `enter_slot` began. False: another task, or none, is current.
    #[inline]
    pub(super) fn leave_slot(&self, slot: &Header) -> bool {
        let left = self.shared.current.leave(slot.word());
        if left {
            self.current.set(None);
        }
        left
    }

    /// Replaces the current task, of whatever kind. One that has ended is nobody.
    pub(super) fn swap_current(&self, new: Current) -> Current {
        let slot = match &new {
            Current::Arena { index, generation } => self.pending(*index, *generation),
            _ => None,
        };
        self.current.set(slot.map(NonNull::from));
        self.shared.current.swap(match new {
            Current::Arena { .. } if slot.is_none() => Current::Nobody,
            new => new,
        })
    }

    /// The slot of the current task, if waits register with it now.
    #[inline]
    pub(super) fn waiting_slot(&self) -> Option<&Header> {
        self.current_slot()
            .filter(|slot| slot.scope().get() != BARE)
    }

    pub(super) fn host(&self) -> &dyn TaskHost {
        &*self.host
    }

    pub(super) fn report(&self, report: Report) {
        self.host.call_exception_handler(report);
    }

    /// What sends to this loop from other threads.
    pub fn remote(&self) -> Remote {
        Remote { id: self.id }
    }

    /// Whether other threads sent something; may be late.
    #[inline]
    pub(crate) fn has_remote(&self) -> bool {
        self.entry.inbox.is_pending()
    }

    /// Takes in everything that other threads sent, in order: wakes go to the ready queue, each
    /// closure to `call`, in an empty context. One relaxed load when nothing came.
    #[inline]
    pub fn drain_remote(&self, call: impl FnMut(RemoteCall)) {
        if self.has_remote() {
            self.drain_pending(call);
        }
    }

    #[cold]
    fn drain_pending(&self, mut call: impl FnMut(RemoteCall)) {
        let mut sent = self.sent.take();
        self.entry.inbox.take(&mut sent);
        for sent in sent.drain(..) {
            match sent {
                Sent::Wake(word) => self.schedule(word),
                Sent::Call(f) => Vars::NONE.run(|| call(f)),
            }
        }
        self.sent.replace(sent);
    }

    /// To be asked right before parking. True: park, any wake from now on ends it; and call
    /// [`Tasks::finish_sleep`] after. False: something came, do not park.
    pub fn prepare_sleep(&self) -> bool {
        self.entry.inbox.prepare_sleep()
    }

    /// To be called after a park that [`Tasks::prepare_sleep`] allowed.
    pub fn finish_sleep(&self) {
        self.entry.inbox.finish_sleep();
    }

    /// Ends every task: each pending body is dropped with its task current, panics are caught and
    /// reported, and its handle yields `Cancelled`. What other threads sent is dropped, and refused
    /// from now on. Tasks started after this end at once. Needs no thread-local. Idempotent.
    ///
    /// A task destroyed while pending is reported, as asyncio does, unless it is quiet. A task that
    /// is running (close was called from inside it) ends after its step.
    pub fn close(self: &Rc<Self>) {
        self.close_in();
    }

    fn close_in(&self) {
        if self.closed.replace(true) {
            return;
        }
        self.direct.set(false);
        let unheard = self.entry.inbox.close();
        table::silence(self.entry);
        for sent in unheard {
            self.guard_drop(|| drop(sent));
        }
        // Also when the reporter of one leaves.
        call_all(0..self.arena.end(), |index| {
            if let Some(slot) = self.arena.get(index)
                && slot.is_live()
            {
                self.destroy(slot);
            }
        });
    }

    /// Runs a destructor, or the loop's own `call_soon`; its panic is reported.
    pub(super) fn guard_drop(&self, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            self.report(Report::dropping(payload));
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.close_in();
        table::release(self.id);
    }
}

const _: () = assert!(NONE == u32::MAX);
