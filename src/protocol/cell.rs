//! `&mut self` for protocols that want it.

use super::callbacks::{BaseProtocol, Protocol};
use super::transport::Transport;
use crate::driver::Lease;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// The callbacks of a protocol, with `&mut self`; made a [`Protocol`] by [`ProtocolCell`].
///
/// A write may cause [`pause_writing`](Self::pause_writing) while another callback runs, which may be
/// [`resume_writing`](Self::resume_writing); that call is delivered right after the running callback
/// returned, or, where that panicked, before the next one.
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
    /// Calls of pause (`true`) and resume that were not delivered yet, in order: those that came while a
    /// callback ran.
    late: RefCell<VecDeque<bool>>,
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
        self.catch_up();
        let result = f(&mut self.protocol.borrow_mut());
        self.catch_up();
        result
    }

    fn flow(&self, pause: bool) {
        self.late.borrow_mut().push_back(pause);
        self.catch_up();
    }

    /// Delivers what was not, unless a callback runs.
    fn catch_up(&self) {
        while let Ok(mut protocol) = self.protocol.try_borrow_mut() {
            let next = self.late.borrow_mut().pop_front();
            match next {
                Some(true) => protocol.pause_writing(),
                Some(false) => protocol.resume_writing(),
                None => return,
            }
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
