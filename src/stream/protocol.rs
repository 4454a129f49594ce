//! The protocol of a stream: what reader, writer and transport share.
//!
//! ```text
//!   transport ──data_received──▶ inbox ──wake──▶ StreamReader
//!   transport ──pause / resume_writing──▶ flag ──wake──▶ StreamWriter::drain
//!   transport ──connection_lost──▶ error or end ──wake──▶ read, drain, wait_closed
//! ```
//!
//! **Guarantees.** One allocation for each connection, shared by transport, reader and writer, and
//! small: idle connections are many. It holds the transport, which lets go of it when the connection
//! is lost or the loop closed. Nothing is borrowed while a waker or a transport is called.

use super::error::StoredError;
use super::inbox::First;
use super::origin::Origin;
use super::rare::{Rare, Until};
use super::waiters::Place;
use crate::driver::Lease;
use crate::protocol::{BaseProtocol, Protocol, Transport};
use crate::task::{WaitsFor, call_all};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::{Rc, Weak};
use std::task::Waker;

/// The default limit of a reader: 64 KiB.
pub const DEFAULT_LIMIT: usize = 64 * 1024;

/// A reader that was woken may be ahead of its limit by one run of an armed receive; it takes that in
/// its next step, and pausing in between would only cost.
const BURST: usize = 512 * 1024;

/// One fact about a stream.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Flag {
    /// The end of the stream was seen; nothing is fed any more.
    Eof = 1,
    /// An error is stored.
    Failed = 1 << 1,
    /// The reader paused the transport.
    ReadPaused = 1 << 2,
    /// A read waits.
    Reading = 1 << 3,
    /// The reader was dropped: what arrives is dropped.
    ReaderGone = 1 << 4,
    /// The transport asked to stop writing.
    WritePaused = 1 << 5,
    /// `connection_lost` was delivered.
    Lost = 1 << 6,
    /// The waker of a read stands in the first place of the inbox.
    Waiting = 1 << 7,
}

/// Feeds a [`StreamReader`](super::StreamReader) and tells a [`StreamWriter`](super::StreamWriter) of flow control and
/// loss. asyncio: `StreamReaderProtocol`, and the feeding half of `StreamReader`.
///
/// Made by [`StreamReader::new`](super::StreamReader::new) or by a server. Whoever has bytes from
/// elsewhere (another transport, a test) may feed a reader through it by hand.
pub struct StreamReaderProtocol {
    pub(super) origin: Rc<Origin>,
    link: Cell<Link>,
    /// The first place of the inbox; see [`inbox`](super::inbox).
    pub(super) first: Cell<First>,
    pub(super) rare: Cell<Option<Box<Rare>>>,
    /// Bytes fed and not consumed, those the reader has looked at included.
    size: Cell<usize>,
    pub(super) flags: Cell<u8>,
    /// The transport's descriptor, for listings; -1: none.
    fd: Cell<i32>,
}

// Part of the price of an idle connection: with its counts and the allocator's word, 96 bytes.
const _: () = assert!(size_of::<StreamReaderProtocol>() <= 72);

/// What a stream holds on to. One place serves both: the stream itself is needed once, when the transport
/// comes.
enum Link {
    Transport(Rc<dyn Transport>),
    /// No transport came yet.
    Me(Weak<StreamReaderProtocol>),
}

const _: () = assert!(size_of::<Link>() == size_of::<Rc<dyn Transport>>());

impl StreamReaderProtocol {
    pub(super) fn new(origin: Rc<Origin>) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            origin,
            link: Cell::new(Link::Me(me.clone())),
            first: Cell::default(),
            rare: Cell::default(),
            size: Cell::default(),
            flags: Cell::default(),
            fd: Cell::new(-1),
        })
    }

    #[inline]
    pub(super) fn has(&self, flag: Flag) -> bool {
        self.flags.get() & flag as u8 != 0
    }

    #[inline]
    pub(super) fn set(&self, flag: Flag) {
        self.flags.set(self.flags.get() | flag as u8);
    }

    #[inline]
    pub(super) fn clear(&self, flag: Flag) {
        self.flags.set(self.flags.get() & !(flag as u8));
    }

    /// Bytes in the reader.
    pub(super) fn size(&self) -> usize {
        self.size.get()
    }

    /// The transport, once there was one; also after the connection is lost.
    #[inline]
    pub(super) fn transport(&self) -> Option<Rc<dyn Transport>> {
        self.look_at_link(|link| match link {
            Link::Transport(transport) => Some(transport.clone()),
            Link::Me(_) => None,
        })
    }

    /// The stream itself, until a transport came.
    fn me(&self) -> Option<Rc<Self>> {
        self.look_at_link(|link| match link {
            Link::Transport(_) => None,
            Link::Me(me) => me.upgrade(),
        })
    }

    /// `look` runs no code of others.
    #[inline]
    fn look_at_link<R>(&self, look: impl FnOnce(&Link) -> R) -> R {
        let link = self.link.replace(Link::Me(Weak::new()));
        let result = look(&link);
        // What stood there meanwhile needs no drop, which the compiler does not see.
        std::mem::forget(self.link.replace(link));
        result
    }

    /// The transport that is paused when the reader is full. A transport that makes this its protocol
    /// needs no such call.
    pub fn set_transport(&self, transport: Rc<dyn Transport>) {
        transport.with_fd(&mut |fd| self.fd.set(fd.as_raw_fd()));
        drop(self.link.replace(Link::Transport(transport)));
    }

    /// What a wait at this stream waits for, for listings.
    #[inline]
    pub(super) fn waits_for(&self, name: &'static str) -> WaitsFor {
        let fd = self.fd.get();
        WaitsFor::Io { name, fd }
    }

    // --- feeding

    /// Adds data for the reader; none is ignored. Pauses the transport when more than twice the
    /// reader's limit is there.
    ///
    /// # Panics
    /// After [`feed_eof`](Self::feed_eof).
    #[inline]
    pub fn feed_data(&self, data: impl Into<Lease>) {
        let data = data.into();
        if data.is_empty() || self.has(Flag::ReaderGone) {
            return;
        }
        assert!(!self.has(Flag::Eof), "feed_data after feed_eof");
        let reading = self.has(Flag::Reading);
        self.size.set(self.size.get() + data.len());
        if let Some(waker) = self.push(data, reading) {
            waker.wake();
        }
        let size = self.size.get();
        if size > self.origin.limit.saturating_mul(2) {
            self.pause_reading(size, reading);
        }
    }

    #[cold]
    fn pause_reading(&self, size: usize, reading: bool) {
        let excess = size - self.origin.limit.saturating_mul(2);
        if self.has(Flag::ReadPaused) || (reading && excess <= BURST) {
            return;
        }
        if let Some(transport) = self.transport() {
            self.set(Flag::ReadPaused);
            transport.pause_reading();
        }
    }

    /// Marks the end of the stream: reads give what is left, then nothing.
    pub fn feed_eof(&self) {
        self.set(Flag::Eof);
        self.wake();
    }

    /// Stores an error for good: the read that waits and all later ones fail with it, even if there
    /// is data.
    pub fn set_exception(&self, error: io::Error) {
        let old = self.with_rare(|rare| rare.error.replace(StoredError::new(error)));
        drop(old);
        self.set(Flag::Failed);
        self.wake();
    }

    /// The stored error.
    pub fn exception(&self) -> Option<io::Error> {
        let failed = self.has(Flag::Failed);
        failed.then(|| self.with_rare(|rare| rare.error.as_ref().map(StoredError::again)))?
    }

    #[inline]
    fn wake(&self) {
        if let Some(waker) = self.take_waker() {
            waker.wake();
        }
    }

    // --- for the reader

    /// A read that found nothing waits from now on. What made the waker may have fed something: then it
    /// is woken at once.
    #[inline]
    pub(super) fn await_data(&self, waker: Waker) {
        if self.has(Flag::Eof) || self.has(Flag::Failed) || !self.is_empty() {
            return waker.wake();
        }
        self.put_waker(waker);
        if self.has(Flag::ReadPaused) {
            self.resume_reading();
        }
    }

    /// No read waits any more.
    #[inline]
    pub(super) fn stop_awaiting_data(&self) {
        drop(self.take_waker());
        self.clear(Flag::Reading);
    }

    /// The reader gave `n` bytes away.
    #[inline]
    pub(super) fn consumed(&self, n: usize) {
        let size = self.size.get() - n;
        self.size.set(size);
        if self.has(Flag::ReadPaused) && size <= self.origin.limit {
            self.resume_reading();
        }
    }

    #[cold]
    fn resume_reading(&self) {
        self.clear(Flag::ReadPaused);
        if let Some(transport) = self.transport() {
            transport.resume_reading();
        }
    }

    /// Nobody will read any more: what arrives is dropped, so that the loss of the connection is
    /// still noticed.
    pub(super) fn reader_gone(&self) {
        self.set(Flag::ReaderGone);
        self.stop_awaiting_data();
        self.size.set(0);
        self.drop_unread();
        if self.has(Flag::ReadPaused) {
            self.resume_reading();
        }
    }

    // --- for the writer

    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.transport()
            .is_none_or(|transport| transport.is_closing())
    }

    /// `waker` is woken when that is the case.
    pub(super) fn stay(&self, until: Until, place: &mut Place, waker: &Waker) {
        let waker = waker.clone();
        let old = self.with_rare(|rare| rare.waiters(until).stay(place, waker));
        drop(old);
    }

    /// Nobody waits in this place any more.
    pub(super) fn leave(&self, until: Until, place: &mut Place) {
        let old = self.with_rare(|rare| rare.waiters(until).leave(place));
        drop(old);
    }

    fn wake_all(&self, until: Until) {
        if let Some(mut rare) = self.rare.take() {
            let mut waiting = rare.waiters(until).take();
            self.rare.set(Some(rare));
            call_all(waiting.drain(..), |(_, waker)| waker.wake());
            self.with_rare(|rare| rare.waiters(until).reuse(waiting));
        }
    }
}

impl BaseProtocol for StreamReaderProtocol {
    /// On a server, calls the client callback and makes a task of what it returns.
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        let me = self.me();
        self.set_transport(transport);
        if let Some(me) = me {
            let origin = self.origin.clone();
            origin.client_connected(me);
        }
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.set(Flag::Lost);
        match error {
            Some(error) => self.set_exception(error),
            None => self.feed_eof(),
        }
        call_all([Until::Drained, Until::Closed], |until| {
            self.wake_all(until)
        });
    }

    fn pause_writing(&self) {
        self.set(Flag::WritePaused);
    }

    fn resume_writing(&self) {
        self.clear(Flag::WritePaused);
        self.wake_all(Until::Drained);
    }
}

impl Protocol for StreamReaderProtocol {
    #[inline]
    fn data_received(&self, data: Lease) {
        self.feed_data(data);
    }

    /// The stream stays open for writing.
    fn eof_received(&self) -> bool {
        self.feed_eof();
        true
    }
}

impl fmt::Debug for StreamReaderProtocol {
    /// asyncio's text of the reader: what is special about it, in a fixed order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<StreamReader")?;
        if self.size() > 0 {
            write!(f, " {} bytes", self.size())?;
        }
        if self.has(Flag::Eof) {
            f.write_str(" eof")?;
        }
        if self.origin.limit != DEFAULT_LIMIT {
            write!(f, " limit={}", self.origin.limit)?;
        }
        if self.has(Flag::Reading) {
            f.write_str(" waiter")?;
        }
        if let Some(error) = self.exception() {
            write!(f, " exception={error:?}")?;
        }
        if let Some(transport) = self.transport() {
            match transport.get_extra_info("peername") {
                Some(crate::protocol::ExtraInfo::Address(peer)) => write!(f, " transport={peer}")?,
                _ => f.write_str(" transport")?,
            }
        }
        if self.has(Flag::ReadPaused) {
            f.write_str(" paused")?;
        }
        f.write_str(">")
    }
}
