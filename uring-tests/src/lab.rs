//! A loop for one test, and the proof that the test left nothing behind.
//!
//! **Guarantees.** [`lab`] runs a test on a loop of its own, in a thread with a descriptor table of
//! its own, and fails when at the end
//! * an operation is in flight, a receive buffer is lent or was named twice,
//! * a report was made that the test did not take,
//! * something still holds the loop's core (a transport that nobody can reach any more),
//! * a descriptor is open.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::rc::{Rc, Weak};

use ringloop::event_loop::{Core, ExceptionContext, Stats};
use ringloop::transport::DefaultTransports;
use ringloop::{
    AbstractEventLoop, BaseEventLoop, Builder, DriverKind, EventLoopExt, ProtocolKind, RunError,
    Transport, yield_now,
};

/// Iterations without a driver's answer after which what should have ended is said not to end.
const PATIENCE: usize = 100_000;

/// What a test holds of its loop.
#[derive(Clone)]
pub struct Lab {
    /// The loop.
    pub event_loop: Rc<dyn AbstractEventLoop>,
    reports: Rc<RefCell<Vec<ExceptionContext>>>,
}

impl Lab {
    /// A loop that the test drives itself. Its `close` is up to the caller.
    ///
    /// # Panics
    /// When the driver is not to be had.
    pub fn new(builder: &Builder) -> Self {
        Self::on(builder.build().expect("the driver is there"))
    }

    /// As [`Lab::new`], on a driver of the test's own making.
    pub fn with_driver(driver: Box<dyn ringloop::driver::Driver>) -> Self {
        Self::on(Rc::new_cyclic(|me: &Weak<BaseEventLoop>| {
            BaseEventLoop::new(driver, Rc::new(DefaultTransports), me.clone())
        }))
    }

    fn on(event_loop: Rc<dyn AbstractEventLoop>) -> Self {
        // Whatever the environment says.
        event_loop.set_debug(false);
        let reports: Rc<RefCell<Vec<ExceptionContext>>> = Rc::default();
        let kept = reports.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            if !is_slow(&context.message) {
                kept.borrow_mut().push(copy_of(context));
            }
        })));
        Self {
            event_loop,
            reports,
        }
    }

    /// The loop's core.
    ///
    /// # Panics
    /// Never: it is a base loop.
    pub fn core(&self) -> &Rc<Core> {
        self.event_loop.core().expect("a base loop has a core")
    }

    /// What the loop counts.
    pub fn stats(&self) -> Stats {
        self.core().stats()
    }

    /// A transport on a connected socket, after `connection_made`.
    ///
    /// # Panics
    /// When the loop refuses the socket.
    pub async fn transport(
        &self,
        socket: impl Into<OwnedFd>,
        protocol: impl Into<ProtocolKind>,
    ) -> Rc<dyn Transport> {
        let protocol = protocol.into();
        let factory = Rc::new(move || protocol.clone());
        let making = self
            .event_loop
            .connect_accepted_socket_dyn(factory, socket.into());
        making.await.expect("a connected socket").0
    }

    /// Runs `test` until it is done.
    ///
    /// # Panics
    /// With the test's own panic, or when the loop can not run it.
    pub fn run<T: 'static>(&self, test: impl Future<Output = T> + 'static) -> T {
        use ringloop::JoinError::Panicked;
        match self.event_loop.run_until_complete(test) {
            Ok(value) => value,
            Err(RunError::Task(Panicked(payload))) => resume_unwind(payload),
            Err(error) => panic!("the test did not run to its end: {error}"),
        }
    }

    /// Gives way until the kernel was asked twice more what has happened: what was ready before
    /// this was called, and what followed from it at once, has been seen.
    pub async fn settle(&self) {
        for _ in 0..2 {
            let enters = self.stats().driver.enters;
            self.until("the driver is polled", || {
                self.stats().driver.enters > enters
            })
            .await;
            // What that brought runs in the iteration that polled; what it queued, in the next.
            self.turns(2).await;
        }
    }

    /// So many iterations.
    ///
    /// # Panics
    /// When the test is cancelled.
    pub async fn turns(&self, turns: usize) {
        for _ in 0..turns {
            yield_now().await.expect("nobody cancels a test");
        }
    }

    /// Gives way until it is so. Only for what the loop's own thread brings about.
    ///
    /// # Panics
    /// When it does not come about.
    pub async fn until(&self, what: &str, so: impl Fn() -> bool) {
        for _ in 0..PATIENCE {
            if so() {
                return;
            }
            self.turns(1).await;
        }
        panic!("it never came about that {what}: {:#?}", self.stats());
    }

    /// Gives way until nothing is in flight.
    pub async fn idle(&self) {
        self.in_flight(0).await;
    }

    /// Gives way until so many operations are in flight. While a connection is backed up, its send may be
    /// between two: a TCP socket gets room by itself, when an acknowledgement comes late.
    pub async fn in_flight(&self, count: usize) {
        let what = format!("{count} operations are in flight");
        self.until(&what, || self.stats().live_operations == count)
            .await;
    }

    /// The reports made since the last call.
    pub fn reports(&self) -> Vec<ExceptionContext> {
        self.reports.take()
    }

    /// The messages of the reports made since the last call.
    pub fn messages(&self) -> Vec<String> {
        let reports = self.reports();
        reports.into_iter().map(|report| report.message).collect()
    }

    /// Closes the loop and checks that nothing is left of it; see the module.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn close(self) {
        let core = self.core().clone();
        self.event_loop.close().expect("the loop does not run");
        assert_eq!(self.messages(), [""; 0], "reports nobody took");
        let stats = core.stats();
        assert_eq!(stats.live_operations, 0, "operations in flight");
        assert_eq!(stats.leaked_operations, 0, "operations leaked");
        assert_eq!(core.pool().lent(), 0, "receive buffers lent");
        assert_eq!(core.pool().refused(), 0, "receive buffers named twice");
        assert_eq!(stats.driver.stale, 0, "completions for nobody");
        drop(self);
        assert_eq!(Rc::strong_count(&core), 1, "somebody holds the loop");
    }
}

/// Whether this reports a slow callback, as debug mode does: on a loaded machine any is.
pub fn is_slow(message: &str) -> bool {
    message.starts_with("Executing ")
}

/// A report outlives its handler's call only as a copy: its text, and what it is about.
fn copy_of(context: &ExceptionContext) -> ExceptionContext {
    let mut copy = ExceptionContext::new(context.message.clone());
    copy.exception = context
        .exception
        .as_ref()
        .map(|exception| ringloop::event_loop::Exception::Error(exception.to_string().into()));
    copy.future = context.future.clone();
    copy.handle = context.handle.clone();
    copy.transport = context.transport.clone();
    copy.protocol = context.protocol.clone();
    copy.socket = context.socket.clone();
    copy
}

/// Runs `test` as the module says, on a loop with default options.
///
/// # Panics
/// When the test fails, or leaves something behind.
pub fn lab<F: Future<Output = ()> + 'static>(kind: DriverKind, test: impl FnOnce(Lab) -> F + Send) {
    lab_on(move || Lab::new(&Builder::new().driver(kind)), test);
}

/// As [`lab`], on a loop of the test's own making.
///
/// # Panics
/// As [`lab`].
pub fn lab_on<F: Future<Output = ()> + 'static>(
    make: impl FnOnce() -> Lab + Send,
    test: impl FnOnce(Lab) -> F + Send,
) {
    alone(move || {
        let lab = make();
        let body = test(lab.clone());
        let end = lab.clone();
        lab.run(async move {
            body.await;
            // A thread that has told its job's value still holds the loop's waker for a moment, and with
            // that a descriptor.
            let ended = end.event_loop.shutdown_default_executor(None).await;
            ended.expect("its threads end");
            // What the test ended comes to its end by itself.
            end.idle().await;
        });
        lab.close();
    });
}

/// Runs `body` in a thread with a descriptor table of its own, which is empty but for the three
/// standard streams, and must be so again at the end.
///
/// # Panics
/// With the panic of `body`, or when descriptors are left open.
pub fn alone(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            empty_descriptor_table();
            let before = open_fds_here();
            body();
            assert_eq!(open_fds_here(), before, "descriptors left open");
        });
        if let Err(payload) = thread.join() {
            resume_unwind(payload);
        }
    });
}

/// Gives this thread, and threads it will start, a descriptor table without the descriptors of
/// other tests. Nothing of theirs is closed.
fn empty_descriptor_table() {
    const CLOSE_RANGE_UNSHARE: u32 = 2;
    // SAFETY: the descriptors closed are copies in a table that only this thread, which was just
    // started and holds none of them, can see.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_UNSHARE) };
    assert_eq!(done, 0, "close_range: {}", std::io::Error::last_os_error());
}

/// How many descriptors this thread's table holds.
pub fn open_fds_here() -> usize {
    let entries = std::fs::read_dir("/proc/thread-self/fd").expect("/proc is mounted");
    // One of them is the directory being read.
    entries.count() - 1
}

/// The kernel's number of this thread, for [`is_asleep`].
pub fn this_thread() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Whether that thread sleeps in the kernel; of a process, its first one.
///
/// # Errors
/// When there is no such thread.
pub fn is_asleep(thread: i32) -> io::Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{thread}/stat"))?;
    // The name, in parentheses, may hold anything; the state is the word behind it.
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    Ok(rest.trim_start().starts_with('S'))
}

/// Returns when that thread sleeps in the kernel; of a process, its first one.
///
/// # Panics
/// When there is no such thread.
pub fn wait_until_asleep(thread: i32) {
    while !is_asleep(thread).expect("the thread lives") {
        std::thread::yield_now();
    }
}
