//! `Runner`: several runs on one loop. asyncio: `Runner`.
//!
//! ```text
//!         get_loop, run             close, drop
//!   New ────────────────▶ Open ─────────────────▶ Closed
//!    └──────────────────── close ──────────────────▲
//! ```
//!
//! **Guarantees.** The loop is made once, at its first use, and closed once. Closing cancels what is
//! left, waits for it, and ends the loop's threads; it never touches a loop that runs.

use super::builder::Builder;
use super::interrupt::Interrupts;
use crate::event_loop::{
    AbstractEventLoop, EventLoopExt, ExceptionContext, LoopError, MainTask, RunError,
    try_get_running_loop,
};
use crate::task::{Context, JoinError, TaskOptions, copy_context};
use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

/// How long [`Runner::close`] waits for jobs in the loop's threads; then it reports them and leaves
/// them behind. asyncio's `THREAD_JOIN_TIMEOUT`.
pub const EXECUTOR_DEADLINE: Duration = Duration::from_secs(300);

type LoopFactory = Box<dyn Fn() -> io::Result<Rc<dyn AbstractEventLoop>>>;

/// Runs several futures, one after the other, on one loop, which it makes at its first use and closes
/// at its end. asyncio: `Runner`. For a single future there is [`run`](crate::run).
///
/// # SIGINT
/// In the main thread, while SIGINT has its default action and a future runs,
///
/// * the first SIGINT cancels the future's task, as soon as the loop asks the kernel for news. If that ends cancelled, and nobody else had asked it
///   to stop, the run ends with [`RunError::Interrupted`]. A task that catches the cancellation may
///   clean up and give its value.
/// * the second one takes the default action: the process ends, also while the task computes and gives
///   no way. So does one that the task does not hear of, because it has just ended.
///
/// In other threads, where the program has a handler of its own or ignores SIGINT, where no descriptor
/// is left, and with loops that are not built on [`BaseEventLoop`](crate::BaseEventLoop), SIGINT means
/// what it meant before. While the runner closes its loop, it has its default action again.
///
/// # Examples
/// ```
/// use ringloop::{DriverKind, Runner};
///
/// let runner = Runner::new()
///     .debug(true)
///     .loop_factory(|| ringloop::Builder::new().driver(DriverKind::Epoll).build());
/// let first = runner.run(async { ringloop::get_running_loop().time() }).unwrap();
/// let second = runner.run(async { ringloop::get_running_loop().time() }).unwrap();
/// assert!(first <= second);
/// runner.close().unwrap();
/// assert!(runner.run(async {}).is_err());
/// ```
#[derive(Default)]
pub struct Runner {
    debug: Option<bool>,
    factory: Option<LoopFactory>,
    state: RefCell<State>,
    /// Of all runs; copied from the one of the first.
    context: OnceCell<Context>,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Open(Rc<dyn AbstractEventLoop>),
    Closed,
}

/// The runner was closed. asyncio raises `RuntimeError` with the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerClosed;

impl fmt::Display for RunnerClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runner is closed")
    }
}

impl std::error::Error for RunnerClosed {}

impl Runner {
    /// A runner of a loop that [`Builder`] makes by its defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A runner of this loop.
    pub(super) fn of(event_loop: Rc<dyn AbstractEventLoop>) -> Self {
        let this = Self::new();
        *this.state.borrow_mut() = State::Open(event_loop);
        this
    }

    /// Switches debug mode of the loop on or off; else it stays as the loop has it.
    #[must_use]
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = Some(debug);
        self
    }

    /// Who makes the loop. Called once, at the first use.
    #[must_use]
    pub fn loop_factory(
        mut self,
        factory: impl Fn() -> io::Result<Rc<dyn AbstractEventLoop>> + 'static,
    ) -> Self {
        self.factory = Some(Box::new(factory));
        self
    }

    /// The loop, made now if it is not there yet.
    ///
    /// # Errors
    /// [`RunnerClosed`], else why the loop could not be made.
    pub fn get_loop(&self) -> io::Result<Rc<dyn AbstractEventLoop>> {
        match &*self.state.borrow() {
            State::Open(event_loop) => return Ok(event_loop.clone()),
            State::Closed => return Err(io::Error::other(RunnerClosed)),
            State::New => {}
        }
        let event_loop = match &self.factory {
            Some(factory) => factory()?,
            None => Builder::new().build()?,
        };
        if let Some(debug) = self.debug {
            event_loop.set_debug(debug);
        }
        *self.state.borrow_mut() = State::Open(event_loop.clone());
        Ok(event_loop)
    }

    /// Runs `main` until it is done. Other tasks are left where they are, for the next run.
    ///
    /// All runs share one context, a copy of the caller's at the first of them: context variables that
    /// one run sets are seen by the next.
    ///
    /// # Errors
    /// [`RunError`]: [`RunnerClosed`], the loop could not be made or run (a loop runs in this thread
    /// already), or `main` was cancelled, interrupted, or panicked.
    pub fn run<F: Future + 'static>(&self, main: F) -> Result<F::Output, RunError<F::Output>> {
        self.run_in(self.context.get_or_init(copy_context), main)
    }

    /// As [`run`](Self::run), in this context as it is.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_in<F: Future + 'static>(
        &self,
        context: &Context,
        main: F,
    ) -> Result<F::Output, RunError<F::Output>> {
        if try_get_running_loop().is_ok() {
            return Err(RunError::Loop(LoopError::AnotherRunning.into()));
        }
        let event_loop = self.get_loop().map_err(RunError::Loop)?;
        let options = TaskOptions::default().context(context.clone());
        let mut main = MainTask::new(&*event_loop, main, options)?;
        let interrupts = Interrupts::watch(&*event_loop, main.task().local());
        main.run(|| event_loop.run_forever())
            .map_err(RunError::Loop)?;
        // Asked in this order: a SIGINT from now on ends the process.
        let interrupted = interrupts.is_some_and(Interrupts::end)
            && main.task().cancelled()
            && main.task().uncancel() == 0;
        match main.result() {
            Err(RunError::Task(JoinError::Cancelled(_))) if interrupted => {
                Err(RunError::Interrupted)
            }
            result => result,
        }
    }

    /// Cancels what is left and waits for it, ends the loop's threads (it waits for their jobs for at
    /// most [`EXECUTOR_DEADLINE`]), and closes the loop. Harmless when closed already. Dropping the
    /// runner does the same, also when a loop exit leaves a run.
    ///
    /// Panics of tasks that clean up are reported to the loop's exception handler. Tasks that are
    /// cancelled and go on for ever keep it from returning, as in asyncio. Tasks that they start are
    /// neither cancelled nor waited for: what is left of them is destroyed with the loop, and reported.
    /// Where another loop runs in this thread, nothing can be waited for: what is left is dropped.
    ///
    /// # Errors
    /// [`LoopError::StillRunning`]: the loop runs, and stays open.
    pub fn close(&self) -> Result<(), LoopError> {
        let state = self.state.replace(State::Closed);
        let State::Open(event_loop) = state else {
            return Ok(());
        };
        if !event_loop.is_closed() && event_loop.is_running() {
            *self.state.borrow_mut() = State::Open(event_loop);
            return Err(LoopError::StillRunning);
        }
        // Closed however clean-up ends: a loop exit of a task may leave it.
        let close = Close(&event_loop);
        clean_up(&event_loop);
        drop(close);
        Ok(())
    }
}

struct Close<'a>(&'a Rc<dyn AbstractEventLoop>);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        // It does not run any more, so nothing speaks against closing it.
        let _ = self.0.close();
    }
}

/// Cancels what is left, waits for it, and ends the loop's threads.
fn clean_up(event_loop: &Rc<dyn AbstractEventLoop>) {
    let Some(core) = event_loop.core() else {
        return;
    };
    if event_loop.is_closed() || try_get_running_loop().is_ok() {
        return;
    }
    let failed = |error: io::Error| {
        let message = "the loop failed while a runner waited for what it had cancelled";
        event_loop.call_exception_handler(ExceptionContext::error(message, error));
    };
    if let Err(error) = core.cancel_all_tasks(|| event_loop.run_forever()) {
        return failed(error);
    }
    let ending = event_loop.shutdown_default_executor(Some(EXECUTOR_DEADLINE));
    match event_loop.run_until_complete(ending) {
        Ok(Err(error)) | Err(RunError::Loop(error)) => failed(error),
        Ok(Ok(())) | Err(_) => {}
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Refused when the loop runs: it is not ours to end then. A loop exit of a task that cleans up
        // must not leave a destructor.
        let _ = catch_unwind(AssertUnwindSafe(|| self.close()));
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.state.borrow() {
            State::New => "new",
            State::Open(_) => "open",
            State::Closed => "closed",
        };
        write!(f, "<Runner {state}>")
    }
}
