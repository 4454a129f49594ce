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
use crate::protocol::{ProtocolKind, Transport};
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

impl SocketTransport {
    /// Arms the receive, unless something speaks against it.
    pub(super) fn arm_receive(self: &Rc<Self>) {
        if self.flags.has_any(Flag::Closing, Flag::ReadPaused)
            || self.flags.has(Flag::EndSeen)
            || !self.flags.has(Flag::Started)
            || self.receive.get().is_some()
            || self.has_held()
        {
            return;
        }
        let Some(fd) = self.fd.borrow().clone() else {
            return;
        };
        let key = self
            .core
            .submit(Op::RecvMulti { fd }, Target::Callback(self.clone()));
        self.receive.set(Some(key));
    }

    /// For good: the connection ends.
    pub(super) fn stop_receiving(&self) {
        if let Some(key) = self.receive.take() {
            self.core.abandon(key);
        }
        drop(self.held.take());
    }

    fn has_held(&self) -> bool {
        self.held.borrow().is_some()
    }

    pub(super) fn pause(&self) {
        if self.flags.has(Flag::Closing) || self.flags.set(Flag::ReadPaused) {
            return;
        }
        if let Some(key) = self.receive.get()
            && !self.flags.set(Flag::ReceiveCancelled)
        {
            self.core.cancel(key);
        }
    }

    pub(super) fn resume(&self) {
        if self.flags.has(Flag::Closing) || !self.flags.clear(Flag::ReadPaused) {
            return;
        }
        let Some(me) = self.me() else { return };
        if !self.has_held() {
            return me.arm_receive();
        }
        if !self.flags.set(Flag::DeliveryQueued) {
            self.core.defer(move || {
                me.flags.clear(Flag::DeliveryQueued);
                me.deliver_held();
            });
        }
    }

    fn hold(&self, hold: impl FnOnce(&mut Held)) {
        hold(self.held.borrow_mut().get_or_insert_default());
    }

    /// Data of an armed receive.
    #[inline]
    pub(super) fn data_arrived(&self, lease: Lease) {
        if self.flags.has_any(Flag::Closing, Flag::ReadPaused) || self.has_held() {
            self.received_late(lease);
        } else {
            self.deliver(lease);
        }
    }

    #[cold]
    fn received_late(&self, lease: Lease) {
        if !self.flags.has(Flag::Closing) {
            // Copied out when buffers run short: a paused connection must not starve the others.
            let lease = if self.core.pool().is_short() {
                lease.detach()
            } else {
                lease
            };
            self.hold(|held| held.data.push_back(lease));
        }
    }

    /// The receive ended: end of stream, error, or our cancel.
    pub(super) fn receive_ended(self: &Rc<Self>, event: Event) {
        self.receive.set(None);
        let cancelled = self.flags.clear(Flag::ReceiveCancelled);
        if self.flags.has(Flag::Closing) {
            return;
        }
        if let Some(lease) = event.lease {
            // Data that came with the last completion is data; the receive is armed again below.
            if self.flags.has(Flag::ReadPaused) || self.has_held() {
                self.received_late(lease);
            } else {
                self.deliver(lease);
            }
        } else if event.result == 0 || !cancelled || event.result != -libc::ECANCELED {
            if self.flags.has(Flag::ReadPaused) || self.has_held() {
                self.hold(|held| held.end = Some(-event.result));
            } else {
                self.end_of_stream(-event.result);
            }
            return;
        }
        self.arm_receive();
    }

    /// Delivers what was held, until it is empty or reading is paused again.
    fn deliver_held(self: &Rc<Self>) {
        loop {
            if self.flags.has_any(Flag::Closing, Flag::ReadPaused) {
                return;
            }
            let mut held = self.held.borrow_mut();
            let Some(held_now) = held.as_deref_mut() else {
                break;
            };
            if let Some(lease) = held_now.data.pop_front() {
                drop(held);
                self.deliver(lease);
                continue;
            }
            let end = held_now.end.take();
            *held = None;
            drop(held);
            if let Some(errno) = end {
                return self.end_of_stream(errno);
            }
        }
        self.arm_receive();
    }

    #[inline]
    fn deliver(&self, lease: Lease) {
        let Some(protocol) = self.protocol() else {
            return;
        };
        match &protocol {
            ProtocolKind::Stream(protocol) => {
                self.call_or_fail("Fatal error: protocol.data_received() call failed.", || {
                    protocol.data_received(lease);
                });
            }
            ProtocolKind::Buffered(_) => self.feed(&lease),
        }
    }

    /// Copies `data` into as many of a buffered protocol's buffers as it takes. The kind of protocol
    /// is looked at each time: it may be replaced in between.
    fn feed(&self, mut data: &[u8]) {
        while !data.is_empty() && !self.flags.has(Flag::Closing) {
            let protocol = match self.protocol() {
                Some(ProtocolKind::Buffered(protocol)) => protocol,
                Some(ProtocolKind::Stream(protocol)) => {
                    let lease = Lease::from(data.to_vec());
                    self.call_or_fail("Fatal error: protocol.data_received() call failed.", || {
                        protocol.data_received(lease);
                    });
                    return;
                }
                None => return,
            };
            let buffer = self
                .call_or_fail("Fatal error: protocol.get_buffer() call failed.", || {
                    protocol.get_buffer(Some(data.len()))
                });
            let Some(mut buffer) = buffer else { return };
            if buffer.is_empty() {
                let error = io::Error::other("get_buffer() returned an empty buffer");
                return self
                    .fail_reported("Fatal error: protocol.get_buffer() call failed.", error);
            }
            let n = buffer.len().min(data.len());
            buffer[..n].copy_from_slice(&data[..n]);
            data = &data[n..];
            self.call_or_fail(
                "Fatal error: protocol.buffer_updated() call failed.",
                || {
                    protocol.buffer_updated(buffer, n);
                },
            );
        }
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
