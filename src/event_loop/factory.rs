//! The hooks by which a loop makes transports.

use super::abstract_event_loop::AbstractEventLoop;
use super::core::Core;
use crate::driver::Fd;
use crate::protocol::{Address, ProtocolKind, Transport};
use std::io;
use std::rc::{Rc, Weak};

/// Keeps count of a server's connections. A transport attaches when it is made and detaches when
/// its `connection_lost` was delivered or it was dropped.
pub trait Attachment {
    /// A transport of the server was made.
    fn attach(&self, transport: Weak<dyn Transport>) -> usize;
    /// The transport that [`attach`](Self::attach) named is gone.
    fn detach(&self, id: usize);
}

/// What a transport is made of.
pub struct SocketParts {
    /// The loop's core.
    pub core: Rc<Core>,
    /// The outermost loop.
    pub event_loop: Weak<dyn AbstractEventLoop>,
    /// A connected stream socket.
    pub socket: Fd,
    /// The protocol.
    pub protocol: ProtocolKind,
    /// Called once `connection_made` was delivered and reading has started (asyncio: the waiter).
    pub made: Option<Box<dyn FnOnce()>>,
    /// The peer's address, where it is known already.
    pub peer: Option<Address>,
    /// The server that accepted the connection.
    pub server: Option<Rc<dyn Attachment>>,
}

/// Makes the transports of a loop. asyncio: `_make_socket_transport` and its like.
///
/// The default one, [`crate::transport::DefaultTransports`], submits operations to the driver; a
/// loop with other transports implements this trait and gives it to
/// [`BaseEventLoop::new`](super::BaseEventLoop::new).
pub trait TransportFactory {
    /// A transport on a connected stream socket. It must queue, in this order: `connection_made`,
    /// the start of reading, and `made`; attach itself to the server; and turn Nagle's algorithm
    /// off on TCP (a server's listener has done that for the connections it accepts).
    ///
    /// # Errors
    /// When the transport can not be made; the socket is closed then.
    fn make_socket_transport(&self, parts: SocketParts) -> io::Result<Rc<dyn Transport>>;
}
