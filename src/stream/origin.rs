//! Where streams come from: what all streams of one server, or the one of a connection, share.

use super::protocol::StreamReaderProtocol;
use crate::event_loop::{AbstractEventLoop, ExceptionContext};
use std::rc::{Rc, Weak};

/// Called with each new connection of a server.
pub(super) type ClientConnected = Box<dyn Fn(Rc<StreamReaderProtocol>, &Rc<dyn AbstractEventLoop>)>;

pub(super) struct Origin {
    pub(super) event_loop: Weak<dyn AbstractEventLoop>,
    pub(super) limit: usize,
    /// Only servers have one.
    pub(super) client_connected: Option<ClientConnected>,
}

impl Origin {
    pub(super) fn is_server(&self) -> bool {
        self.client_connected.is_some()
    }

    pub(super) fn client_connected(&self, stream: Rc<StreamReaderProtocol>) {
        if let (Some(callback), Some(event_loop)) =
            (&self.client_connected, self.event_loop.upgrade())
        {
            callback(stream, &event_loop);
        }
    }

    pub(super) fn report(&self, context: ExceptionContext) {
        if let Some(event_loop) = self.event_loop.upgrade() {
            event_loop.call_exception_handler(context);
        }
    }
}
