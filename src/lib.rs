//! `ringloop` is an event loop and async runtime for Linux servers: asyncio's extension model, in
//! Rust, on io_uring, with epoll as its second driver.
//!
//! *No byte, no connection, no heap and no start-up is ever lost to io_uring.* A read that is
//! cancelled after the kernel filled its buffer gives those bytes to the next read; an accept that is
//! cancelled gives its connection to the next accept; memory the kernel may still write to is never
//! freed; and where io_uring is blocked, the program starts on epoll and says why.
//!
//! ```
//! use std::time::Duration;
//!
//! let answer = ringloop::run(async {
//!     let event_loop = ringloop::get_running_loop();
//!     let slow = ringloop::sleep(Duration::from_secs(60));
//!     let outcome = ringloop::timeout(Duration::from_millis(1), slow).await;
//!     assert!(outcome.is_err(), "the timeout expires first");
//!     event_loop.time()
//! });
//! assert!(answer.unwrap() > 0);
//! ```
//!
//! # Where to start
//!
//! * A server with readers and writers: [`stream`].
//! * A server with callbacks, and no task for each connection: [`Protocol`] and
//!   [`EventLoopExt::create_server`].
//! * Tasks, cancellation, time: [`EventLoopExt::create_task`], [`Task`], [`Cancelled`], [`sleep()`],
//!   [`timeout()`].
//! * Locks, events, semaphores, queues between tasks: [`sync`].
//! * Calls that block, and other threads: [`to_thread`], [`run_coroutine_threadsafe`], [`LoopHandle`].
//! * A loop, transport or driver of your own: [`event_loop`], [`event_loop::TransportFactory`],
//!   [`driver::Driver`].
//!
//! # The house
//!
//! Floors import downwards only:
//!
//! | floor | what stands there |
//! |---|---|
//! | [`runner`] | [`run`], [`Runner`], [`Builder`] |
//! | [`debug`] | what every task waits for |
//! | [`combinators`] | groups of tasks, timeouts, waiting for several tasks |
//! | [`stream`] | readers and writers, as protocols on transports |
//! | [`transport`] | connections on the driver |
//! | [`event_loop`] | the interface of every loop, the base that implements it, one iteration |
//! | [`protocol`] | what a transport calls, and what it offers |
//! | [`sync`] | locks, events, queues between the tasks of a loop |
//! | [`task`] | tasks, wakers, cancellation, lifetime hooks; no I/O |
//! | [`driver`] | operations, who owns what is in flight, io_uring and epoll |
//! | [`ring`] | one io_uring: set-up, queues, buffer rings |
//! | [`ready`] | the ready queue |
//! | [`sys`] | the few system calls that neither std nor nix gives safely |
//!
//! # Cancellation in one paragraph
//!
//! Cancelling a task is a value that is delivered, not a drop: each await of this crate that is
//! pending ends with [`Cancelled`], which `?` carries up; code may catch it, clean up *with awaits*,
//! and go on. Dropping any future of this crate is sound, and nothing that arrived is lost: reads and
//! accepts give what the kernel had done to the next one, writes to a transport are queued when they are
//! called. What a future owns goes with it: the item of a [`Queue::put`](sync::Queue::put) that waits for
//! room, the lock that a [`Condition::wait`](sync::Condition::wait) was to take again.

pub mod combinators;
pub mod debug;
pub mod driver;
pub mod event_loop;
pub mod protocol;
pub mod ready;
pub mod ring;
pub mod runner;
pub mod stream;
pub mod sync;
pub mod sys;
pub mod task;
pub mod transport;

pub use combinators::{
    Child, ExceptionGroup, Failure, GroupError, Race, Refused, ReturnWhen, TaskGroup, as_completed,
    gather, shield, staggered_race, task_group, wait, wait_for,
};
pub use driver::{Chunk, DriverKind, Lease};
pub use event_loop::{
    AbstractEventLoop, BaseEventLoop, ConnectOptions, Connected, Deadline, EventLoopExt,
    ExceptionContext, LoopError, LoopHandle, RunError, Server, ServerOptions, TimeoutError,
    TimeoutStateError, UnixConnectOptions, UnixServerOptions, create_task, create_task_with,
    get_running_loop, sleep, timeout, timeout_at, try_get_running_loop, yield_now,
};
pub use event_loop::{run_coroutine_threadsafe, to_thread};
pub use protocol::{
    Address, BaseProtocol, BufferedProtocol, ExtraInfo, Protocol, ProtocolCell, ProtocolKind,
    ProtocolMut, Transport, WriteLimits,
};
pub use runner::{Builder, Runner, RunnerClosed, block_on, run};
pub use task::{Cancelled, Context, ContextSnapshot, ContextVar, JoinError, Task, copy_context};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
