//! The generic face of every loop.

use super::abstract_event_loop::{AbstractEventLoop, LocalBoxFuture, ProtocolFactory};
use super::base::duration_ns;
use super::error::LoopError;
use super::future::Future as LoopFuture;
use super::handle::{Handle, TimerHandle};
use super::main_task::MainTask;
use super::options::{ConnectOptions, ServerOptions, UnixConnectOptions, UnixServerOptions};
use super::server::Server;
use super::thread_safe_handle::ThreadSafeHandle;
use crate::protocol::{ProtocolKind, Transport};
use crate::task::{CallOnce, Context, ContextSnapshot, FutureBody, JoinError, Task, TaskOptions};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

/// Why [`EventLoopExt::run_until_complete`] has no value.
pub enum RunError<T> {
    /// The loop could not run: closed, already running, or a broken driver.
    Loop(io::Error),
    /// The loop was stopped before the future was done; here is its task, which can be driven on.
    Stopped(Task<T>),
    /// The future's task was cancelled, or panicked.
    Task(JoinError),
    /// SIGINT cancelled the future's task, and nothing else did; see [`Runner`](crate::Runner).
    /// asyncio: `KeyboardInterrupt`.
    Interrupted,
}

impl<T> fmt::Display for RunError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop(error) => error.fmt(f),
            Self::Stopped(_) => LoopError::StoppedEarly.fmt(f),
            Self::Task(error) => error.fmt(f),
            Self::Interrupted => f.write_str("interrupted by SIGINT"),
        }
    }
}

impl<T> fmt::Debug for RunError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunError({self})")
    }
}

impl<T> std::error::Error for RunError<T> {}

impl<T> From<RunError<T>> for io::Error {
    fn from(error: RunError<T>) -> Self {
        match error {
            RunError::Loop(error) => error,
            RunError::Stopped(_) => LoopError::StoppedEarly.into(),
            RunError::Task(error) => error.into(),
            error @ RunError::Interrupted => Self::other(error.to_string()),
        }
    }
}

/// A connection with the protocol that the program's factory made.
pub type Connected<P> = (Rc<dyn Transport>, Rc<P>);

/// What every loop offers, with generic arguments. Implemented for all loops, also behind `dyn`.
pub trait EventLoopExt: AbstractEventLoop {
    /// Queues a callback for the next iteration. It runs in a copy of the current context.
    ///
    /// # Errors
    /// Closed; in debug mode, wrong thread.
    #[track_caller]
    fn call_soon(&self, callback: impl FnOnce() + 'static) -> Result<Handle, LoopError> {
        self.call_soon_dyn(&mut CallOnce::new(callback))
    }

    /// As [`call_soon`](Self::call_soon), in this context as it is. asyncio: the argument `context`.
    ///
    /// # Errors
    /// As [`call_soon`](Self::call_soon).
    #[track_caller]
    fn call_soon_in(
        &self,
        context: &Context,
        callback: impl FnOnce() + 'static,
    ) -> Result<Handle, LoopError> {
        self.call_soon_dyn(&mut CallOnce::new(callback).in_context(context))
    }

    /// Calls back after a delay, in a copy of the current context.
    ///
    /// # Errors
    /// As [`call_soon`](Self::call_soon).
    #[track_caller]
    fn call_later(
        &self,
        delay: Duration,
        callback: impl FnOnce() + 'static,
    ) -> Result<TimerHandle, LoopError> {
        let when = self.time().saturating_add(duration_ns(delay));
        self.call_at_dyn(when, &mut CallOnce::new(callback))
    }

    /// As [`call_later`](Self::call_later), in this context as it is.
    ///
    /// # Errors
    /// As [`call_soon`](Self::call_soon).
    #[track_caller]
    fn call_later_in(
        &self,
        context: &Context,
        delay: Duration,
        callback: impl FnOnce() + 'static,
    ) -> Result<TimerHandle, LoopError> {
        let when = self.time().saturating_add(duration_ns(delay));
        self.call_at_dyn(when, &mut CallOnce::new(callback).in_context(context))
    }

    /// Calls back at a time of the loop's clock, in nanoseconds; a past time is due at once, in the
    /// order of deadlines.
    ///
    /// # Errors
    /// As [`call_soon`](Self::call_soon).
    #[track_caller]
    fn call_at(
        &self,
        when: u64,
        callback: impl FnOnce() + 'static,
    ) -> Result<TimerHandle, LoopError> {
        self.call_at_dyn(when, &mut CallOnce::new(callback))
    }

    /// As [`call_at`](Self::call_at), in this context as it is.
    ///
    /// # Errors
    /// As [`call_soon`](Self::call_soon).
    #[track_caller]
    fn call_at_in(
        &self,
        context: &Context,
        when: u64,
        callback: impl FnOnce() + 'static,
    ) -> Result<TimerHandle, LoopError> {
        self.call_at_dyn(when, &mut CallOnce::new(callback).in_context(context))
    }

    /// As [`call_soon`](Self::call_soon), with a handle that other threads may cancel. To schedule
    /// from another thread, take a [`LoopHandle`](super::LoopHandle) there.
    ///
    /// # Errors
    /// Closed.
    #[track_caller]
    fn call_soon_threadsafe(
        &self,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<ThreadSafeHandle, LoopError> {
        let handle = ThreadSafeHandle::new(callback);
        self.call_soon_threadsafe_dyn(handle.clone())?;
        Ok(handle)
    }

    /// As [`call_soon_threadsafe`](Self::call_soon_threadsafe), in a context of its own with the
    /// values of `context`.
    ///
    /// # Errors
    /// Closed.
    #[track_caller]
    fn call_soon_threadsafe_in(
        &self,
        context: &ContextSnapshot,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<ThreadSafeHandle, LoopError> {
        let handle = ThreadSafeHandle::in_context(context.clone(), callback);
        self.call_soon_threadsafe_dyn(handle.clone())?;
        Ok(handle)
    }

    /// Makes a task of a future. The task goes on when its handle is dropped.
    ///
    /// # Errors
    /// Closed: the future is dropped without having run.
    #[track_caller]
    fn create_task<F>(&self, future: F) -> Result<Task<F::Output>, LoopError>
    where
        F: Future + 'static,
    {
        self.create_task_with(future, TaskOptions::default())
    }

    /// As [`create_task`](Self::create_task), with a name, a context or an eager start.
    ///
    /// # Errors
    /// Closed, and what the task factory answers.
    ///
    /// # Panics
    /// With the loop exit of an eager first step; and when the task factory returned the task of
    /// another body.
    #[track_caller]
    fn create_task_with<F: Future + 'static>(
        &self,
        future: F,
        mut options: TaskOptions,
    ) -> Result<Task<F::Output>, LoopError> {
        options.created.get_or_insert(Location::caller());
        let mut body = FutureBody::new(future);
        let raw = self.create_task_dyn(&mut body, options)?;
        Ok(body
            .task(raw)
            .expect("the loop returns the task of the body it was given"))
    }

    /// A pending future of this loop. Works on a closed loop.
    ///
    /// # Panics
    /// When the loop has no futures: see [`future_loop`](AbstractEventLoop::future_loop).
    #[track_caller]
    fn create_future<T: 'static>(&self) -> LoopFuture<T> {
        match self.future_loop() {
            Ok(event_loop) => LoopFuture::new(event_loop),
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs the loop until `future` is done, and returns its value. The loop can be run again.
    ///
    /// # Errors
    /// [`RunError`].
    fn run_until_complete<F: Future + 'static>(
        &self,
        future: F,
    ) -> Result<F::Output, RunError<F::Output>> {
        let mut main = MainTask::new(self, future, TaskOptions::default())?;
        main.run(|| self.run_forever()).map_err(RunError::Loop)?;
        main.result()
    }

    /// Runs a job that may block in a thread of the loop's, and waits for its value. The job is queued
    /// by this call, not by its first poll. Cancelling the wait withdraws a job that has not begun; one
    /// that has begun runs to its end, and its value is dropped. Dropping the wait withdraws nothing.
    /// See [`to_thread`](super::to_thread) for one that sees the caller's context variables.
    ///
    /// # Errors
    /// [`io::Error`]: closed, cancelled, or the job's panic as [`io::ErrorKind::Other`].
    fn run_in_executor<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> LocalBoxFuture<io::Result<T>> {
        Box::pin(super::executor::run(self, job))
    }

    /// Connects over TCP; see [`ConnectOptions`]. Returns the transport and the protocol once
    /// `connection_made` has run.
    ///
    /// # Errors
    /// `InvalidInput` for arguments that exclude each other; else the error of the resolver or of
    /// the attempts to connect.
    fn create_connection<P: crate::protocol::Protocol>(
        &self,
        factory: impl FnOnce() -> Rc<P> + 'static,
        options: ConnectOptions,
    ) -> LocalBoxFuture<io::Result<Connected<P>>> {
        let (erased, made) = once(factory);
        let connecting = self.create_connection_dyn(erased, options);
        Box::pin(async move { Ok((connecting.await?.0, made.take())) })
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// As [`create_connection`](Self::create_connection).
    fn create_unix_connection<P: crate::protocol::Protocol>(
        &self,
        factory: impl FnOnce() -> Rc<P> + 'static,
        options: UnixConnectOptions,
    ) -> LocalBoxFuture<io::Result<Connected<P>>> {
        let (erased, made) = once(factory);
        let connecting = self.create_unix_connection_dyn(erased, options);
        Box::pin(async move { Ok((connecting.await?.0, made.take())) })
    }

    /// Binds TCP listeners; each connection gets a protocol of its own.
    ///
    /// # Errors
    /// `InvalidInput` for arguments that exclude each other; else the error of the resolver or of
    /// binding.
    fn create_server<P: Into<ProtocolKind>>(
        &self,
        factory: impl Fn() -> P + 'static,
        options: ServerOptions,
    ) -> LocalBoxFuture<io::Result<Server>> {
        self.create_server_dyn(Rc::new(move || factory().into()), options)
    }

    /// Binds a Unix listener; each connection gets a protocol of its own.
    ///
    /// # Errors
    /// As [`create_server`](Self::create_server).
    fn create_unix_server<P: Into<ProtocolKind>>(
        &self,
        factory: impl Fn() -> P + 'static,
        options: UnixServerOptions,
    ) -> LocalBoxFuture<io::Result<Server>> {
        self.create_unix_server_dyn(Rc::new(move || factory().into()), options)
    }
}

impl<L: AbstractEventLoop + ?Sized> EventLoopExt for L {}

/// A factory for one connection, erased, and where the protocol it made is kept.
struct Made<P>(Rc<RefCell<Option<Rc<P>>>>);

impl<P> Made<P> {
    fn take(self) -> Rc<P> {
        self.0
            .take()
            .expect("the loop calls the factory before it returns a connection")
    }
}

fn once<P: crate::protocol::Protocol>(
    factory: impl FnOnce() -> Rc<P> + 'static,
) -> (ProtocolFactory, Made<P>) {
    let made = Rc::new(RefCell::new(None));
    let keep = made.clone();
    let factory = RefCell::new(Some(factory));
    let erased = Rc::new(move || {
        let factory = factory
            .take()
            .expect("the factory of a connection is called once");
        let protocol = factory();
        *keep.borrow_mut() = Some(protocol.clone());
        ProtocolKind::from(protocol)
    });
    (erased, Made(made))
}
