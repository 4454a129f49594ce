//! A loop that is watched: its reports, and what its driver is asked. Its clock may be turned by hand.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringloop::driver::{Completions, Driver, DriverKind, OpTable, Park};
use ringloop::event_loop::{Core, ExceptionContext, Stats};
use ringloop::task::LoopId;
use ringloop::transport::DefaultTransports;
use ringloop::{AbstractEventLoop, BaseEventLoop, Builder, EventLoopExt, LoopHandle};

use crate::forward_driver;
use crate::tasks::HOUR;

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
    forward_driver!(inner: submit cancel wants_poll);

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

    fn now(&self) -> u64 {
        self.seen.clock.get().unwrap_or_else(|| self.inner.now())
    }
}

/// One report of the loop, as tests compare it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What it says.
    pub message: String,
    /// The text of its error.
    pub exception: Option<String>,
    /// The handle it is about.
    pub handle: Option<String>,
    /// The name of the task it is about.
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
    /// The loop.
    pub base: Rc<BaseEventLoop>,
    /// What its driver sees.
    pub seen: Rc<Seen>,
    told: Rc<RefCell<Vec<Told>>>,
}

impl Watch {
    /// A loop on that driver, to which no callback is slow: on a loaded machine any is.
    ///
    /// # Panics
    /// When the driver is not to be had.
    pub fn new(kind: DriverKind) -> Self {
        let this = Self::on(kind, Seen::default());
        this.base.set_slow_callback_duration(HOUR);
        this
    }

    /// A loop whose clock stands still at one second, but that waits for timers take no time.
    ///
    /// # Panics
    /// When the driver is not to be had.
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

    /// Its core.
    pub fn core(&self) -> &Rc<Core> {
        self.base.core().expect("a base loop has a core")
    }

    /// What it holds.
    pub fn stats(&self) -> Stats {
        self.core().stats()
    }

    /// How many iterations it made.
    pub fn iterations(&self) -> u64 {
        self.core().iterations()
    }

    /// Its id.
    pub fn id(&self) -> LoopId {
        self.core().tasks().loop_id()
    }

    /// For other threads.
    pub fn handle(&self) -> LoopHandle {
        self.base.handle().expect("a base loop has a handle")
    }

    /// One iteration, which does not wait.
    ///
    /// # Panics
    /// When the loop is closed.
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
    ///
    /// # Panics
    /// With what ends the run otherwise.
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
