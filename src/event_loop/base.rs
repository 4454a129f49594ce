//! The base loop: every member of the interface, on a driver and a transport factory.
//! asyncio: `BaseEventLoop`.
//!
//! ```text
//!            run_forever              stop, end of iteration
//!   Idle ───────────────────▶ Running ───────────────────────▶ Idle ──close──▶ Closed
//! ```

use super::abstract_event_loop::{AbstractEventLoop, Connection, LocalBoxFuture, ProtocolFactory};
use super::connections::Connections;
use super::core::Core;
use super::error::LoopError;
use super::exception::{ExceptionContext, ExceptionHandler};
use super::factory::TransportFactory;
use super::future::{FutureLoop, OuterLoop};
use super::handle::{Handle, Origin, TimerHandle};
use super::loop_handle::LoopHandle;
use super::options::{ConnectOptions, ServerOptions, UnixConnectOptions, UnixServerOptions};
use super::resolver::{self, AddrInfo, Hints};
use super::run::Run;
use super::server::Server;
use super::task_factory::TaskFactory;
use super::thread_pool::ThreadPoolExecutor;
use super::thread_safe_handle::ThreadSafeHandle;
use super::{connect, executor, serve};
use crate::driver::Driver;
use crate::sys::threads::{self, Threads};
use crate::task::{Bell, CallBody, CallOnce, RawTask, TaskBody, TaskOptions};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::thread::ThreadId;
use std::time::Duration;

/// How long closing a loop waits for operations the kernel does not give back; 2 s by default.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// See the module. Made by [`Builder`](crate::Builder), or by a loop that wraps it.
pub struct BaseEventLoop {
    pub(super) core: Rc<Core>,
    /// Those that are no server's.
    connections: Rc<Connections>,
    pub(super) outer: Weak<dyn AbstractEventLoop>,
    factory: Rc<dyn TransportFactory>,
    futures: Rc<OuterLoop>,
    pub(super) thread: Cell<Option<ThreadId>>,
    executor: RefCell<Threads>,
    close_deadline: Cell<Duration>,
    task_factory: RefCell<Option<TaskFactory>>,
    /// It is the loop that the program sees.
    alone: Cell<bool>,
}

impl BaseEventLoop {
    /// A loop on `driver`, whose transports `factory` makes. `outer` is the loop the program sees:
    /// the loop that wraps this one, or this one itself (`Rc::new_cyclic`).
    pub fn new(
        driver: Box<dyn Driver>,
        factory: Rc<dyn TransportFactory>,
        outer: Weak<dyn AbstractEventLoop>,
    ) -> Self {
        let core = Core::new(driver, outer.clone());
        core.set_debug(std::env::var_os("RINGLOOP_DEBUG").is_some_and(|value| !value.is_empty()));
        core.reporter.belongs_to(outer.clone());
        let futures = Rc::new(OuterLoop {
            outer: outer.clone(),
            id: core.tasks.loop_id(),
        });
        Self {
            futures,
            connections: Connections::new(&core),
            core,
            outer,
            factory,
            thread: Cell::new(None),
            executor: RefCell::new(Threads::new(
                "ringloop",
                threads::default_limit(),
                threads::KEEP_IDLE,
            )),
            close_deadline: Cell::new(CLOSE_DEADLINE),
            task_factory: RefCell::default(),
            alone: Cell::new(false),
        }
    }

    /// No loop wraps this one, from now on.
    pub(crate) fn stand_alone(&self) {
        self.alone.set(true);
        self.update_direct();
    }

    /// Tasks are made without asking the loop while it runs and there is nothing to ask for.
    pub(super) fn update_direct(&self) {
        let alone = self.alone.get() && self.is_running();
        let plain = self.task_factory.borrow().is_none() && !self.core.debug.get();
        self.core.tasks.set_direct(alone && plain);
    }

    /// Begins a run whose iterations the caller drives, where another loop is in charge of the
    /// thread. asyncio (3.13): `_run_forever_setup`.
    ///
    /// # Errors
    /// As [`run_forever`](AbstractEventLoop::run_forever): closed, already running, or another loop
    /// running in this thread.
    pub fn run_forever_setup(&self) -> Result<Run<'_>, LoopError> {
        Run::begin(self)
    }

    /// How long [`close`](AbstractEventLoop::close) waits for operations that the kernel does not
    /// give back, before it leaks their memory; 2 s by default.
    pub fn set_close_deadline(&self, deadline: Duration) {
        self.close_deadline.set(deadline);
    }

    /// From how long on a callback is reported in debug mode; 100 ms by default. asyncio:
    /// `slow_callback_duration`.
    pub fn set_slow_callback_duration(&self, duration: Duration) {
        self.core.slow_callback.set(duration_ns(duration));
    }

    fn executor(&self) -> Threads {
        self.executor.borrow().clone()
    }

    /// In debug mode, refuses callers on a thread other than the one the loop runs on. (Safe Rust
    /// can not call from another thread; loops handed through `unsafe` code can.)
    #[inline]
    fn check_thread(&self) -> Result<(), LoopError> {
        if self.core.debug.get() {
            self.compare_thread()
        } else {
            Ok(())
        }
    }

    #[cold]
    fn compare_thread(&self) -> Result<(), LoopError> {
        match self.thread.get() {
            Some(id) if id != std::thread::current().id() => Err(LoopError::WrongThread),
            _ => Ok(()),
        }
    }

    /// In debug mode tasks know where they were made.
    #[inline]
    fn check_new_task(&self, options: &mut TaskOptions) -> Result<(), LoopError> {
        self.core.check_closed()?;
        if self.core.debug.get() {
            self.compare_thread()?;
        } else {
            options.created = None;
        }
        Ok(())
    }

    #[cold]
    fn ask_factory(
        &self,
        body: &mut dyn TaskBody,
        options: TaskOptions,
    ) -> Result<RawTask, LoopError> {
        self.core.check_closed()?;
        let factory = self.task_factory.borrow().clone();
        match (factory, self.outer.upgrade()) {
            (Some(factory), Some(outer)) => factory(&*outer, body, options),
            (Some(factory), None) => factory(self, body, options),
            (None, _) => self.new_task_dyn(body, options),
        }
    }

    fn context(&self) -> connect::Context {
        connect::Context {
            core: self.core.clone(),
            connections: self.connections.clone(),
            factory: self.factory.clone(),
            outer: self.outer.clone(),
        }
    }
}

/// Nanoseconds, saturating after 584 years.
pub(super) fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn origin(callback: &dyn CallBody) -> Origin {
    Origin {
        name: callback.vtable().name(),
        created: callback.created(),
    }
}

impl AbstractEventLoop for BaseEventLoop {
    fn core(&self) -> Option<&Rc<Core>> {
        Some(&self.core)
    }

    fn run_forever(&self) -> io::Result<()> {
        let run = self.run_forever_setup()?;
        loop {
            run.run_once()?;
            if run.is_over() {
                return Ok(());
            }
        }
    }

    fn stop(&self) {
        self.core.stopping.set(true);
    }

    fn is_running(&self) -> bool {
        self.thread.get().is_some()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    fn close(&self) -> Result<(), LoopError> {
        if self.is_running() {
            return Err(LoopError::StillRunning);
        }
        self.executor().shut_down(false);
        self.core.close(duration_ns(self.close_deadline.get()));
        Ok(())
    }

    fn call_soon_dyn(&self, callback: &mut dyn CallBody) -> Result<Handle, LoopError> {
        self.core.check_closed()?;
        self.check_thread()?;
        let origin = origin(callback);
        let key = self.core.schedule(callback);
        Ok(Handle::new(self.core.clone(), key, Some(origin)))
    }

    fn call_at_dyn(
        &self,
        when: u64,
        callback: &mut dyn CallBody,
    ) -> Result<TimerHandle, LoopError> {
        self.core.check_closed()?;
        self.check_thread()?;
        let origin = origin(callback);
        let key = self.core.callbacks.insert(callback);
        let timer = self.core.push_timer(when, key);
        let handle = Handle::new(self.core.clone(), key, Some(origin));
        Ok(TimerHandle::new(handle, timer))
    }

    #[inline]
    fn ring_at(&self, when: u64, bell: &Bell) -> Result<TimerHandle, LoopError> {
        let Some(plain) = bell.plain(&self.core.tasks) else {
            let bell = bell.clone();
            return self.call_at_dyn(when, &mut CallOnce::new(move || bell.ring()));
        };
        self.core.check_closed()?;
        self.check_thread()?;
        let (key, timer) = self.core.push_bell(when, plain);
        let handle = Handle::new(self.core.clone(), key, None);
        Ok(TimerHandle::new(handle, timer))
    }

    fn call_soon_threadsafe_dyn(&self, callback: ThreadSafeHandle) -> Result<(), LoopError> {
        self.core.check_closed()?;
        self.core.defer(callback.into_call());
        Ok(())
    }

    fn handle(&self) -> Result<LoopHandle, LoopError> {
        Ok(self.core.tasks.remote().into())
    }

    fn time(&self) -> u64 {
        self.core.now()
    }

    fn future_loop(&self) -> Result<Rc<dyn FutureLoop>, LoopError> {
        Ok(self.futures.clone())
    }

    fn create_task_dyn(
        &self,
        body: &mut dyn TaskBody,
        mut options: TaskOptions,
    ) -> Result<RawTask, LoopError> {
        if self.task_factory.borrow().is_some() {
            return self.ask_factory(body, options);
        }
        self.check_new_task(&mut options)?;
        Ok(self.core.tasks.spawn_in(body, &mut options))
    }

    fn new_task_dyn(
        &self,
        body: &mut dyn TaskBody,
        mut options: TaskOptions,
    ) -> Result<RawTask, LoopError> {
        self.check_new_task(&mut options)?;
        Ok(self.core.tasks.spawn(body, options))
    }

    fn set_task_factory(&self, factory: Option<TaskFactory>) {
        let old = self.task_factory.replace(factory);
        self.update_direct();
        drop(old);
    }

    fn get_task_factory(&self) -> Option<TaskFactory> {
        self.task_factory.borrow().clone()
    }

    fn run_in_executor_dyn(&self, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        self.core.check_closed()?;
        self.executor().submit(job).map_err(|refused| refused.cause)
    }

    fn set_default_executor(&self, executor: ThreadPoolExecutor) -> io::Result<()> {
        self.core.check_closed()?;
        if executor.is_shut_down() || self.executor().is_closed() {
            return Err(io::Error::other("Executor shutdown has been called"));
        }
        // The last handle of the old one shuts it down.
        let old = self.executor.replace(executor.0);
        drop(old);
        Ok(())
    }

    fn shutdown_default_executor(
        &self,
        timeout: Option<Duration>,
    ) -> LocalBoxFuture<io::Result<()>> {
        let executor = self.executor();
        Box::pin(executor::shut_down(self.core.clone(), executor, timeout))
    }

    fn getaddrinfo(
        &self,
        host: Option<String>,
        port: String,
        hints: Hints,
    ) -> LocalBoxFuture<io::Result<Vec<AddrInfo>>> {
        let outer = self.outer.clone();
        Box::pin(resolver::getaddrinfo(outer, host, port, hints))
    }

    fn getnameinfo(
        &self,
        address: SocketAddr,
        flags: i32,
    ) -> LocalBoxFuture<io::Result<(String, String)>> {
        Box::pin(resolver::getnameinfo(self.outer.clone(), address, flags))
    }

    fn create_connection_dyn(
        &self,
        factory: ProtocolFactory,
        options: ConnectOptions,
    ) -> LocalBoxFuture<io::Result<Connection>> {
        Box::pin(connect::create_connection(self.context(), factory, options))
    }

    fn create_unix_connection_dyn(
        &self,
        factory: ProtocolFactory,
        options: UnixConnectOptions,
    ) -> LocalBoxFuture<io::Result<Connection>> {
        Box::pin(connect::create_unix_connection(
            self.context(),
            factory,
            options,
        ))
    }

    fn connect_accepted_socket_dyn(
        &self,
        factory: ProtocolFactory,
        socket: OwnedFd,
    ) -> LocalBoxFuture<io::Result<Connection>> {
        Box::pin(connect::connect_accepted_socket(
            self.context(),
            factory,
            socket,
        ))
    }

    fn create_server_dyn(
        &self,
        factory: ProtocolFactory,
        options: ServerOptions,
    ) -> LocalBoxFuture<io::Result<Server>> {
        Box::pin(serve::create_server(self.context(), factory, options))
    }

    fn create_unix_server_dyn(
        &self,
        factory: ProtocolFactory,
        options: UnixServerOptions,
    ) -> LocalBoxFuture<io::Result<Server>> {
        Box::pin(serve::create_unix_server(self.context(), factory, options))
    }

    fn set_exception_handler(&self, handler: Option<ExceptionHandler>) {
        self.core.reporter.set(handler);
    }

    fn get_exception_handler(&self) -> Option<ExceptionHandler> {
        self.core.reporter.get()
    }

    fn call_exception_handler(&self, context: ExceptionContext) {
        self.core.report(context);
    }

    fn get_debug(&self) -> bool {
        self.core.debug.get()
    }

    fn set_debug(&self, debug: bool) {
        self.core.set_debug(debug);
        self.update_direct();
    }
}

impl Drop for BaseEventLoop {
    /// A loop that was not closed is closed now, and says so.
    fn drop(&mut self) {
        if !self.core.is_closed() {
            self.core.report(ExceptionContext::new(
                "an event loop was dropped without close(); it is closed now",
            ));
            self.executor().shut_down(false);
            self.core.close(duration_ns(self.close_deadline.get()));
        }
    }
}
