//! The reader.

use super::error::IncompleteReadError;
use super::head::Head;
use super::origin::Origin;
use super::protocol::{Flag, StreamReaderProtocol};
use super::read::Read;
use crate::driver::Lease;
use crate::event_loop::{AbstractEventLoop, try_get_running_loop};
use std::fmt;
use std::future::Future;
use std::io;
use std::rc::Rc;

/// Reads a stream of bytes. asyncio: `StreamReader`.
///
/// **Errors.** Every read fails with the error that ended the connection, also when data from before
/// it is still there, and with [`Cancelled`](crate::task::Cancelled) when its task is cancelled.
///
/// **Cancellation.** A read that is cancelled, or whose future is dropped, takes no byte: the next
/// read finds everything.
///
/// **One reader.** asyncio refuses a second coroutine that would have to wait for data; here reading
/// needs `&mut self`, so there is none.
///
/// **Flow control.** The reader stops the transport when more than twice its limit (64 KiB by
/// default) waits here, and lets it go on at the limit, or when a read has to wait.
pub struct StreamReader {
    pub(super) stream: Rc<StreamReaderProtocol>,
    pub(super) head: Head,
}

impl StreamReader {
    /// A reader of the running loop. Make its [`protocol`](Self::protocol) that of a transport, or
    /// feed it by hand.
    ///
    /// # Errors
    /// `InvalidInput` when `limit` is 0; no running loop.
    pub fn new(limit: usize) -> io::Result<Self> {
        Self::on_loop(limit, &try_get_running_loop()?)
    }

    /// A reader of a loop that need not run yet.
    ///
    /// # Errors
    /// `InvalidInput` when `limit` is 0.
    pub fn on_loop(limit: usize, event_loop: &Rc<dyn AbstractEventLoop>) -> io::Result<Self> {
        check_limit(limit)?;
        let origin = Origin {
            event_loop: Rc::downgrade(event_loop),
            limit,
            client_connected: None,
        };
        Ok(Self::of(StreamReaderProtocol::new(Rc::new(origin))))
    }

    /// The one reader of `stream`.
    pub(super) fn of(stream: Rc<StreamReaderProtocol>) -> Self {
        Self {
            stream,
            head: Head::default(),
        }
    }

    /// What feeds this reader.
    pub fn protocol(&self) -> Rc<StreamReaderProtocol> {
        self.stream.clone()
    }

    /// The limit in bytes: of what [`readuntil`](Self::readuntil) looks through, and half of what may
    /// wait here before the transport is paused.
    pub fn limit(&self) -> usize {
        self.stream.origin.limit
    }

    /// How many bytes have arrived and were not read.
    pub fn buffered(&self) -> usize {
        self.stream.size()
    }

    /// Whether the stream has ended and everything was read.
    pub fn at_eof(&self) -> bool {
        self.stream.has(Flag::Eof) && self.stream.size() == 0
    }

    /// The error that ended the connection.
    pub fn exception(&self) -> Option<io::Error> {
        self.stream.exception()
    }

    /// Reads what is there, at most `n` bytes; waits only when nothing is. Empty at the end of the
    /// stream, or when `n` is 0.
    ///
    /// # Errors
    /// See the type.
    pub fn read(&mut self, n: usize) -> impl Future<Output = io::Result<Vec<u8>>> {
        Read::new(self, move |reader| {
            let there = reader.stream.size();
            if there > 0 || n == 0 || reader.stream.has(Flag::Eof) {
                Some(Ok(reader.take_vec(n.min(there))))
            } else {
                None
            }
        })
    }

    /// Reads until the end of the stream, whatever the limit. asyncio: `read(-1)`.
    ///
    /// # Errors
    /// See the type.
    pub fn read_to_end(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> {
        Read::new(self, |reader| {
            if reader.stream.has(Flag::Eof) {
                return Some(Ok(reader.take_vec(reader.stream.size())));
            }
            reader.look_at_all();
            None
        })
    }

    /// Reads exactly `n` bytes, whatever the limit.
    ///
    /// # Errors
    /// See the type; [`IncompleteReadError`], with what was there, when the stream ends before.
    pub fn readexactly(&mut self, n: usize) -> impl Future<Output = io::Result<Vec<u8>>> {
        Read::new(self, move |reader| {
            let there = reader.stream.size();
            if there >= n {
                return Some(Ok(reader.take_vec(n)));
            }
            if reader.stream.has(Flag::Eof) {
                let partial = reader.take_vec(there);
                return Some(Err(IncompleteReadError {
                    partial,
                    expected: Some(n),
                }
                .into()));
            }
            reader.look_at_all();
            None
        })
    }

    /// Reads what is there, up to the length of `to`, into it: how many bytes; 0 at the end of the
    /// stream. Waits only when nothing is there.
    ///
    /// # Errors
    /// See the type.
    pub fn read_into(&mut self, to: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        Read::new(self, move |reader| {
            if reader.stream.size() > 0 || to.is_empty() {
                Some(Ok(reader.copy_to(to)))
            } else {
                reader.stream.has(Flag::Eof).then_some(Ok(0))
            }
        })
    }

    /// Takes what was received as it was received: the buffer that the kernel filled, without a copy
    /// and without an allocation. `None` at the end of the stream.
    ///
    /// Give it to [`write_lease`](super::StreamWriter::write_lease), or drop it soon: it is one of
    /// the few buffers that all connections of the loop share.
    ///
    /// # Errors
    /// See the type.
    #[inline]
    pub fn read_lease(&mut self) -> impl Future<Output = io::Result<Option<Lease>>> {
        Read::new(self, |reader| {
            let lease = if reader.head.is_empty() {
                match reader.stream.pop() {
                    Some(lease) => lease,
                    None => return reader.stream.has(Flag::Eof).then_some(Ok(None)),
                }
            } else {
                reader.head.take_lease()
            };
            reader.stream.consumed(lease.len());
            Some(Ok(Some(lease)))
        })
    }

    /// What is there, without taking it: the bytes of one received buffer, or of what
    /// [`fill_more`](Self::fill_more) put together. Waits only when nothing is there; empty at the
    /// end of the stream. [`consume`](Self::consume) takes what was used.
    ///
    /// # Errors
    /// See the type.
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.head.is_empty() {
            Read::new(self, |reader| {
                if reader.look_at_more() || reader.stream.has(Flag::Eof) {
                    Some(Ok(()))
                } else {
                    None
                }
            })
            .await?;
        } else if let Some(error) = self.stream.exception() {
            return Err(error);
        }
        Ok(self.head.as_slice())
    }

    /// Waits until more is there than [`fill_buf`](Self::fill_buf) returned last, and returns all of
    /// it in one piece. What comes back is not longer than before at the end of the stream.
    ///
    /// How much is put together is not limited here: bound it by the length you were given.
    ///
    /// # Errors
    /// See the type.
    pub async fn fill_more(&mut self) -> io::Result<&[u8]> {
        Read::new(self, |reader| {
            if reader.look_at_more() || reader.stream.has(Flag::Eof) {
                Some(Ok(()))
            } else {
                None
            }
        })
        .await?;
        Ok(self.head.as_slice())
    }

    /// Takes the first `n` bytes of what [`fill_buf`](Self::fill_buf) returned.
    ///
    /// # Panics
    /// When it returned fewer.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.head.consume(n);
        self.stream.consumed(n);
    }

    // --- the buffer: head first, inbox behind it

    /// Moves one piece of the inbox to the head; false when there is none.
    #[inline]
    fn look_at_more(&mut self) -> bool {
        let lease = self.stream.pop();
        lease.is_some_and(|lease| {
            self.head.push(lease);
            true
        })
    }

    /// Moves all of the inbox to the head.
    pub(super) fn look_at_all(&mut self) {
        while self.look_at_more() {}
    }

    /// Moves bytes to `to`, as many as both have.
    fn copy_to(&mut self, to: &mut [u8]) -> usize {
        let mut n = 0;
        while n < to.len() {
            if self.head.is_empty() {
                match self.stream.pop() {
                    Some(lease) if lease.len() <= to.len() - n => {
                        to[n..n + lease.len()].copy_from_slice(&lease);
                        n += lease.len();
                        continue;
                    }
                    Some(lease) => self.head.push(lease),
                    None => break,
                }
            }
            n += self.head.read_into(&mut to[n..]);
        }
        self.stream.consumed(n);
        n
    }

    /// Takes `n` bytes, which are there.
    pub(super) fn take_vec(&mut self, n: usize) -> Vec<u8> {
        if n == self.head.len() {
            let bytes = self.head.take_vec();
            self.stream.consumed(n);
            return bytes;
        }
        let mut bytes = vec![0; n];
        self.copy_to(&mut bytes);
        bytes
    }
}

/// # Errors
/// `InvalidInput` for 0.
pub(super) fn check_limit(limit: usize) -> io::Result<()> {
    if limit == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "Limit cannot be <= 0",
        ));
    }
    Ok(())
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.stream.reader_gone();
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}
