//! The stream socket transport: TCP and Unix.
//!
//! ```text
//!              connection_made
//!   Made ───────────────────────▶ Open ──close──▶ Flushing ──all sent──▶ Lost ──▶ (descriptor closed)
//!                                  │  └─eof, eof_received() = false─▶ as close │
//!                                  └──────── abort, error, panic in a callback ┘ what is unsent is dropped
//! ```
//!
//! **Guarantees.** `connection_made` once, before everything; `connection_lost` once, queued, after
//! everything; no borrow is held while a callback runs. Receiving is in [`receive`](super::receive),
//! sending in [`send`](super::send); this file holds the state and the end.
//!
//! **Differences from asyncio's selector transport**, chosen as the contract allows: writes after
//! `close()` are dropped even while it flushes (as the proactor does), except those made inside
//! `resume_writing`; and the end of the stream is delivered at most once.

use super::flags::{Flag, Flags};
use super::key_cell::KeyCell;
use super::rare::Rare;
use crate::driver::{Chunk, Complete, Event, Fd, Gather, Key, Lease, Op};
use crate::event_loop::{
    AtIterationEnd, Connections, Core, ExceptionContext, LoopClosed, SocketParts, Start, panic_text,
};
use crate::protocol::{
    Address, ExtraInfo, InvalidLimits, Protocol, ProtocolKind, Transport, WriteLimits,
};
use crate::sys::names;
use crate::task::is_loop_exit;
use std::any::Any;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::{Rc, Weak};

/// See the module.
pub(super) struct SocketTransport {
    /// Where it stands, and the loop's core.
    home: Rc<Connections>,
    pub(super) flags: Flags,
    fd: Cell<Option<Fd>>,
    /// The protocol, if it is handed leases; one that lends buffers is among what is rare.
    protocol: Cell<Option<Rc<dyn Protocol>>>,
    /// The armed multishot receive.
    pub(super) receive: KeyCell,
    /// What was written and is not submitted.
    pub(super) pending: Cell<Option<Box<Gather>>>,
    pub(super) rare: Cell<Option<Box<Rare>>>,
    /// Its number at home.
    number: Cell<u32>,
    me: Weak<Self>,
}

// Part of the price of an idle connection: with its counts and the allocator's word, 96 bytes.
const _: () = assert!(size_of::<SocketTransport>() <= 72);

/// Stands nowhere.
const NOWHERE: u32 = u32::MAX;

/// Writes dropped after the loss before a warning is reported.
const LOSS_WARNING: u32 = 5;

impl SocketTransport {
    /// A transport on a connected socket; `connection_made`, the start of reading and `made` are
    /// queued.
    pub(super) fn make(parts: SocketParts) -> Rc<Self> {
        let SocketParts {
            connections: home,
            socket,
            protocol,
            made,
            peer,
            accepted,
            ..
        } = parts;
        if !accepted {
            // Accepted sockets inherit it from their listener.
            names::set_nodelay(socket.as_fd());
        }
        let this = Rc::new_cyclic(|me: &Weak<Self>| Self {
            home,
            flags: Flags::default(),
            fd: Cell::new(Some(socket)),
            protocol: Cell::default(),
            receive: KeyCell::none(),
            pending: Cell::default(),
            rare: Cell::default(),
            number: Cell::new(NOWHERE),
            me: me.clone(),
        });
        drop(this.put_protocol(Some(protocol)));
        if peer.is_some() {
            this.with_rare(|rare| rare.peer = peer);
        }
        this.number.set(this.home.remember(this.me.clone()));
        let Some(made) = made else {
            this.core().start_soon(this.clone());
            return this;
        };
        let transport = this.clone();
        this.core().defer(move || transport.connected());
        let transport = this.clone();
        // A callback of its own: it runs even when `connection_made` leaves the loop.
        this.core().defer(move || {
            transport.start_reading();
            made();
        });
        this
    }

    fn start_reading(self: &Rc<Self>) {
        self.flags.set(Flag::Started);
        self.arm_receive();
    }

    fn connected(self: &Rc<Self>) {
        if let Some(protocol) = self.protocol() {
            let transport: Rc<dyn Transport> = self.clone();
            // The transport stays open after a panic here, as asyncio's does.
            self.call("Exception in callback connection_made", || {
                protocol.base().connection_made(transport);
            });
        }
    }

    #[inline(always)]
    pub(super) fn core(&self) -> &Rc<Core> {
        self.home.core()
    }

    #[inline]
    pub(super) fn me(&self) -> Option<Rc<Self>> {
        self.me.upgrade()
    }

    /// The descriptor, until the transport has closed it.
    #[inline]
    pub(super) fn fd(&self) -> Option<Fd> {
        let fd = self.fd.take();
        self.fd.set(fd.clone());
        fd
    }

    #[inline]
    pub(super) fn protocol(&self) -> Option<ProtocolKind> {
        let Some(protocol) = self.protocol.take() else {
            return self.buffered_protocol();
        };
        self.protocol.set(Some(protocol.clone()));
        Some(ProtocolKind::Stream(protocol))
    }

    #[cold]
    fn buffered_protocol(&self) -> Option<ProtocolKind> {
        let buffered = self.rare(|rare| rare.buffered.clone()).flatten();
        buffered.map(ProtocolKind::Buffered)
    }

    /// Replaces the protocol; the old one comes back to be dropped.
    #[must_use = "its destructor is code of others"]
    fn put_protocol(&self, new: Option<ProtocolKind>) -> Option<ProtocolKind> {
        let (stream, buffered) = match new {
            Some(ProtocolKind::Stream(protocol)) => (Some(protocol), None),
            Some(ProtocolKind::Buffered(protocol)) => (None, Some(protocol)),
            None => (None, None),
        };
        let old = self.protocol.replace(stream).map(ProtocolKind::Stream);
        let was = match buffered {
            Some(new) => self.with_rare(|rare| rare.buffered.replace(new)),
            None => self.rare(|rare| rare.buffered.take()).flatten(),
        };
        old.or(was.map(ProtocolKind::Buffered))
    }

    /// Calls a callback; a panic in it is reported and the connection goes on.
    pub(super) fn call<R>(&self, message: &str, callback: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(callback)) {
            Ok(result) => Some(result),
            Err(payload) => {
                self.report_panic(message, payload);
                None
            }
        }
    }

    /// Calls a callback that a panic ends the connection in.
    #[inline]
    pub(super) fn call_or_fail<R>(&self, message: &str, callback: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(callback)) {
            Ok(result) => Some(result),
            Err(payload) => {
                self.fail_by_panic(message, payload);
                None
            }
        }
    }

    #[cold]
    fn fail_by_panic(&self, message: &str, payload: Box<dyn Any + Send>) {
        let error = io::Error::other(panic_text(&*payload).to_owned());
        self.report_panic(message, payload);
        self.force_close(Some(error));
    }

    fn report_panic(&self, message: &str, payload: Box<dyn Any + Send>) {
        if is_loop_exit(&*payload) {
            resume_unwind(payload);
        }
        let mut context = ExceptionContext::panic(message, payload);
        context.transport = self.me().map(|me| me as Rc<dyn Transport>);
        context.protocol = self.protocol();
        self.core().report(context);
    }

    /// An error of the socket: not reported (the protocol hears of it), ends the connection.
    pub(super) fn fail(&self, errno: i32) {
        self.force_close(Some(io::Error::from_raw_os_error(errno)));
    }

    /// A misuse by the protocol: reported, ends the connection.
    pub(super) fn fail_reported(&self, message: &str, error: io::Error) {
        let text = error.to_string();
        let kind = error.kind();
        let mut context = ExceptionContext::error(message, error);
        context.transport = self.me().map(|me| me as Rc<dyn Transport>);
        context.protocol = self.protocol();
        self.core().report(context);
        self.force_close(Some(io::Error::new(kind, text)));
    }

    /// Ends the connection now: what is unsent is dropped, `connection_lost(error)` is queued. Does
    /// nothing when that happened before.
    pub(super) fn force_close(&self, error: Option<io::Error>) {
        self.flags.set(Flag::Closing);
        self.stop_receiving();
        self.stop_sending();
        self.lose(error);
    }

    /// Queues `connection_lost`, once.
    pub(super) fn lose(&self, error: Option<io::Error>) {
        if self.flags.set(Flag::Lost) {
            return;
        }
        let Some(me) = self.me() else { return };
        self.core().defer(move || me.lost(error));
    }

    /// Delivers `connection_lost` and lets go of everything, even when that leaves the loop.
    fn lost(&self, error: Option<io::Error>) {
        let _dispose = Dispose(self);
        if let Some(protocol) = self.protocol() {
            self.call("Exception in callback connection_lost", || {
                protocol.base().connection_lost(error);
            });
        }
    }

    fn dispose(&self) {
        drop(self.put_protocol(None));
        self.drop_held();
        if let Some(key) = self.receive.take() {
            self.core().abandon(key);
        }
        if let Some(fd) = self.fd.take() {
            // Only one who has the transport, besides our caller, can ask for it later.
            if self.me.strong_count() > 1 {
                let fd = Some(fd);
                self.own_address(&fd);
                self.peer_address(&fd);
            }
        }
        let number = self.number.replace(NOWHERE);
        if number != NOWHERE {
            self.home.forget(number);
        }
    }

    /// The socket's own address.
    fn own_address(&self, fd: &Option<Fd>) -> Option<Address> {
        self.address(fd, |rare| &mut rare.own, names::own)
    }

    /// The peer's address. The socket knows it as long as it is open, whatever became of the peer.
    fn peer_address(&self, fd: &Option<Fd>) -> Option<Address> {
        self.address(fd, |rare| &mut rare.peer, names::peer)
    }

    /// What stands in that place, else what the socket says: it is asked until it has answered once.
    fn address(
        &self,
        fd: &Option<Fd>,
        place: fn(&mut Rare) -> &mut Option<Address>,
        ask: fn(BorrowedFd<'_>) -> Option<names::Name>,
    ) -> Option<Address> {
        let known = self.rare(|rare| place(rare).clone()).flatten();
        if known.is_some() {
            return known;
        }
        let said = ask(fd.as_ref()?.as_fd()).map(Address::from);
        if said.is_some() {
            self.with_rare(|rare| place(rare).clone_from(&said));
        }
        said
    }

    /// A write that can not be sent any more is dropped; many of them are reported once.
    pub(super) fn drop_write(&self) {
        let dropped = self.with_rare(|rare| {
            rare.dropped_writes = rare.dropped_writes.saturating_add(1);
            rare.dropped_writes
        });
        if dropped == LOSS_WARNING {
            self.core().report(ExceptionContext::new(
                "data is written to a connection that is closed or lost, and dropped",
            ));
        }
    }
}

/// Lets go of everything, also when a loop exit leaves.
struct Dispose<'a>(&'a SocketTransport);

impl Drop for Dispose<'_> {
    fn drop(&mut self) {
        self.0.dispose();
    }
}

impl Complete for SocketTransport {
    fn complete(self: Rc<Self>, event: Event) {
        self.receive_ended(event);
    }

    fn received(self: Rc<Self>, _: Key, lease: Lease) {
        self.data_arrived(lease);
    }

    fn settled(&self, sent: usize) -> bool {
        self.settle_quietly(sent)
    }

    fn sent(self: Rc<Self>, _: Key, send: Op, result: i32) {
        if let Op::Send { data, inline, .. } = send {
            self.send_settled(data, inline, result);
        }
    }
}

impl Start for SocketTransport {
    fn start(self: Rc<Self>) {
        /// It reads even when `connection_made` leaves the loop.
        struct Read<'a>(&'a Rc<SocketTransport>);
        impl Drop for Read<'_> {
            fn drop(&mut self) {
                self.0.start_reading();
            }
        }
        let _read = Read(&self);
        self.connected();
    }
}

impl LoopClosed for SocketTransport {
    /// Not a close: who dropped it open is told so.
    fn loop_closed(&self) {
        let _dispose = Dispose(self);
        self.flags.set(Flag::Lost);
        let pending = self.pending.take();
        let behind = self.flags.clear(Flag::Sending);
        self.take_waiting();
        let Some(mut gather) = pending else { return };
        // The last iteration sends no more; asyncio's write has sent by then. What waits behind a send
        // that the socket did not take whole is lost with that.
        if !behind && let Some(fd) = self.fd() {
            while gather.total() > 0
                && let Ok(sent @ 1..) = gather.send_now(fd.as_fd())
            {
                gather.advance(sent);
            }
        }
        self.core().give_gather(gather);
    }
}

impl AtIterationEnd for SocketTransport {
    fn iteration_ended(self: Rc<Self>) {
        self.flags.clear(Flag::InEndList);
        self.submit_pending();
    }
}

impl Transport for SocketTransport {
    fn get_extra_info(&self, name: &str) -> Option<ExtraInfo> {
        match name {
            "socket" => {
                let number = self.fd().as_ref().map_or(-1, AsRawFd::as_raw_fd);
                Some(ExtraInfo::Socket(number))
            }
            "peername" => self.peer_address(&self.fd()).map(ExtraInfo::Address),
            "sockname" => self.own_address(&self.fd()).map(ExtraInfo::Address),
            _ => None,
        }
    }

    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        if let Some(fd) = self.fd() {
            f(fd.as_fd());
        }
    }

    fn is_closing(&self) -> bool {
        self.flags.has(Flag::Closing)
    }

    fn close(&self) {
        if self.flags.set(Flag::Closing) {
            return;
        }
        self.stop_receiving();
        if self.is_unsent() {
            self.flush_at_end();
        } else {
            self.lose(None);
        }
    }

    fn abort(&self) {
        self.force_close(None);
    }

    fn set_protocol(&self, protocol: ProtocolKind) {
        // Gone once `connection_lost` was delivered; until then that goes to the new one.
        if self.protocol().is_some() {
            drop(self.put_protocol(Some(protocol)));
        }
    }

    fn get_protocol(&self) -> Option<ProtocolKind> {
        self.protocol()
    }

    fn is_reading(&self) -> bool {
        !self.flags.has_any(Flag::Closing, Flag::ReadPaused)
    }

    fn pause_reading(&self) {
        self.pause();
    }

    fn resume_reading(&self) {
        self.resume();
    }

    fn set_write_buffer_limits(
        &self,
        high: Option<usize>,
        low: Option<usize>,
    ) -> Result<(), InvalidLimits> {
        self.set_limits(WriteLimits::new(high, low)?);
        self.pause_protocol_if_above();
        Ok(())
    }

    fn get_write_buffer_limits(&self) -> WriteLimits {
        self.limits()
    }

    fn get_write_buffer_size(&self) -> usize {
        self.unsent()
    }

    fn write(&self, data: &[u8]) -> io::Result<()> {
        if self.may_write(data.len())? {
            self.gather(|gather| gather.push_copy(data));
        }
        Ok(())
    }

    fn write_chunk(&self, chunk: Chunk) -> io::Result<()> {
        let len = chunk.len();
        if self.may_write(len)? {
            if self.flags.has(Flag::Sending) {
                let chunk = self.fit(chunk);
                self.gather(|gather| gather.push(chunk));
            } else {
                self.gather_chunk(chunk, len);
            }
        }
        Ok(())
    }

    fn writelines(&self, pieces: Vec<Chunk>) -> io::Result<()> {
        if self.may_write(pieces.iter().map(|piece| piece.len()).sum())? {
            let pieces = pieces.into_iter().map(|piece| self.fit(piece));
            self.gather(|gather| pieces.for_each(|piece| gather.push(piece)));
        }
        Ok(())
    }

    fn write_eof(&self) -> io::Result<()> {
        if self.flags.has(Flag::Closing) || self.flags.set(Flag::EofAsked) {
            return Ok(());
        }
        if self.is_unsent() {
            self.flush_at_end();
        } else {
            self.shut_down_writing();
        }
        Ok(())
    }

    fn can_write_eof(&self) -> bool {
        true
    }
}

impl Drop for SocketTransport {
    /// Dropped without `connection_lost` (paused, and held by nobody any more): the descriptor closes,
    /// the server forgets it.
    fn drop(&mut self) {
        self.dispose();
    }
}
