//! Receiving: one armed multishot receive, whose buffers go to the protocol as they are.
//!
//! ```text
//!             pause: cancel                        final completion
//!   Armed ─────────────────▶ Armed (cancelled) ─────────────────────▶ Unarmed
//!     ▲  completions ─▶ protocol      completions ─▶ held                │
//!     └──────────────── resume: held ─▶ protocol, in order, then arm ◀───┘
//! ```
//!
//! Whatever completed before the cancel, the end of the stream and errors included, is held in order
//! and delivered on resume; nothing is lost, and TCP's back-pressure reaches the peer. (An armed
//! receive would go on eating the pool.)

use super::flags::Flag;
use super::socket::SocketTransport;
use crate::driver::{Event, Lease, Op, Target};
use crate::protocol::{BufferedProtocol, ProtocolKind, Transport};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// What completed while reading was paused.
#[derive(Default)]
pub(super) struct Held {
    data: VecDeque<Lease>,
    /// The end of the stream (0) or an error (errno), behind the data.
    end: Option<i32>,
}

/// Copied out when buffers run short: a paused connection must not starve the others.
fn spare(lease: Lease) -> Lease {
    if lease.is_scarce() {
        lease.detach()
    } else {
        lease
    }
}

impl SocketTransport {
    /// Arms the receive, unless something speaks against it.
    pub(super) fn arm_receive(self: &Rc<Self>) {
        if self.flags.has_any(Flag::Closing, Flag::ReadPaused)
            || self.flags.has(Flag::EndSeen)
            || !self.flags.has(Flag::Started)
            || self.receive.is_some()
            || self.flags.has(Flag::Held)
        {
            return;
        }
        let Some(fd) = self.fd() else { return };
        let key = self
            .core()
            .submit(Op::RecvMulti { fd }, Target::Callback(self.clone()));
        self.receive.set(key);
    }

    /// For good: the connection ends.
    pub(super) fn stop_receiving(&self) {
        if let Some(key) = self.receive.take() {
            self.core().abandon(key);
        }
        self.drop_held();
    }

    pub(super) fn drop_held(&self) {
        if self.flags.clear(Flag::Held) {
            drop(self.with_rare(|rare| rare.held.take()));
        }
    }

    pub(super) fn pause(&self) {
        if self.flags.has(Flag::Closing) || self.flags.set(Flag::ReadPaused) {
            return;
        }
        if let Some(key) = self.receive.get()
            && !self.flags.set(Flag::ReceiveCancelled)
        {
            self.core().cancel(key);
        }
    }

    pub(super) fn resume(&self) {
        if self.flags.has(Flag::Closing) || !self.flags.clear(Flag::ReadPaused) {
            return;
        }
        let Some(me) = self.me() else { return };
        if self.flags.has(Flag::Held) {
            me.deliver_held_soon();
        } else {
            me.arm_receive();
        }
    }

    fn hold(&self, hold: impl FnOnce(&mut Held)) {
        self.flags.set(Flag::Held);
        self.with_rare(|rare| hold(rare.held.get_or_insert_default()));
    }

    /// Data of an armed receive.
    #[inline(always)]
    pub(super) fn data_arrived(&self, lease: Lease) {
        if self.flags.delay_delivery() {
            self.received_late(lease);
        } else {
            self.deliver(lease);
        }
    }

    #[cold]
    fn received_late(&self, lease: Lease) {
        if !self.flags.has(Flag::Closing) {
            let lease = spare(lease);
            self.hold(|held| held.data.push_back(lease));
        }
    }

    /// The receive ended: end of stream, error, or our cancel.
    pub(super) fn receive_ended(self: &Rc<Self>, event: Event) {
        if event.more {
            // A buffer that was not the kernel's: refused and counted by the pool.
            return;
        }
        self.receive.clear();
        let cancelled = self.flags.clear(Flag::ReceiveCancelled);
        if self.flags.has(Flag::Closing) {
            return;
        }
        if let Some(lease) = event.lease {
            // Data that came with the last completion is data, and more may follow.
            self.arm_receive();
            self.data_arrived(lease);
        } else if cancelled && event.result == -libc::ECANCELED {
            self.arm_receive();
        } else if self.flags.delay_delivery() {
            self.hold(|held| held.end = Some(-event.result));
        } else {
            self.end_of_stream(-event.result);
        }
    }

    fn deliver_held_soon(self: &Rc<Self>) {
        if !self.flags.set(Flag::DeliveryQueued) {
            let me = self.clone();
            self.core().defer(move || {
                me.flags.clear(Flag::DeliveryQueued);
                me.deliver_held();
            });
        }
    }

    /// Delivers what was held, until it is empty or reading is paused again.
    fn deliver_held(self: &Rc<Self>) {
        /// Goes on in another iteration if a callback leaves the loop.
        struct GoOn<'a>(&'a Rc<SocketTransport>);
        impl Drop for GoOn<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.deliver_held_soon();
                }
            }
        }
        let _go_on = GoOn(self);
        loop {
            if self.flags.has_any(Flag::Closing, Flag::ReadPaused) {
                return;
            }
            if !self.flags.has(Flag::Held) {
                break;
            }
            let next = self.with_rare(|rare| rare.held.as_mut()?.data.pop_front());
            if let Some(lease) = next {
                self.deliver(lease);
                continue;
            }
            self.flags.clear(Flag::Held);
            let held = self.with_rare(|rare| rare.held.take());
            if let Some(errno) = held.and_then(|held| held.end) {
                return self.end_of_stream(errno);
            }
        }
        self.arm_receive();
    }

    #[inline(always)]
    fn deliver(&self, lease: Lease) {
        let protocol = self.protocol();
        if let Some(ProtocolKind::Stream(protocol)) = protocol {
            let failed = "Fatal error: protocol.data_received() call failed.";
            self.call_or_fail(failed, || protocol.data_received(lease));
        } else {
            self.deliver_copied(lease);
        }
    }

    fn deliver_copied(&self, mut lease: Lease) {
        loop {
            match self.protocol() {
                // It was replaced.
                Some(ProtocolKind::Stream(_)) => return self.deliver(lease),
                Some(ProtocolKind::Buffered(protocol)) => match self.feed(&*protocol, lease) {
                    Some(rest) => lease = rest,
                    None => return,
                },
                None => return,
            }
        }
    }

    /// Copies what one buffer takes. What is left is as if it had just been received: reading may
    /// have been paused, the protocol replaced, the connection closed. Returns it if it is to be
    /// delivered.
    fn feed(&self, protocol: &dyn BufferedProtocol, mut lease: Lease) -> Option<Lease> {
        let failed = "Fatal error: protocol.get_buffer() call failed.";
        let mut buffer = self.call_or_fail(failed, || protocol.get_buffer(Some(lease.len())))?;
        if self.flags.has(Flag::Closing) {
            return None;
        }
        if buffer.is_empty() {
            let error = io::Error::other("get_buffer() returned an empty buffer");
            self.fail_reported(failed, error);
            return None;
        }
        let n = buffer.len().min(lease.len());
        buffer[..n].copy_from_slice(&lease[..n]);
        lease.advance(n);
        let failed = "Fatal error: protocol.buffer_updated() call failed.";
        self.call_or_fail(failed, || protocol.buffer_updated(buffer, n))?;
        if lease.is_empty() || self.flags.has(Flag::Closing) {
            return None;
        }
        if self.flags.has(Flag::ReadPaused) {
            let lease = spare(lease);
            self.hold(|held| held.data.push_front(lease));
            return None;
        }
        Some(lease)
    }

    /// End of stream (`errno` 0) or error.
    fn end_of_stream(&self, errno: i32) {
        if self.flags.set(Flag::EndSeen) {
            return;
        }
        if errno != 0 {
            return self.fail(errno);
        }
        let Some(protocol) = self.protocol() else {
            return;
        };
        let keep_open = self
            .call_or_fail("Fatal error: protocol.eof_received() call failed.", || {
                protocol.eof_received()
            });
        if keep_open == Some(false) {
            self.close();
        }
    }
}
