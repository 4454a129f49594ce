//! A loop that is watched.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringloop::driver::{
    Completions, Counters, Driver, DriverKind, Key, Op, OpTable, Park, Pool, Unpark,
};
use ringloop::event_loop::{Core, ExceptionContext, Stats};
use ringloop::task::{LoopExit, LoopId};
use ringloop::transport::DefaultTransports;
use ringloop::{AbstractEventLoop, BaseEventLoop, Builder, EventLoopExt, LoopHandle};

/// What the driver was asked, and the clock it answers with.
#[derive(Default)]
pub struct Seen {
    parks: RefCell<Vec<Park>>,
    /// The time of the clock that is turned by hand.
    clock: Cell<Option<u64>>,
    /// How often the driver began to wait for ever.
    sleeps: Arc<AtomicUsize>,
}

impl Seen {
    /// How the loop parked since the last call.
    pub fn parks(&self) -> Vec<Park> {
        self.parks.take()
    }

    /// Turns the clock.
    ///
    /// # Panics
    /// When it is the real one.
    pub fn advance(&self, nanos: u64) {
        let now = self.clock.get().expect("a clock that is turned by hand");
        self.clock.set(Some(now + nanos));
    }
}

struct Watched {
    inner: Box<dyn Driver>,
    seen: Rc<Seen>,
}

impl Driver for Watched {
    fn kind(&self) -> DriverKind {
        self.inner.kind()
    }

    fn report(&self) -> String {
        self.inner.report()
    }

    unsafe fn submit(&mut self, key: Key, op: &mut Op) {
        // SAFETY: passed on, and no completion is made up.
        unsafe { self.inner.submit(key, op) };
    }

    fn cancel(&mut self, key: Key) {
        self.inner.cancel(key);
    }

    /// By a clock that is turned by hand, a wait brings what is there or lasts to its end at once.
    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
        self.seen.parks.borrow_mut().push(until);
        if let (Some(now), Park::Until(time)) = (self.seen.clock.get(), until) {
            self.inner.park(table, Park::Poll, out)?;
            if out.is_empty() {
                self.seen.clock.set(Some(now.max(time)));
            }
            return Ok(());
        }
        if until == Park::Forever {
            self.seen.sleeps.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.park(table, until, out)
    }

    fn wants_poll(&self) -> bool {
        self.inner.wants_poll()
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.inner.unparker()
    }

    fn now(&self) -> u64 {
        self.seen.clock.get().unwrap_or_else(|| self.inner.now())
    }

    fn pool(&self) -> &Rc<Pool> {
        self.inner.pool()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn shut_down(&mut self, leaked: usize) {
        self.inner.shut_down(leaked);
    }
}

/// One report of the loop, as tests compare it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub message: String,
    pub exception: Option<String>,
    pub handle: Option<String>,
    pub task: Option<String>,
}

impl Told {
    fn of(context: &ExceptionContext) -> Self {
        Self {
            message: context.message.clone(),
            exception: context.exception.as_ref().map(ToString::to_string),
            handle: context.handle.clone(),
            task: context.task.as_ref().map(|task| task.name()),
        }
    }
}

/// A loop that is closed when dropped, and fails the test then if it told what nobody took.
pub struct Watch {
    pub base: Rc<BaseEventLoop>,
    pub seen: Rc<Seen>,
    told: Rc<RefCell<Vec<Told>>>,
}

impl Watch {
    /// A loop on that driver.
    pub fn new(kind: DriverKind) -> Self {
        Self::on(kind, Seen::default())
    }

    /// A loop whose clock stands still at one second, but that waits for timers take no time.
    pub fn by_hand(kind: DriverKind) -> Self {
        let seen = Seen::default();
        seen.clock.set(Some(1_000_000_000));
        Self::on(kind, seen)
    }

    fn on(kind: DriverKind, seen: Seen) -> Self {
        let seen = Rc::new(seen);
        let inner = Builder::new().driver(kind).build_driver();
        let driver = Box::new(Watched {
            inner: inner.expect("the driver is there"),
            seen: seen.clone(),
        });
        let base = Rc::new_cyclic(|me: &Weak<BaseEventLoop>| {
            BaseEventLoop::new(driver, Rc::new(DefaultTransports), me.clone())
        });
        base.set_debug(false);
        let this = Self {
            base,
            seen,
            told: Rc::default(),
        };
        this.listen();
        this
    }

    /// Takes the reports, after a test that set a handler of its own.
    pub fn listen(&self) {
        let told = self.told.clone();
        let handler = move |context: &_| told.borrow_mut().push(Told::of(context));
        self.set_exception_handler(Some(Rc::new(handler)));
    }

    /// What the loop told since the last call.
    pub fn told(&self) -> Vec<Told> {
        self.told.take()
    }

    /// The messages of what the loop told since the last call.
    pub fn messages(&self) -> Vec<String> {
        let told = self.told();
        told.into_iter().map(|told| told.message).collect()
    }

    /// The loop as programs hold it.
    pub fn event_loop(&self) -> Rc<dyn AbstractEventLoop> {
        self.base.clone()
    }

    pub fn core(&self) -> &Rc<Core> {
        self.base.core().expect("a base loop has a core")
    }

    pub fn stats(&self) -> Stats {
        self.core().stats()
    }

    pub fn iterations(&self) -> u64 {
        self.core().iterations()
    }

    pub fn id(&self) -> LoopId {
        self.core().tasks().loop_id()
    }

    pub fn handle(&self) -> LoopHandle {
        self.base.handle().expect("a base loop has a handle")
    }

    /// One iteration, which does not wait.
    pub fn turn(&self) {
        self.stop();
        self.run_forever().expect("the loop runs");
    }

    /// Turns until nothing is ready; for loops that wait for nothing.
    pub fn turns(&self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// Runs until the future is done.
    #[track_caller]
    pub fn run<F: Future + 'static>(&self, future: F) -> F::Output {
        match self.run_until_complete(future) {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// Counts when the loop goes to sleep with only an event to end that; for other threads.
    pub fn sleeps(&self) -> Sleeps {
        Sleeps {
            count: self.seen.sleeps.clone(),
            seen: 0,
        }
    }
}

impl Deref for Watch {
    type Target = dyn AbstractEventLoop;

    fn deref(&self) -> &Self::Target {
        &*self.base
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close().expect("the loop does not run");
            let told = self.told();
            assert!(told.is_empty(), "the loop told: {told:?}");
        }
    }
}

/// See [`Watch::sleeps`].
pub struct Sleeps {
    count: Arc<AtomicUsize>,
    seen: usize,
}

impl Sleeps {
    /// Waits until the loop goes to sleep once more.
    pub fn wait(&mut self) {
        while self.count.load(Ordering::SeqCst) == self.seen {
            std::thread::yield_now();
        }
        self.seen = self.count.load(Ordering::SeqCst);
    }
}

/// What happened, in order.
pub struct Order<T>(Rc<RefCell<Vec<T>>>);

impl<T> Clone for Order<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: 'static> Order<T> {
    pub fn new() -> Self {
        Self(Rc::default())
    }

    /// This happens now.
    pub fn add(&self, what: T) {
        self.0.borrow_mut().push(what);
    }

    /// A callback in which this happens.
    pub fn note(&self, what: T) -> impl FnOnce() + use<T> {
        let this = self.clone();
        move || this.add(what)
    }

    /// What happened since the last call.
    pub fn take(&self) -> Vec<T> {
        self.0.take()
    }
}

/// Adds to an order when it is dropped.
pub struct Dropped<T: Copy + 'static>(pub Order<T>, pub T);

impl<T: Copy + 'static> Drop for Dropped<T> {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

/// The value that left the run through `exit_loop`.
///
/// # Panics
/// When the run returned, or another panic left it.
pub fn exited<T: Any, R>(run: impl FnOnce() -> R) -> T {
    let Err(payload) = catch_unwind(AssertUnwindSafe(run)) else {
        panic!("the run returned");
    };
    let exit = payload.downcast::<LoopExit>().expect("a loop exit");
    *exit.0.downcast().expect("a value of this type")
}

/// The text of a panic that `f` ends with.
///
/// # Panics
/// When it returns.
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it returned"),
        Err(payload) => ringloop::task::panic_message(&*payload).to_owned(),
    }
}
