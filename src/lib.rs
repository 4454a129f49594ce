//! An event loop and async runtime for Linux servers.

pub mod driver;
pub mod event_loop;
pub mod protocol;
pub mod ready;
pub mod ring;
pub mod runner;
pub mod stream;
pub mod sys;
pub mod task;
pub mod transport;

pub use driver::{Chunk, DriverKind, Lease};
pub use event_loop::{
    AbstractEventLoop, BaseEventLoop, ConnectOptions, Connected, EventLoopExt, ExceptionContext,
    LoopError, LoopHandle, RunError, Server, ServerOptions, TimeoutError, UnixConnectOptions,
    UnixServerOptions, get_running_loop, sleep, timeout, timeout_at, try_get_running_loop,
    yield_now,
};
pub use protocol::{
    Address, BaseProtocol, BufferedProtocol, ExtraInfo, Protocol, ProtocolCell, ProtocolKind,
    ProtocolMut, Transport, WriteLimits,
};
pub use runner::{Builder, block_on, run};
pub use task::{Cancelled, JoinError, Task};
