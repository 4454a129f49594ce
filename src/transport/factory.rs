//! The default factory.

use super::socket::SocketTransport;
use crate::event_loop::{SocketParts, TransportFactory};
use crate::protocol::Transport;
use std::io;
use std::rc::Rc;

/// Makes the transports of this crate: they submit operations to the loop's driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultTransports;

impl TransportFactory for DefaultTransports {
    fn make_socket_transport(&self, parts: SocketParts) -> io::Result<Rc<dyn Transport>> {
        Ok(SocketTransport::make(parts))
    }
}
