//! What a transport calls.

use super::transport::Transport;
use crate::driver::Lease;
use std::io;
use std::rc::Rc;

/// Callbacks that every protocol has. asyncio: `BaseProtocol`. The defaults do nothing.
///
/// All are called in the loop's thread. A panic in [`connection_made`](Self::connection_made),
/// [`pause_writing`](Self::pause_writing), [`resume_writing`](Self::resume_writing) or
/// [`connection_lost`](Self::connection_lost) is reported to the loop's exception handler and the
/// transport goes on; one in a callback that receives data is fatal to the connection.
pub trait BaseProtocol: 'static {
    /// The connection stands. Called once, before any other callback.
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        let _ = transport;
    }

    /// The connection is gone, for ever. Called once, after every other callback. `error` is `None`
    /// after a close, an abort or an end of stream, and the cause otherwise.
    fn connection_lost(&self, error: Option<io::Error>) {
        let _ = error;
    }

    /// The bytes that wait to be sent went above the high-water mark. Called inside
    /// [`Transport::write`].
    fn pause_writing(&self) {}

    /// The bytes that wait to be sent fell to the low-water mark or below.
    fn resume_writing(&self) {}
}

/// A protocol that is handed what was received. asyncio: `Protocol`.
pub trait Protocol: BaseProtocol {
    /// Bytes arrived: never none. The lease is the buffer the kernel filled; drop it soon, or give
    /// it to [`Transport::write_chunk`], or keep a copy.
    fn data_received(&self, data: Lease);

    /// The peer will send no more. Called at most once. Returning `false` (the default) closes the
    /// transport; `true` keeps it open for writing.
    fn eof_received(&self) -> bool {
        false
    }
}

/// A protocol that lends its own memory to receive into. asyncio: `BufferedProtocol`.
///
/// A buffer is moved out and back, so no borrow of the protocol lasts between the two calls.
pub trait BufferedProtocol: BaseProtocol {
    /// A buffer to receive into, of the length that may be filled; empty ones are fatal to the
    /// connection. `size_hint` is how many bytes wait, if that is known.
    fn get_buffer(&self, size_hint: Option<usize>) -> Vec<u8>;

    /// The first `n` bytes of `buffer`, which came from [`get_buffer`](Self::get_buffer), were
    /// filled.
    fn buffer_updated(&self, buffer: Vec<u8>, n: usize);

    /// As [`Protocol::eof_received`].
    fn eof_received(&self) -> bool {
        false
    }
}

/// A protocol of either kind, as a transport holds it.
#[derive(Clone)]
pub enum ProtocolKind {
    /// Is handed received leases.
    Stream(Rc<dyn Protocol>),
    /// Lends buffers.
    Buffered(Rc<dyn BufferedProtocol>),
}

impl ProtocolKind {
    /// The callbacks both kinds have.
    pub fn base(&self) -> &dyn BaseProtocol {
        match self {
            Self::Stream(protocol) => &**protocol,
            Self::Buffered(protocol) => &**protocol,
        }
    }

    /// `eof_received` of either kind.
    pub fn eof_received(&self) -> bool {
        match self {
            Self::Stream(protocol) => protocol.eof_received(),
            Self::Buffered(protocol) => protocol.eof_received(),
        }
    }
}

impl<P: Protocol> From<Rc<P>> for ProtocolKind {
    fn from(protocol: Rc<P>) -> Self {
        Self::Stream(protocol)
    }
}
