//! The writer.

use super::drain::{Closed, Drain};
use super::protocol::StreamReaderProtocol;
use crate::driver::{Chunk, Lease};
use crate::event_loop::ExceptionContext;
use crate::protocol::{ExtraInfo, Transport};
use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;

/// Writes a stream of bytes. asyncio: `StreamWriter`.
///
/// Writing never waits and what is written during one iteration of the loop goes out together;
/// [`drain`](Self::drain) waits for a slow peer. All methods take `&self`: share a writer between
/// tasks with `Rc`.
///
/// **Dropped** while it is open, it closes the transport: what was written is still sent. That is the
/// end of a connection whose client callback returns; a writer of
/// [`open_connection`](super::open_connection) that is dropped open is reported as "unclosed
/// StreamWriter", because nobody can learn any more whether the bytes arrived. (In debug mode those of
/// servers are reported as well.)
pub struct StreamWriter {
    /// Its transport is set.
    stream: Rc<StreamReaderProtocol>,
}

impl StreamWriter {
    /// The writer on a transport whose protocol is `stream`.
    pub fn new(transport: Rc<dyn Transport>, stream: Rc<StreamReaderProtocol>) -> Self {
        stream.set_transport(transport);
        Self { stream }
    }

    /// The writer of a stream that was connected.
    pub(super) fn of(stream: Rc<StreamReaderProtocol>) -> Self {
        Self { stream }
    }

    /// The transport.
    #[inline]
    pub fn transport(&self) -> Rc<dyn Transport> {
        let transport = self.stream.transport();
        transport.expect("a writer is made when there is a transport")
    }

    /// Queues a copy of `data` to be sent. After the connection was lost, data is dropped.
    ///
    /// # Errors
    /// After [`write_eof`](Self::write_eof).
    #[inline]
    pub fn write(&self, data: &[u8]) -> io::Result<()> {
        self.transport().write(data)
    }

    /// As [`write`](Self::write), without a copy: sends a received buffer from where it was received.
    ///
    /// # Errors
    /// After [`write_eof`](Self::write_eof).
    #[inline]
    pub fn write_lease(&self, lease: Lease) -> io::Result<()> {
        self.transport().write_chunk(Chunk::Lease(lease))
    }

    /// As [`write`](Self::write), without a copy: `Bytes`, a vector, or a lease.
    ///
    /// # Errors
    /// After [`write_eof`](Self::write_eof).
    #[inline]
    pub fn write_chunk(&self, chunk: impl Into<Chunk>) -> io::Result<()> {
        self.transport().write_chunk(chunk.into())
    }

    /// Queues several pieces, in order, without a copy.
    ///
    /// # Errors
    /// After [`write_eof`](Self::write_eof).
    pub fn writelines<C: Into<Chunk>>(
        &self,
        pieces: impl IntoIterator<Item = C>,
    ) -> io::Result<()> {
        self.transport()
            .writelines(pieces.into_iter().map(Into::into).collect())
    }

    /// Ends the writing direction after what was written; reading goes on.
    ///
    /// # Errors
    /// `Unsupported` where [`can_write_eof`](Self::can_write_eof) is false.
    pub fn write_eof(&self) -> io::Result<()> {
        self.transport().write_eof()
    }

    /// Whether [`write_eof`](Self::write_eof) is supported.
    pub fn can_write_eof(&self) -> bool {
        self.transport().can_write_eof()
    }

    /// Closes the stream: reading stops at once, what was written is still sent. Wait with
    /// [`wait_closed`](Self::wait_closed) to learn how that ended.
    pub fn close(&self) {
        self.transport().close();
    }

    /// Whether the stream is closing or closed.
    pub fn is_closing(&self) -> bool {
        self.stream.is_closing()
    }

    /// Waits until the connection is lost; may be called before [`close`](Self::close).
    ///
    /// # Errors
    /// The error that ended the connection; [`Cancelled`](crate::task::Cancelled), which changes
    /// nothing about the connection.
    pub fn wait_closed(&self) -> impl Future<Output = io::Result<()>> {
        Closed::new(&self.stream)
    }

    /// A fact about the transport, by its asyncio name: `socket`, `sockname`, `peername`.
    pub fn get_extra_info(&self, name: &str) -> Option<ExtraInfo> {
        self.transport().get_extra_info(name)
    }

    /// Waits until the peer has taken enough of what was written: while more than the transport's
    /// high-water mark waits, until it is down at the low-water mark. Does not suspend otherwise, nor
    /// when it is called by any number of tasks at the same time.
    ///
    /// # Errors
    /// The error that ended the connection; `ConnectionReset` ("Connection lost") when it ended
    /// without one; [`Cancelled`](crate::task::Cancelled), which changes nothing about what was
    /// written. On a closing stream it gives way for one iteration first, so that a loop of writing
    /// and draining learns of the loss.
    #[inline]
    pub fn drain(&self) -> impl Future<Output = io::Result<()>> {
        Drain::new(&self.stream)
    }
}

impl StreamWriter {
    /// Says that it was dropped open, where that is not the usual end.
    #[cold]
    fn report_unclosed(&self) {
        let origin = &self.stream.origin;
        let Some(event_loop) = origin.event_loop.upgrade() else {
            return;
        };
        // Where a panic drops the writer, the panic is what is reported.
        if std::thread::panicking() || (origin.is_server() && !event_loop.get_debug()) {
            return;
        }
        let text = if event_loop.is_closed() {
            "loop is closed".to_owned()
        } else {
            format!("unclosed {self:?}")
        };
        let mut context = ExceptionContext::new(text);
        context.transport = Some(self.transport());
        event_loop.call_exception_handler(context);
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.stream.is_closing() {
            self.report_unclosed();
            self.transport().close();
        }
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<StreamWriter transport=")?;
        match self.get_extra_info("peername") {
            Some(ExtraInfo::Address(peer)) => write!(f, "{peer}")?,
            _ => f.write_str("?")?,
        }
        write!(f, " reader={:?}>", self.stream)
    }
}
