//! The core: what every part of a loop shares.
//!
//! **Guarantees.** Engine (driver and operations), pool, ready queue, tasks, callbacks and timers of one loop, of
//! one thread. No method holds a borrow while it calls user code (callbacks, wakers, destructors of
//! results), so everything may be called from everywhere.
//!
//! **Who may touch it.** [`BaseEventLoop`](super::BaseEventLoop) drives it; transports and
//! [operations](super::Operation) hold it as `Rc<Core>` and use the public methods. After
//! [`close`](super::AbstractEventLoop::close) submissions complete at once with `ECANCELED`, and so do
//! operations that were in flight: what outlives the loop does nothing.

use super::abstract_event_loop::AbstractEventLoop;
use super::bells::is_bell;
use super::connections::Connections;
use super::error::LoopError;
use super::exception::{Exception, ExceptionContext, Reporter};
use super::handle::HandleOwner;
use super::starting::Starting;
use super::timers::{TimerId, Timers};
use crate::driver::{
    Adopted, Complete, Completion, Completions, Counters, Delivery, Dispatch, Driver, DriverKind,
    Engine, Fd, Gather, Key, Op, Pool, Target,
};
use crate::ready::{ReadyEntry, ReadyQueue};
use crate::task::{
    CallBody, CallKey, CallOnce, Callbacks, Context, LocalTask, PlainBell, Report, TaskHost, Tasks,
};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

/// Something to be done at the end of the iteration, just before the loop parks: transports send
/// what was written to them.
pub trait AtIterationEnd {
    /// Called once for each [`Core::at_iteration_end`].
    fn iteration_ended(self: Rc<Self>);
}

/// Gathers kept for the next send; more are freed.
const SPARE_GATHERS: usize = 256;

/// See the module.
pub struct Core {
    pub(super) ready: Rc<ReadyQueue>,
    pub(super) engine: RefCell<Engine>,
    pub(super) pool: Rc<Pool>,
    pub(super) tasks: Rc<Tasks>,
    pub(super) callbacks: Callbacks,
    pub(super) timers: RefCell<Timers>,
    pub(super) ended: RefCell<Vec<Rc<dyn AtIterationEnd>>>,
    /// Who is added to `ended` once the loop has decided whether to sleep.
    pub(super) watching: RefCell<Vec<Rc<dyn AtIterationEnd>>>,
    pub(super) completions: RefCell<Completions>,
    pub(super) reporter: Reporter,
    pub(super) stopping: Cell<bool>,
    pub(super) closed: Cell<bool>,
    pub(super) debug: Cell<bool>,
    pub(super) iterations: Cell<u64>,
    pub(super) skipped_polls: Cell<u32>,
    /// The driver was given something since the last poll.
    pub(super) submitted: Cell<bool>,
    /// Before the next entries are run there is something to look at, besides what other threads and
    /// the kernel bring.
    pub(super) attention: Cell<bool>,
    pub(super) slow_callback: Cell<u64>,
    /// What the run waits for that ends the program; see `cancel_all`.
    pub(super) awaited: RefCell<Option<Vec<LocalTask>>>,
    pub(super) leaked: Cell<usize>,
    // Boxed, because an operation holds the box: the kernel points into it.
    #[expect(clippy::vec_box)]
    pub(super) gathers: RefCell<Vec<Box<Gather>>>,
    /// Connections that are about to start.
    pub(super) starting: Starting,
    /// The lists of those who are told of the close.
    pub(super) connections: RefCell<Vec<Weak<Connections>>>,
    kind: DriverKind,
    pub(super) poll_every: u32,
    /// A sleep for a timer lasts at least until then.
    pub(super) slack_until: Cell<u64>,
    /// How many ask that waits be tracked, whatever debug mode says.
    tracked: Cell<usize>,
}

impl Core {
    pub(super) fn new(driver: Box<dyn Driver>, outer: Weak<dyn AbstractEventLoop>) -> Rc<Self> {
        let ready = Rc::new(ReadyQueue::new());
        Rc::new_cyclic(|core: &Weak<Self>| {
            let core = core.clone();
            let host = Rc::new(Host { core, outer });
            let tasks = Tasks::new(ready.clone(), driver.unparker(), host);
            Self::of(driver, ready, tasks)
        })
    }

    fn of(driver: Box<dyn Driver>, ready: Rc<ReadyQueue>, tasks: Rc<Tasks>) -> Self {
        Self {
            ready,
            tasks,
            pool: driver.pool().clone(),
            kind: driver.kind(),
            poll_every: driver.poll_every(),
            slack_until: Cell::new(0),
            engine: RefCell::new(Engine::new(driver)),
            callbacks: Callbacks::new(),
            timers: RefCell::default(),
            ended: RefCell::default(),
            watching: RefCell::default(),
            completions: RefCell::default(),
            reporter: Reporter::default(),
            stopping: Cell::new(false),
            closed: Cell::new(false),
            debug: Cell::new(false),
            iterations: Cell::new(0),
            skipped_polls: Cell::new(0),
            submitted: Cell::new(false),
            attention: Cell::new(true),
            slow_callback: Cell::new(super::iteration::SLOW_CALLBACK),
            awaited: RefCell::default(),
            leaked: Cell::new(0),
            gathers: RefCell::default(),
            starting: Starting::default(),
            connections: RefCell::default(),
            tracked: Cell::new(0),
        }
    }

    /// Which driver the loop runs on.
    pub fn driver_kind(&self) -> DriverKind {
        self.kind
    }

    /// What the driver chose at start-up and why.
    pub fn driver_report(&self) -> String {
        self.engine.borrow().driver().report()
    }

    /// The receive pool.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// The tasks of the loop.
    pub fn tasks(&self) -> &Rc<Tasks> {
        &self.tasks
    }

    /// Nanoseconds of the loop's clock.
    pub fn now(&self) -> u64 {
        self.engine.borrow().driver().now()
    }

    /// Whether the loop was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether the loop is in debug mode.
    pub fn is_debug(&self) -> bool {
        self.debug.get()
    }

    pub(super) fn set_debug(&self, debug: bool) {
        self.debug.set(debug);
        self.update_tracking();
    }

    /// Has waits note since when they wait, and groups note their children, as debug mode does; until
    /// [`untrack`](Self::untrack) was called as often.
    pub fn track(&self) {
        self.tracked.set(self.tracked.get() + 1);
        self.update_tracking();
    }

    /// Ends what [`track`](Self::track) began.
    pub fn untrack(&self) {
        self.tracked.set(self.tracked.get().saturating_sub(1));
        self.update_tracking();
    }

    fn update_tracking(&self) {
        let on = self.debug.get() || self.tracked.get() > 0;
        if on != self.tasks.is_tracking() {
            self.tasks.track(on);
            self.attention.set(true);
        }
    }

    /// The names of the operations in flight, one for each.
    pub fn operations(&self) -> Vec<&'static str> {
        self.engine.borrow().names_in_flight()
    }

    /// Iterations so far.
    pub fn iterations(&self) -> u64 {
        self.iterations.get()
    }

    /// # Errors
    /// [`LoopError::Closed`].
    pub(super) fn check_closed(&self) -> Result<(), LoopError> {
        if self.closed.get() {
            Err(LoopError::Closed)
        } else {
            Ok(())
        }
    }

    /// What the loop counts: the driver's totals and how much is held now.
    pub fn stats(&self) -> Stats {
        let engine = self.engine.borrow();
        let driver = engine.driver().counters();
        Stats {
            driver: Counters {
                stale: driver.stale + engine.stale(),
                ..driver
            },
            live_operations: engine.in_flight(),
            buffers: self.pool.size(),
            lent_buffers: self.pool.lent(),
            adopted_orphans: engine.adopted(),
            leaked_operations: self.leaked.get(),
            tasks: self.tasks.len(),
            timers: self.timers.borrow().len(),
            cancelled_timers: self.timers.borrow().cancelled(),
            iterations: self.iterations.get(),
        }
    }

    /// Starts an operation. Its completions go to `target`; after the loop was closed it completes
    /// with `-ECANCELED`.
    #[inline]
    pub fn submit(&self, op: Op, target: Target) -> Key {
        if self.closed.get() {
            return self.refuse(op, target);
        }
        let key = self.engine.borrow_mut().start(op, target);
        self.note_submitted();
        key
    }

    /// The engine was given something to do.
    #[inline]
    fn note_submitted(&self) {
        self.submitted.set(true);
        self.attention.set(true);
    }

    /// Has a callback queued at a time.
    #[inline]
    pub(super) fn push_timer(&self, when: u64, key: CallKey) -> TimerId {
        self.attention.set(true);
        self.timers.borrow_mut().push(when, key)
    }

    /// Has a bell rung at a time.
    #[inline]
    pub(super) fn push_bell(&self, when: u64, bell: PlainBell) -> (CallKey, TimerId) {
        self.attention.set(true);
        self.timers.borrow_mut().push_bell(when, bell)
    }

    /// Starts an [`Op::Send`] as [`submit`](Self::submit) does.
    #[inline(always)]
    pub(crate) fn submit_send(
        &self,
        fd: Fd,
        data: Box<Gather>,
        inline: bool,
        urgent: bool,
        target: Rc<dyn Complete>,
    ) -> Key {
        if self.closed.get() {
            let op = Op::Send {
                fd,
                data,
                inline,
                urgent,
            };
            return self.refuse(op, Target::Callback(target));
        }
        self.note_submitted();
        let mut engine = self.engine.borrow_mut();
        engine.start_send(fd, data, inline, urgent, target)
    }

    /// The loop is closed: a future gets its `-ECANCELED`, a callback hears nothing any more.
    #[cold]
    fn refuse(&self, op: Op, target: Target) -> Key {
        let (key, refused, _unheard) = self.engine.borrow_mut().refuse(op, target);
        self.act(refused);
        key
    }

    /// Asks for the end of an operation; it completes as usual. Stale keys are ignored.
    pub fn cancel(&self, key: Key) {
        let mut engine = self.engine.borrow_mut();
        if engine.is_in_flight(key) && !self.closed.get() {
            engine.cancel(key);
            self.note_submitted();
        }
    }

    /// Nobody waits for this operation any more: cancels it, and lets its orphan rule keep what it
    /// still brings.
    pub fn abandon(&self, key: Key) {
        let orphaned = self.engine.borrow_mut().orphan(key);
        if orphaned.adopt() && !self.closed.get() {
            self.engine.borrow_mut().cancel(key);
            self.note_submitted();
        }
    }

    /// Takes one completion in.
    pub(super) fn dispatch(&self, completion: Completion) {
        let dispatch = self.engine.borrow_mut().dispatch(completion);
        self.act(dispatch);
    }

    /// Does what a completion asks for.
    #[inline(never)]
    pub(super) fn act(&self, dispatch: Dispatch) {
        match dispatch {
            Dispatch::Ready(entry) => self.ready.push(entry),
            Dispatch::Wake(waker) => waker.wake(),
            Dispatch::Drop(adopted) => self.adopt(adopted),
            Dispatch::Nothing => {}
        }
    }

    /// Applies an orphan rule. What is dropped with it is code of others.
    #[cold]
    fn adopt(&self, adopted: Adopted) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| adopted.adopt())) {
            self.report_dropped(payload);
        }
    }

    #[cold]
    fn report_dropped(&self, payload: Box<dyn Any + Send>) {
        self.report(ExceptionContext::panic(
            "panic while dropping what an operation owned",
            payload,
        ));
    }

    /// Reports what the destructors of chunks panicked with that were taken off a gather.
    #[inline(always)]
    pub fn report_panic_of(&self, gather: &mut Gather) {
        if let Some(payload) = gather.take_panic() {
            self.report_dropped(payload);
        }
    }

    /// Runs a ready completion.
    #[inline(always)]
    pub(super) fn complete(&self, entry: ReadyEntry) {
        let data = self.engine.borrow_mut().deliver_data(&entry);
        if let Some((target, claim)) = data {
            let key = Key {
                index: entry.index,
                generation: entry.generation,
            };
            target.received(key, claim.lease(&self.pool));
        } else {
            self.complete_other(entry);
        }
    }

    #[inline(never)]
    fn complete_other(&self, entry: ReadyEntry) {
        let delivery = self.engine.borrow_mut().deliver_other(entry);
        match delivery {
            Delivery::Adopt(adopted) => self.adopt(adopted),
            delivery => delivery.call(),
        }
    }

    /// Has these connections told when the loop is closed.
    pub(super) fn know(&self, connections: &Rc<Connections>) {
        let mut known = self.connections.borrow_mut();
        known.retain(|connections| connections.strong_count() > 0);
        known.push(Rc::downgrade(connections));
    }

    /// Has `end` called at the end of this iteration, before the loop parks. Asked for at the end of
    /// an iteration, it means the next one, and the loop does not sleep in between. Dropped when the
    /// loop is closed.
    #[inline(always)]
    pub fn at_iteration_end(&self, end: Rc<dyn AtIterationEnd>) {
        if !self.closed.get() {
            self.ended.borrow_mut().push(end);
            self.attention.set(true);
        }
    }

    /// Has `end` called at the end of the next iteration; until then the loop may sleep.
    pub(super) fn at_next_iteration_end(&self, end: Rc<dyn AtIterationEnd>) {
        if !self.closed.get() {
            self.watching.borrow_mut().push(end);
            self.attention.set(true);
        }
    }

    /// Queues a callback as `call_soon` does, without a handle. Dropped when the loop is closed.
    #[track_caller]
    pub fn defer(&self, callback: impl FnOnce() + 'static) {
        if !self.closed.get() {
            self.schedule(&mut CallOnce::new(callback));
        }
    }

    /// Puts a callback into its arena and the ready queue, behind what other threads sent before.
    pub(super) fn schedule(&self, body: &mut dyn CallBody) -> CallKey {
        self.take_remote();
        self.enqueue(body)
    }

    /// Puts a callback into its arena and the ready queue.
    pub(super) fn enqueue(&self, body: &mut dyn CallBody) -> CallKey {
        let key = self.callbacks.insert(body);
        self.ready
            .push(ReadyEntry::callback(key.index, key.generation));
        key
    }

    /// Reports to the exception handler.
    pub fn report(&self, context: ExceptionContext) {
        self.reporter.call(context);
    }

    /// An empty gather, warm if there is one.
    #[inline(always)]
    pub fn take_gather(&self) -> Box<Gather> {
        self.gathers.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a gather back. When the destructor of what is in it panics, that is reported.
    #[inline(always)]
    pub fn give_gather(&self, mut gather: Box<Gather>) {
        gather.clear();
        self.report_panic_of(&mut gather);
        let mut gathers = self.gathers.borrow_mut();
        if gathers.len() < SPARE_GATHERS {
            gathers.push(gather);
        }
    }
}

/// The loop as its tasks see it: callbacks go through the outermost loop.
struct Host {
    core: Weak<Core>,
    outer: Weak<dyn AbstractEventLoop>,
}

impl TaskHost for Host {
    fn call_soon(&self, callback: &mut dyn CallBody) {
        if let Some(outer) = self.outer.upgrade() {
            // Refused by a closed loop, which drops what is queued too.
            let _ = outer.call_soon_dyn(callback);
        }
    }

    fn call_exception_handler(&self, report: Report) {
        if let Some(core) = self.core.upgrade() {
            let mut context = ExceptionContext::new(report.message);
            context.exception = report.payload.map(Exception::Panic);
            context.task = report.task;
            context.created = report.created;
            core.report(context);
        }
    }
}

impl HandleOwner for Core {
    fn cancel_callback(&self, key: CallKey, timer: Option<TimerId>) {
        if is_bell(key) {
            let mut timers = self.timers.borrow_mut();
            if let Some(timer) = timer
                && timers.take_bell(key).is_some()
            {
                timers.note_cancelled(timer);
            }
        } else {
            if let Some(timer) = timer
                && self.callbacks.is_waiting(key)
            {
                self.timers.borrow_mut().note_cancelled(timer);
            }
            // Last, for what it captured is dropped: code of others.
            self.callbacks.cancel(key);
        }
    }

    fn discard_timer(&self, key: CallKey, timer: TimerId) {
        if is_bell(key) {
            let mut timers = self.timers.borrow_mut();
            if timers.take_bell(key).is_some() {
                timers.discard(timer);
            }
        } else {
            if self.callbacks.is_waiting(key) {
                self.timers.borrow_mut().discard(timer);
            }
            self.callbacks.cancel(key);
        }
    }

    fn is_callback_waiting(&self, key: CallKey) -> bool {
        if is_bell(key) {
            self.timers.borrow().is_bell_waiting(key)
        } else {
            self.callbacks.is_waiting(key)
        }
    }

    fn callback_context(&self, key: CallKey) -> Option<Context> {
        self.callbacks.context(key)
    }

    fn is_debug(&self) -> bool {
        self.debug.get()
    }
}

/// What a loop counts; see [`Core::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The driver's running totals.
    pub driver: Counters,
    /// Operations in flight now.
    pub live_operations: usize,
    /// Receive buffers that exist now.
    pub buffers: usize,
    /// Receive buffers lent now.
    pub lent_buffers: usize,
    /// Results that came for nobody and were kept or closed by their orphan rule.
    pub adopted_orphans: u64,
    /// Operations the kernel did not give back when the loop was closed.
    pub leaked_operations: usize,
    /// Live tasks.
    pub tasks: usize,
    /// Timers in the heap, cancelled ones included.
    pub timers: usize,
    /// Those of them that were cancelled.
    pub cancelled_timers: usize,
    /// Iterations of the loop.
    pub iterations: u64,
}
