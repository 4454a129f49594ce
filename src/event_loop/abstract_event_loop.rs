//! The interface of every event loop. asyncio: `AbstractEventLoop`.
//!
//! Object-safe throughout: methods that take a callback or a future take an object that writes
//! itself into its place (`*_dyn`), and methods that asyncio writes as coroutines return boxed local
//! futures. The generic face is [`EventLoopExt`](super::EventLoopExt), implemented for every loop.
//!
//! A loop that *wraps* another one (usually a [`BaseEventLoop`](super::BaseEventLoop)) returns it
//! from [`base`](AbstractEventLoop::base) and overrides what it wants to differ; the rest is
//! answered by the base. A loop without a base answers every member it does not override with
//! [`LoopError::NotImplemented`] (as an error where the method returns one, else as a panic).

use super::core::Core;
use super::error::LoopError;
use super::exception::{ExceptionContext, ExceptionHandler};
use super::future::FutureLoop;
use super::handle::{Handle, TimerHandle};
use super::options::{ConnectOptions, ServerOptions, UnixConnectOptions, UnixServerOptions};
use super::resolver::{AddrInfo, Hints};
use super::server::Server;
use super::task_factory::TaskFactory;
use super::thread_pool::ThreadPoolExecutor;
use super::thread_safe_handle::ThreadSafeHandle;
use crate::protocol::{ProtocolKind, Transport};
use crate::task::{Bell, CallBody, CallOnce, RawTask, TaskBody, TaskOptions};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// A boxed future of one thread, as an object-safe method returns it.
pub type LocalBoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a connection's creation gives: the transport and the protocol the factory made.
pub type Connection = (Rc<dyn Transport>, ProtocolKind);

/// Makes the protocol of a connection; called once for each.
pub type ProtocolFactory = Rc<dyn Fn() -> ProtocolKind>;

/// The base, or the error that a member is not implemented.
macro_rules! base {
    ($self:ident, $member:literal) => {
        $self.base().ok_or(LoopError::NotImplemented($member))?
    };
    ($self:ident, $member:literal, panic) => {
        $self
            .base()
            .unwrap_or_else(|| panic!("{}", LoopError::NotImplemented($member)))
    };
    ($self:ident, $member:literal, future) => {
        match $self.base() {
            Some(base) => base,
            None => {
                return Box::pin(std::future::ready(Err(
                    LoopError::NotImplemented($member).into()
                )))
            }
        }
    };
}

/// See the module. Every method says its errors; the futures of coroutine methods may be dropped or
/// their task cancelled at any time: what they began is then undone (sockets closed, transports
/// closed with `connection_lost`).
pub trait AbstractEventLoop {
    /// The loop this one wraps, which answers what this one does not override.
    fn base(&self) -> Option<&dyn AbstractEventLoop> {
        None
    }

    /// The core services, for transports and operations written on them; `None` for a loop that is
    /// not built on [`BaseEventLoop`](super::BaseEventLoop).
    fn core(&self) -> Option<&Rc<Core>> {
        self.base()?.core()
    }

    // --- running and stopping

    /// Runs until [`stop`](Self::stop). A stop requested before gives exactly one iteration that
    /// does not wait.
    ///
    /// # Errors
    /// Closed, already running, another loop running in this thread, or a driver broken for good.
    fn run_forever(&self) -> io::Result<()> {
        base!(self, "run_forever").run_forever()
    }

    /// Ends [`run_forever`](Self::run_forever) after the current iteration. Legal at any time.
    fn stop(&self) {
        base!(self, "stop", panic).stop();
    }

    /// Whether the loop runs.
    fn is_running(&self) -> bool {
        base!(self, "is_running", panic).is_running()
    }

    /// Whether the loop was closed.
    fn is_closed(&self) -> bool {
        base!(self, "is_closed", panic).is_closed()
    }

    /// Closes the loop for good: callbacks, timers, tasks and transports are dropped, operations
    /// cancelled and reaped. Harmless when closed already.
    ///
    /// # Errors
    /// [`LoopError::StillRunning`].
    fn close(&self) -> Result<(), LoopError> {
        base!(self, "close").close()
    }

    // --- scheduling and time

    /// Queues a callback for the next iteration; first in, first out.
    ///
    /// # Errors
    /// Closed; in debug mode, wrong thread.
    fn call_soon_dyn(&self, callback: &mut dyn CallBody) -> Result<Handle, LoopError> {
        base!(self, "call_soon").call_soon_dyn(callback)
    }

    /// Calls back at a time of the loop's clock, in nanoseconds. Never inline, never before; equal times
    /// in order of creation. Between two timers the loop sleeps for 50 µs or more, so those that are
    /// closer share a wake-up.
    ///
    /// # Errors
    /// Closed; in debug mode, wrong thread.
    fn call_at_dyn(
        &self,
        when: u64,
        callback: &mut dyn CallBody,
    ) -> Result<TimerHandle, LoopError> {
        base!(self, "call_at").call_at_dyn(when, callback)
    }

    /// Rings `bell` at a time of the loop's clock: what sleeps and timeouts ask for. It is a callback
    /// ([`call_at_dyn`](Self::call_at_dyn)) unless the loop has a shorter way; its handle has no
    /// context to show then.
    ///
    /// # Errors
    /// As [`call_at_dyn`](Self::call_at_dyn).
    fn ring_at(&self, when: u64, bell: &Bell) -> Result<TimerHandle, LoopError> {
        let bell = bell.clone();
        self.call_at_dyn(when, &mut CallOnce::new(move || bell.ring()))
    }

    /// As `call_soon`, for a callback that may be cancelled from any thread. To schedule from
    /// another thread, take a [`LoopHandle`](super::LoopHandle) there.
    ///
    /// # Errors
    /// Closed.
    fn call_soon_threadsafe_dyn(&self, callback: ThreadSafeHandle) -> Result<(), LoopError> {
        base!(self, "call_soon_threadsafe").call_soon_threadsafe_dyn(callback)
    }

    /// What other threads hold of this loop.
    ///
    /// # Errors
    /// Not implemented.
    fn handle(&self) -> Result<super::LoopHandle, LoopError> {
        base!(self, "handle").handle()
    }

    /// The loop's clock: nanoseconds, monotonic, of arbitrary origin. Works on a closed loop.
    fn time(&self) -> u64 {
        base!(self, "time", panic).time()
    }

    // --- futures and tasks

    /// The loop as its futures know it. `create_future` is made of it: a loop that wants to see what
    /// its futures queue and report gives out a [`FutureLoop`] of its own.
    ///
    /// # Errors
    /// Not implemented. Works on a closed loop.
    fn future_loop(&self) -> Result<Rc<dyn FutureLoop>, LoopError> {
        base!(self, "create_future").future_loop()
    }

    /// Makes a task, through the task factory if one is set; its first step runs in the next
    /// iteration, or at once where it is eager.
    ///
    /// # Errors
    /// Closed: the future is dropped without having run. And what the factory answers.
    fn create_task_dyn(
        &self,
        body: &mut dyn TaskBody,
        options: TaskOptions,
    ) -> Result<RawTask, LoopError> {
        base!(self, "create_task").create_task_dyn(body, options)
    }

    /// Makes a task without asking the task factory: what a factory calls in the end. asyncio: the
    /// constructor of `Task`.
    ///
    /// # Errors
    /// Closed: the future is dropped without having run.
    fn new_task_dyn(
        &self,
        body: &mut dyn TaskBody,
        options: TaskOptions,
    ) -> Result<RawTask, LoopError> {
        base!(self, "new_task").new_task_dyn(body, options)
    }

    /// Sets what makes tasks; `None` restores the default. It must return the task of the body it is
    /// given.
    fn set_task_factory(&self, factory: Option<TaskFactory>) {
        base!(self, "set_task_factory", panic).set_task_factory(factory);
    }

    /// The factory that was set.
    fn get_task_factory(&self) -> Option<TaskFactory> {
        base!(self, "get_task_factory", panic).get_task_factory()
    }

    // --- threads and names

    /// Runs a job that may block on the loop's threads. asyncio: `run_in_executor(None, …)`; its
    /// result comes through what the job captured (see [`EventLoopExt::run_in_executor`]).
    ///
    /// [`EventLoopExt::run_in_executor`]: super::EventLoopExt::run_in_executor
    ///
    /// # Errors
    /// Closed, or no thread is to be had.
    fn run_in_executor_dyn(&self, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        base!(self, "run_in_executor").run_in_executor_dyn(job)
    }

    /// Has jobs run on other threads from now on: those of `run_in_executor`, `to_thread` and the
    /// resolver. What the previous executor took runs there. asyncio: `set_default_executor`.
    ///
    /// # Errors
    /// Closed; `executor`, or the previous one, was shut down. The previous one stays then.
    fn set_default_executor(&self, executor: ThreadPoolExecutor) -> io::Result<()> {
        base!(self, "set_default_executor").set_default_executor(executor)
    }

    /// Ends the loop's threads: further jobs are refused at once, and it waits for those that were
    /// taken. Jobs that take longer than `timeout` are reported and left behind (`None`: it waits for
    /// as long as they take). Cancelling ends the wait, not the jobs.
    fn shutdown_default_executor(
        &self,
        timeout: Option<Duration>,
    ) -> LocalBoxFuture<io::Result<()>> {
        base!(self, "shutdown_default_executor", future).shutdown_default_executor(timeout)
    }

    /// Resolves a name without blocking the loop; literal addresses take no resolver. Cancelling
    /// drops the answer.
    fn getaddrinfo(
        &self,
        host: Option<String>,
        port: String,
        hints: Hints,
    ) -> LocalBoxFuture<io::Result<Vec<AddrInfo>>> {
        base!(self, "getaddrinfo", future).getaddrinfo(host, port, hints)
    }

    /// Finds the names of an address, host and service, without blocking the loop. `flags` are the
    /// `NI_*` bits of `getnameinfo(3)`. Cancelling drops the answer.
    fn getnameinfo(
        &self,
        address: SocketAddr,
        flags: i32,
    ) -> LocalBoxFuture<io::Result<(String, String)>> {
        base!(self, "getnameinfo", future).getnameinfo(address, flags)
    }

    // --- connections and servers

    /// Connects over TCP, or takes a connected stream socket over. `connection_made` has run when
    /// it returns.
    fn create_connection_dyn(
        &self,
        factory: ProtocolFactory,
        options: ConnectOptions,
    ) -> LocalBoxFuture<io::Result<Connection>> {
        base!(self, "create_connection", future).create_connection_dyn(factory, options)
    }

    /// Connects to a Unix socket, or takes a connected one over.
    fn create_unix_connection_dyn(
        &self,
        factory: ProtocolFactory,
        options: UnixConnectOptions,
    ) -> LocalBoxFuture<io::Result<Connection>> {
        base!(self, "create_unix_connection", future).create_unix_connection_dyn(factory, options)
    }

    /// Makes the server side of a connection that was accepted elsewhere.
    fn connect_accepted_socket_dyn(
        &self,
        factory: ProtocolFactory,
        socket: OwnedFd,
    ) -> LocalBoxFuture<io::Result<Connection>> {
        base!(self, "connect_accepted_socket", future).connect_accepted_socket_dyn(factory, socket)
    }

    /// Binds TCP listeners and, unless told otherwise, starts serving.
    fn create_server_dyn(
        &self,
        factory: ProtocolFactory,
        options: ServerOptions,
    ) -> LocalBoxFuture<io::Result<Server>> {
        base!(self, "create_server", future).create_server_dyn(factory, options)
    }

    /// Binds a Unix listener and, unless told otherwise, starts serving.
    fn create_unix_server_dyn(
        &self,
        factory: ProtocolFactory,
        options: UnixServerOptions,
    ) -> LocalBoxFuture<io::Result<Server>> {
        base!(self, "create_unix_server", future).create_unix_server_dyn(factory, options)
    }

    // --- errors and debugging

    /// Sets what is called with reports; `None` restores the default.
    fn set_exception_handler(&self, handler: Option<ExceptionHandler>) {
        base!(self, "set_exception_handler", panic).set_exception_handler(handler);
    }

    /// The handler that was set.
    fn get_exception_handler(&self) -> Option<ExceptionHandler> {
        base!(self, "get_exception_handler", panic).get_exception_handler()
    }

    /// Takes reports while no handler is set, and those of handlers that failed. Writes them to
    /// standard error; the outermost loop's own one counts. A panic in it is written there too.
    fn default_exception_handler(&self, context: &ExceptionContext) {
        super::exception::default_exception_handler(context);
    }

    /// Gives a report to the handler.
    fn call_exception_handler(&self, context: ExceptionContext) {
        base!(self, "call_exception_handler", panic).call_exception_handler(context);
    }

    /// Whether the loop is in debug mode.
    fn get_debug(&self) -> bool {
        base!(self, "get_debug", panic).get_debug()
    }

    /// Switches debug mode: slow callbacks are reported, the calling thread is checked, handles show
    /// where they were made. Initially on when `RINGLOOP_DEBUG` is set and not empty.
    fn set_debug(&self, debug: bool) {
        base!(self, "set_debug", panic).set_debug(debug);
    }
}
