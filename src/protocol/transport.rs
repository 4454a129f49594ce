//! The transport interface.

use super::callbacks::ProtocolKind;
use super::flow::{InvalidLimits, WriteLimits};
use crate::driver::Chunk;
use crate::sys::names;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// The address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6.
    Inet(SocketAddr),
    /// A Unix socket bound to a path.
    Unix(PathBuf),
    /// A Unix socket with an abstract name (without the leading NUL byte).
    UnixAbstract(Vec<u8>),
    /// A Unix socket without a name.
    UnixUnnamed,
}

impl Address {
    /// The IP address and port, if it is one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(addr) => Some(*addr),
            _ => None,
        }
    }
}

impl From<names::Name> for Address {
    fn from(name: names::Name) -> Self {
        match name {
            names::Name::Inet(addr) => Self::Inet(addr),
            names::Name::Path(path) => Self::Unix(path),
            names::Name::Abstract(name) => Self::UnixAbstract(name),
            names::Name::Unnamed => Self::UnixUnnamed,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(addr) => addr.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::UnixAbstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Self::UnixUnnamed => f.write_str("(unnamed)"),
        }
    }
}

/// A fact about a transport, by name; see [`Transport::get_extra_info`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraInfo {
    /// `sockname`, `peername`.
    Address(Address),
    /// `socket`: the number of the descriptor, -1 once the transport has closed it. For use through
    /// [`Transport::with_fd`].
    Socket(i32),
}

/// A connection as the program sees it. asyncio: `Transport`.
///
/// All methods may be called at any time, from any callback, also after the connection is lost:
/// they never block and hold no borrow while a protocol's callback runs.
pub trait Transport {
    /// A fact by its asyncio name: `socket`, `sockname`, `peername` for stream sockets. `None` for
    /// a name this transport does not know, or a value the system did not give. Addresses stay
    /// readable after the close.
    fn get_extra_info(&self, name: &str) -> Option<ExtraInfo>;

    /// Calls `f` with the descriptor, while there is one, to set an option or the like. Reading,
    /// writing or closing it behind the transport's back breaks the stream.
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>));

    /// Whether the transport is closing or closed.
    fn is_closing(&self) -> bool;

    /// Closes the transport: reading stops at once, what was written before is still sent, then
    /// `connection_lost(None)` is called. Writes after it are dropped.
    fn close(&self);

    /// Closes at once: what was not sent is dropped. `connection_lost(None)` follows.
    fn abort(&self);

    /// Replaces the protocol; takes effect with the next callback.
    fn set_protocol(&self, protocol: ProtocolKind);

    /// The protocol; `None` once the connection is lost.
    fn get_protocol(&self) -> Option<ProtocolKind>;

    /// Whether the transport is neither closing nor paused.
    fn is_reading(&self) -> bool;

    /// Stops `data_received` and `eof_received` until [`resume_reading`](Self::resume_reading); the
    /// peer feels TCP's back-pressure. Harmless when paused or closed.
    fn pause_reading(&self);

    /// Undoes [`pause_reading`](Self::pause_reading). What arrived meanwhile is delivered in order.
    fn resume_reading(&self);

    /// Sets the water marks; see [`WriteLimits::new`]. Pauses the protocol at once if its queue is
    /// above the new high mark; never resumes it.
    ///
    /// # Errors
    /// When `low` is above `high`.
    fn set_write_buffer_limits(
        &self,
        high: Option<usize>,
        low: Option<usize>,
    ) -> Result<(), InvalidLimits>;

    /// The water marks.
    fn get_write_buffer_limits(&self) -> WriteLimits;

    /// Bytes that were written and not yet taken by the socket. What it is just being asked to take
    /// counts as taken until it says otherwise.
    fn get_write_buffer_size(&self) -> usize;

    /// Queues a copy of `data` to be sent. Never blocks; see the water marks for back-pressure. What
    /// is written during one iteration of the loop goes out together. After the connection was lost
    /// data is dropped; the loss is reported once by `connection_lost`.
    ///
    /// # Errors
    /// After [`write_eof`](Self::write_eof).
    fn write(&self, data: &[u8]) -> io::Result<()>;

    /// As [`write`](Self::write), without a copy: a received lease, `Bytes`, or a vector.
    ///
    /// # Errors
    /// After [`write_eof`](Self::write_eof).
    fn write_chunk(&self, chunk: Chunk) -> io::Result<()>;

    /// Queues several pieces, in order, as one write. Joins them, unless the transport knows better.
    ///
    /// # Errors
    /// After [`write_eof`](Self::write_eof).
    fn writelines(&self, pieces: Vec<Chunk>) -> io::Result<()> {
        let mut joined = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            joined.extend_from_slice(&piece);
        }
        self.write_chunk(joined.into())
    }

    /// Ends the writing direction after what was written; reading goes on. Harmless when closing or
    /// when called twice.
    ///
    /// # Errors
    /// `Unsupported` where [`can_write_eof`](Self::can_write_eof) is false.
    fn write_eof(&self) -> io::Result<()>;

    /// Whether [`write_eof`](Self::write_eof) is supported.
    fn can_write_eof(&self) -> bool;
}
