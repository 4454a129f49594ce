//! The hooks by which a loop makes transports.

use super::abstract_event_loop::AbstractEventLoop;
use super::connections::Connections;
use crate::driver::Fd;
use crate::protocol::{Address, ProtocolKind, Transport};
use std::io;
use std::rc::{Rc, Weak};

/// What a transport is made of.
pub struct SocketParts {
    /// Where the transport enters itself when it is made, and leaves when its `connection_lost` was
    /// delivered or it is dropped. Has the loop's core.
    pub connections: Rc<Connections>,
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
    /// Whether a server accepted the connection.
    pub accepted: bool,
}

/// Makes the transports of a loop. asyncio: `_make_socket_transport` and its like.
///
/// The default one, [`crate::transport::DefaultTransports`], submits operations to the driver; a
/// loop with other transports implements this trait and gives it to
/// [`BaseEventLoop::new`](super::BaseEventLoop::new).
pub trait TransportFactory {
    /// A transport on a connected stream socket. It must queue, in this order: `connection_made`,
    /// the start of reading, and `made`; enter itself among the connections; and turn Nagle's algorithm
    /// off on TCP (a server's listener has done that for the connections it accepts).
    ///
    /// # Errors
    /// When the transport can not be made; the socket is closed then.
    fn make_socket_transport(&self, parts: SocketParts) -> io::Result<Rc<dyn Transport>>;
}
