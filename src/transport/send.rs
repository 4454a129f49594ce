//! Sending: what is written in one iteration goes out as one gathered send.
//!
//! ```text
//!            write            end of iteration: inline send         settled: all sent
//!   Idle ───────────▶ Pending ────────────────────────────▶ Sending ───────────────────▶ Idle | Pending
//!                                                             │ partly, or EAGAIN
//!                                                             ▼
//!                                                  Finishing (waits for the socket) ───▶ Idle | Pending
//! ```
//!
//! At most one send per socket is in flight. An inline send never waits: the driver answers it in
//! the park that follows. A send that something waits behind (closing, end of stream, a paused
//! protocol, more bytes) is urgent: the park must not sleep on it. Buffers of the receive pool never
//! enter a send that waits: what the first try did not take is copied.
//!
//! More than the high-water mark is tried at once, so that `pause_writing` comes inside the write,
//! except that a socket which took more in the last iterations is trusted with twice as much (see
//! [`bulk`](super::bulk)). With a high-water mark of 0 every write is tried. What an inline send carries
//! counts as sent until the socket says otherwise.

use super::flags::Flag;
use super::socket::SocketTransport;
use crate::driver::{Chunk, Gather, MAX_VECTORS};
use crate::protocol::WriteLimits;
use crate::sys::socket;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::rc::Rc;

impl SocketTransport {
    /// Whether `len` bytes may be queued; `false` when they are to be dropped.
    ///
    /// # Errors
    /// After `write_eof`.
    #[inline(always)]
    pub(super) fn may_write(&self, len: usize) -> io::Result<bool> {
        if len == 0
            || self.flags.has_any(Flag::Closing, Flag::EofAsked)
            || self.flags.has(Flag::Lost)
        {
            return self.may_write_at_all(len);
        }
        Ok(true)
    }

    #[cold]
    fn may_write_at_all(&self, len: usize) -> io::Result<bool> {
        if self.flags.has(Flag::EofAsked) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "Cannot call write() after write_eof()",
            ));
        }
        if len == 0 {
            return Ok(false);
        }
        let closed = self.flags.has(Flag::Closing) && !self.flags.has(Flag::InResume);
        if closed || self.flags.has(Flag::Lost) {
            self.drop_write();
            return Ok(false);
        }
        Ok(true)
    }

    /// Adds to what the end of the iteration sends, and judges the water marks. `add` must not run code
    /// of others.
    #[inline]
    pub(super) fn gather(&self, add: impl FnOnce(&mut Gather)) {
        let pending = self.pending.take();
        let mut gather = pending.unwrap_or_else(|| self.core().take_gather());
        add(&mut gather);
        let total = gather.total();
        self.pending.set(Some(gather));
        self.gathered(total);
    }

    /// The same for one chunk of `len` bytes, as most writes are, moved once.
    #[inline(always)]
    pub(super) fn gather_chunk(&self, chunk: Chunk, len: usize) {
        let pending = self.pending.take();
        let mut gather = pending.unwrap_or_else(|| self.core().take_gather());
        gather.push_measured(chunk, len);
        let total = gather.total();
        self.pending.set(Some(gather));
        self.gathered(total);
    }

    /// `total` bytes wait for the end of the iteration.
    #[inline(always)]
    fn gathered(&self, total: usize) {
        self.flush_at_end();
        if total > self.limits().high || self.flags.has(Flag::Sending) {
            self.judge(total);
        }
    }

    #[inline(never)]
    fn judge(&self, total: usize) {
        if total + self.left() > self.trusted(self.limits().high) {
            self.send_now_or_pause();
        }
    }

    /// What a chunk is sent as: a lease behind a send in flight would stay lent for as long as the
    /// peer likes, so it is copied.
    #[inline]
    pub(super) fn fit(&self, chunk: Chunk) -> Chunk {
        match chunk {
            Chunk::Lease(lease) if self.flags.has(Flag::Sending) => lease.detach().into(),
            chunk => chunk,
        }
    }

    /// Above the high-water mark: what the socket takes at once does not count.
    #[cold]
    fn send_now_or_pause(&self) {
        if !self.flags.has_any(Flag::Sending, Flag::Shrinking) {
            self.send_now();
        }
        self.pause_protocol_if_above();
    }

    fn send_now(&self) {
        let Some(fd) = self.fd() else { return };
        // Taken out while it shrinks: the destructors of `Bytes` are user code, which may write.
        let Some(mut gather) = self.pending.take() else {
            return;
        };
        // An error shows again, and is handled, when the rest is submitted.
        if let Ok(sent) = gather.send_now(fd.as_fd()) {
            if sent == gather.total() {
                self.went_whole(sent);
            }
            self.shrink(&mut gather, sent);
        }
        if self.flags.has(Flag::Lost) {
            // They aborted.
            return self.core().give_gather(gather);
        }
        if gather.total() > 0 {
            self.went_partly();
            gather.release_leases();
        }
        let Some(mut behind) = self.pending.take() else {
            return self.pending.set(Some(gather));
        };
        gather.append(&mut behind);
        self.pending.set(Some(gather));
        self.core().give_gather(behind);
    }

    /// Takes off what the socket took. Its destructors are user code: what they write stays behind
    /// the rest.
    fn shrink(&self, gather: &mut Gather, sent: usize) {
        struct Leave<'a>(&'a SocketTransport);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.flags.clear(Flag::Shrinking);
            }
        }
        self.flags.set(Flag::Shrinking);
        let _leave = Leave(self);
        gather.advance(sent);
        self.core().report_panic_of(gather);
    }

    /// Bytes written that the socket has not taken.
    pub(super) fn unsent(&self) -> usize {
        let pending = self.pending.take();
        let waiting = pending.as_ref().map_or(0, |gather| gather.total());
        self.pending.set(pending);
        self.left() + waiting
    }

    /// Whether something may have to be sent yet.
    pub(super) fn is_unsent(&self) -> bool {
        self.flags.has(Flag::Sending) || self.unsent() > 0
    }

    /// The water marks.
    #[inline]
    pub(super) fn limits(&self) -> WriteLimits {
        if self.flags.has(Flag::OwnLimits) {
            self.own_limits()
        } else {
            WriteLimits::default()
        }
    }

    fn own_limits(&self) -> WriteLimits {
        let own = self.rare(|rare| rare.limits).flatten();
        own.unwrap_or_default()
    }

    pub(super) fn set_limits(&self, limits: WriteLimits) {
        if limits == WriteLimits::default() {
            self.flags.clear(Flag::OwnLimits);
            self.rare(|rare| rare.limits = None);
        } else {
            self.flags.set(Flag::OwnLimits);
            self.with_rare(|rare| rare.limits = Some(limits));
        }
    }

    pub(super) fn pause_protocol_if_above(&self) {
        if self.unsent() > self.limits().high
            && !self.flags.set(Flag::WritePaused)
            && let Some(protocol) = self.protocol()
        {
            self.call("protocol.pause_writing() failed", || {
                protocol.base().pause_writing();
            });
        }
    }

    fn resume_protocol_if_below(&self) {
        struct Leave<'a>(&'a SocketTransport);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.flags.clear(Flag::InResume);
            }
        }
        if self.flags.has(Flag::WritePaused) && self.unsent() <= self.limits().low {
            self.flags.clear(Flag::WritePaused);
            if let Some(protocol) = self.protocol() {
                self.flags.set(Flag::InResume);
                let _leave = Leave(self);
                self.call("protocol.resume_writing() failed", || {
                    protocol.base().resume_writing()
                });
            }
        }
    }

    /// Has [`submit_pending`](Self::submit_pending) called when the iteration ends.
    #[inline(always)]
    pub(super) fn flush_at_end(&self) {
        if !self.flags.set(Flag::InEndList)
            && let Some(me) = self.me()
        {
            self.core().at_iteration_end(me);
        }
    }

    /// Submits what was gathered, if no send is in flight.
    #[inline(always)]
    pub(super) fn submit_pending(self: Rc<Self>) {
        if self.flags.has_any(Flag::Sending, Flag::Lost) {
            return;
        }
        match self.pending.take() {
            Some(gather) if gather.total() > 0 => self.submit(gather, true),
            gather => self.nothing_pending(gather),
        }
    }

    #[cold]
    fn nothing_pending(&self, gather: Option<Box<Gather>>) {
        if let Some(gather) = gather {
            self.trust(0);
            self.core().give_gather(gather);
        }
        self.drained();
    }

    #[inline(always)]
    fn submit(self: Rc<Self>, data: Box<Gather>, inline: bool) {
        let Some(fd) = self.fd() else { return };
        let left = data.total();
        // Only an inline send is silent; one that waits ends the park when it is done.
        let urgent = inline
            && (self.flags.has_any(Flag::Closing, Flag::EofAsked)
                || self.flags.has(Flag::WritePaused)
                || data.chunks().len() > MAX_VECTORS);
        let key = self
            .core()
            .submit_send(fd, data, inline, urgent, self.clone());
        self.flags.set(Flag::Sending);
        if !inline {
            self.set_waiting(key, left);
        }
    }

    /// A send went whole: whether that is all there is to it.
    #[inline(always)]
    pub(super) fn settle_quietly(&self, sent: usize) -> bool {
        let quiet = !self.flags.has_any(Flag::Closing, Flag::EofAsked)
            && !self.flags.has_any(Flag::WritePaused, Flag::Lost)
            && !self.is_pending();
        if quiet {
            self.flags.clear(Flag::Sending);
            self.trust(sent);
        }
        quiet
    }

    /// A send is settled.
    pub(super) fn send_settled(self: &Rc<Self>, mut data: Box<Gather>, inline: bool, result: i32) {
        self.flags.clear(Flag::Sending);
        self.take_waiting();
        if self.flags.has(Flag::Lost) {
            return self.core().give_gather(data);
        }
        if usize::try_from(result) == Ok(data.total()) {
            if inline {
                self.trust(data.total());
            }
            self.core().give_gather(data);
        } else if let Err(errno) = self.sent_partly(data.as_mut(), result) {
            self.core().give_gather(data);
            return self.fail(errno);
        } else if self.flags.has(Flag::Lost) {
            // A destructor of what was sent aborted.
            return self.core().give_gather(data);
        } else {
            self.clone().submit(data, false);
            self.pause_protocol_if_above();
            return self.resume_protocol_if_below();
        }
        if self.flags.has(Flag::WritePaused) || self.is_pending() {
            // What comes next comes at the end of the iteration, even when `resume_writing` leaves
            // the loop.
            self.flush_at_end();
            self.resume_protocol_if_below();
        } else {
            self.drained();
        }
    }

    /// What is unsent is dropped, except that the kernel keeps what it reads.
    pub(super) fn stop_sending(&self) {
        if let Some(gather) = self.pending.take() {
            self.core().give_gather(gather);
        }
        // An inline send is answered by itself; one that waits could wait for long.
        self.flags.clear(Flag::Sending);
        if let Some(key) = self.take_waiting() {
            self.core().abandon(key);
        }
    }

    #[inline]
    fn is_pending(&self) -> bool {
        let pending = self.pending.take();
        let is_pending = pending.is_some();
        self.pending.set(pending);
        is_pending
    }

    /// Takes off what was sent and copies leases out of the rest.
    ///
    /// # Errors
    /// The errno of a send that failed for good.
    #[cold]
    fn sent_partly(&self, data: &mut Gather, result: i32) -> Result<(), i32> {
        match usize::try_from(result) {
            Ok(sent) => self.shrink(data, sent),
            Err(_) if matches!(-result, libc::EAGAIN | libc::EINTR) => {}
            Err(_) => return Err(-result),
        }
        self.went_partly();
        data.release_leases();
        Ok(())
    }

    /// Nothing is left to send: what waited for that happens now.
    fn drained(&self) {
        if self.flags.has(Flag::Lost) {
        } else if self.flags.has(Flag::Closing) {
            self.lose(None);
        } else if self.flags.has(Flag::EofAsked) {
            self.shut_down_writing();
        }
    }

    /// Ends the writing direction of the socket. `shutdown(2)` itself: it can not block, and as an
    /// operation it would cost a worker thread (cookbook §3.1).
    pub(super) fn shut_down_writing(&self) {
        if let Some(fd) = self.fd() {
            // A peer that is gone already shows as an error of the receive.
            let _ = socket::shutdown(fd.as_fd(), Shutdown::Write);
        }
    }
}
