//! `&mut self` for protocols that want it.

use super::callbacks::{BaseProtocol, Protocol};
use super::transport::Transport;
use crate::driver::Lease;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// The callbacks of a protocol, with `&mut self`; made a [`Protocol`] by [`ProtocolCell`].
///
/// `write` may call [`pause_writing`](Self::pause_writing) while another callback runs; that call
/// is delivered right after the running callback returned.
pub trait ProtocolMut: 'static {
    /// As [`BaseProtocol::connection_made`].
    fn connection_made(&mut self, transport: Rc<dyn Transport>) {
        let _ = transport;
    }
    /// As [`Protocol::data_received`].
    fn data_received(&mut self, data: Lease);
    /// As [`Protocol::eof_received`].
    fn eof_received(&mut self) -> bool {
        false
    }
    /// As [`BaseProtocol::connection_lost`].
    fn connection_lost(&mut self, error: Option<io::Error>) {
        let _ = error;
    }
    /// As [`BaseProtocol::pause_writing`].
    fn pause_writing(&mut self) {}
    /// As [`BaseProtocol::resume_writing`].
    fn resume_writing(&mut self) {}
}

/// Adapts a [`ProtocolMut`].
pub struct ProtocolCell<P> {
    protocol: RefCell<P>,
    /// Calls of pause (`true`) and resume that came while a callback ran.
    late: RefCell<Vec<bool>>,
}

impl<P: ProtocolMut> ProtocolCell<P> {
    /// Wraps a protocol.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol: RefCell::new(protocol),
            late: RefCell::default(),
        }
    }

    fn call<R>(&self, f: impl FnOnce(&mut P) -> R) -> R {
        let result = f(&mut self.protocol.borrow_mut());
        loop {
            let late = std::mem::take(&mut *self.late.borrow_mut());
            if late.is_empty() {
                return result;
            }
            for pause in late {
                self.flow(pause);
            }
        }
    }

    fn flow(&self, pause: bool) {
        match self.protocol.try_borrow_mut() {
            Ok(mut protocol) if pause => protocol.pause_writing(),
            Ok(mut protocol) => protocol.resume_writing(),
            Err(_) => self.late.borrow_mut().push(pause),
        }
    }
}

impl<P: ProtocolMut> BaseProtocol for ProtocolCell<P> {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.call(|protocol| protocol.connection_made(transport));
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.call(|protocol| protocol.connection_lost(error));
    }

    fn pause_writing(&self) {
        self.flow(true);
    }

    fn resume_writing(&self) {
        self.flow(false);
    }
}

impl<P: ProtocolMut> Protocol for ProtocolCell<P> {
    fn data_received(&self, data: Lease) {
        self.call(|protocol| protocol.data_received(data));
    }

    fn eof_received(&self) -> bool {
        self.call(ProtocolMut::eof_received)
    }
}
