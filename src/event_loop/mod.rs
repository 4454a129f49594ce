//! The event loop: the abstract interface, the base that gives it for free, and one iteration.
//!
//! | asyncio | here |
//! |---|---|
//! | `AbstractEventLoop` | [`AbstractEventLoop`], object-safe; [`EventLoopExt`] is its generic face |
//! | `BaseEventLoop` | [`BaseEventLoop`] |
//! | `_run_once` | `iteration.rs` |
//! | `_make_*_transport` | [`TransportFactory`] |
//! | `Handle`, `TimerHandle` | [`Handle`], [`TimerHandle`], [`ThreadSafeHandle`] |
//! | `Future` | [`Future`], of loops of any make by [`FutureLoop`] |
//! | `concurrent.futures` | [`ConcurrentFuture`], [`ThreadPoolExecutor`] |
//! | `run_coroutine_threadsafe`, `to_thread`, `wrap_future` | [`run_coroutine_threadsafe`], [`to_thread`], [`wrap_future`] |
//! | `Server` | [`Server`] |
//! | task factories | [`TaskFactory`], [`eager_task_factory`] |
//! | `sleep`, `timeout` | [`sleep`], [`timeout`](timeout()), [`Deadline`] |
//!
//! [`Core`] holds what all parts share. Nothing here is `unsafe`, and nothing reads a clock but
//! through the driver.

mod abstract_event_loop;
mod accept;
mod base;
mod bells;
mod cancel_all;
mod close;
mod concurrent;
mod connect;
mod connections;
mod core;
mod error;
mod exception;
mod executor;
mod ext;
mod factory;
mod future;
mod handle;
mod iteration;
mod listener;
mod loop_handle;
mod main_task;
mod operation;
mod options;
mod resolver;
mod run;
mod running;
mod serve;
mod server;
mod sockets;
mod staggered;
mod starting;
mod task_factory;
mod thread_pool;
mod thread_safe_handle;
mod threadsafe;
mod time;
mod timeout;
mod timers;

pub use self::core::{AtIterationEnd, Core, Stats};
pub use abstract_event_loop::{AbstractEventLoop, Connection, LocalBoxFuture, ProtocolFactory};
pub use base::BaseEventLoop;
pub use concurrent::{ConcurrentError, ConcurrentFuture, ConcurrentWait};
pub use connect::ConnectErrors;
pub use connections::{Connections, LoopClosed, WaitClosed};
pub use error::LoopError;
pub use exception::{
    Exception, ExceptionContext, ExceptionHandler, default_exception_handler, panic_text,
};
pub use executor::to_thread;
pub use ext::{Connected, EventLoopExt, RunError};
pub use factory::{SocketParts, TransportFactory};
pub use future::{
    CallbackId, CallbackOptions, Future, FutureError, FutureLoop, FutureWait, InvalidStateError,
    SharedError, WrapFuture, wrap_future,
};
pub use handle::{Handle, TimerHandle};
pub use loop_handle::LoopHandle;
pub(crate) use main_task::MainTask;
pub use operation::{Operation, Outcome};
pub use options::{ConnectOptions, Port, ServerOptions, UnixConnectOptions, UnixServerOptions};
pub use resolver::{AddrInfo, Family, Hints, ResolverError, SocketType};
pub use run::Run;
pub use running::{Running, get_running_loop, try_get_running_loop};
pub use server::{Server, ServerSocket};
pub use sockets::BindError;
pub use starting::Start;
pub use task_factory::{
    TaskFactory, create_eager_task_factory, create_task, create_task_with, eager_task_factory,
};
pub use thread_pool::ThreadPoolExecutor;
pub use thread_safe_handle::ThreadSafeHandle;
pub use threadsafe::run_coroutine_threadsafe;
pub use time::{Sleep, YieldNow, sleep, yield_now};
pub use timeout::{Deadline, Timeout, TimeoutError, TimeoutStateError, timeout, timeout_at};
