//! Sends: inline ones, and those that wait until the socket takes something.
//!
//! **Guarantees.** No send ever reaches a worker thread of the kernel, where it would block and
//! could be neither cancelled nor drained. A send that the kernel itself would arm does get there:
//! the kernel adds `POLLRDHUP` to what it waits for, so a peer that has shut its writing direction
//! down (or this side its reading one) wakes the send of a full socket at once, each time it is
//! armed, until the kernel gives up and hands it to a worker. So every send is tried with `MSG_DONTWAIT`, and
//! what waits is a poll, multishot, hence told of edges: the end of the peer's stream is one edge and
//! no more.
//!
//! ```text
//!  submit ─▶ Trying ─────── taken, or failed ──────────────────────▶ final
//!              │ EAGAIN            └ cancelled: ECANCELED ─────────▶ final
//!              ▼
//!           Watching ──edge: writable──▶ Retrying ── taken, or failed ─▶ Ending ──poll ended──▶ final
//!              │  ▲ └ any other edge: nothing │                             ▲
//!              │  └──────── EAGAIN ───────────┘ (cancelled: ECANCELED) ─────┤
//!              └─────────── cancel ─────────────────────────────────────────┘
//! ```
//!
//! A poll that the kernel ended early (full completion queue) is armed again. The operation is over when both
//! requests are: a poll left behind would hold the file open, and the peer would hear of no end
//! (trap T3). An edge during a retry is remembered, since the retry may have looked before it.

use super::entry::length;
use super::tag::{self, Tag};
use super::{Completion, Completions, MAX_TRANSFER, Pushed, UringDriver};
use crate::driver::{FLAG_MORE, Gather, Key, Op, OpTable};
use crate::ring;
use io_uring::{opcode, types};
use std::os::fd::AsRawFd;

/// What the socket takes at once, and all of it that it takes (D7). `MSG_NOSIGNAL`: the kernel adds
/// it by itself for sends from a ring; said for the reader.
const INLINE_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// What the socket takes at once.
const TRY_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// After these a send takes something or fails. (`POLLRDHUP`, which the kernel reports unasked, is
/// not among them.)
const WRITABLE: i32 = (libc::POLLOUT | libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) as i32;

/// A send that found its socket full; see the module.
#[derive(Default)]
pub(super) struct Blocked {
    /// The kernel has the poll.
    polled: bool,
    /// The kernel has the send: Retrying.
    sending: bool,
    /// Writable once more, since the retry was pushed.
    again: bool,
    /// Ending, with this.
    result: Option<i32>,
}

impl UringDriver {
    /// Sends the gathered chunks, or the first [`MAX_VECTORS`](crate::driver::MAX_VECTORS) of them.
    #[inline]
    pub(super) fn push_send(&mut self, key: Key, fd: i32, data: &mut Gather, inline: bool) {
        let flags = if inline { INLINE_FLAGS } else { TRY_FLAGS };
        // One chunk alone needs no vector.
        if let Some(bytes) = data.single() {
            let (start, len) = (bytes.as_ptr(), bytes.len());
            let (silent, tag) = self.silence(inline, len);
            self.slots.set(key, tag);
            let bits = tag::bits(key, tag);
            let length = length(bytes);
            self.push(|| ring::send(fd, start, length, flags, silent, bits));
            self.expect(key, silent, len);
        } else {
            let header = data.prepare();
            let (silent, tag) = self.silence(inline, data.prepared());
            self.slots.set(key, tag);
            let bits = tag::bits(key, tag);
            self.push(|| ring::sendmsg(fd, header, flags, silent, bits));
            self.expect(key, silent, data.prepared());
        }
    }

    /// Whether a send of `len` bytes may stay silent. The kernel shortens what is longer than it
    /// transfers in one call, without a word.
    #[inline(always)]
    fn silence(&self, inline: bool, len: usize) -> (bool, Tag) {
        match inline {
            true if self.inline_sends && len <= MAX_TRANSFER => (true, Tag::Send),
            true => (false, Tag::Plain),
            false => (false, Tag::Try),
        }
    }

    /// A send was pushed; a silent one is settled after the enter that consumes it.
    #[inline(always)]
    fn expect(&mut self, key: Key, silent: bool, len: usize) {
        if silent {
            self.unsettled.push(Pushed {
                key,
                total: len as i32,
                at: self.ordered,
            });
        }
    }

    /// A try was answered.
    #[cold]
    pub(super) fn tried(
        &mut self,
        key: Key,
        result: i32,
        table: &mut OpTable,
        out: &mut Completions,
    ) {
        let Blocked { polled, again, .. } = match self.blocked.get_mut(&key) {
            Some(blocked) => {
                blocked.sending = false;
                let again = std::mem::take(&mut blocked.again);
                Blocked { again, ..*blocked }
            }
            None => Blocked::default(),
        };
        if result != -libc::EAGAIN {
            self.end_send(key, result, out);
        } else if self.slots.armable(key).is_none() {
            self.end_send(key, -libc::ECANCELED, out);
        } else if again {
            self.retry(key, table);
        } else if polled {
            self.slots.change(key, Tag::Watch);
        } else {
            self.watch(key, table);
        }
    }

    /// The poll of a full socket spoke.
    #[cold]
    pub(super) fn watched(
        &mut self,
        key: Key,
        result: i32,
        flags: u32,
        table: &mut OpTable,
        out: &mut Completions,
    ) {
        let Some(blocked) = self.blocked.get_mut(&key) else {
            return;
        };
        blocked.polled = flags & FLAG_MORE != 0;
        let writable = result > 0 && result & WRITABLE != 0;
        if let Some(result) = blocked.result {
            if !blocked.polled {
                self.end_send(key, result, out);
            }
        } else if blocked.sending {
            // What the retry answers comes first.
            blocked.again |= writable || result < 0;
        } else if self.slots.armable(key).is_none() {
            if !self.is_polled(key) {
                self.end_send(key, -libc::ECANCELED, out);
            }
        } else if result < 0 {
            self.end_send(key, result, out);
        } else if writable {
            self.retry(key, table);
        } else if !self.is_polled(key) {
            self.counters.rearmed += 1;
            self.watch(key, table);
        }
    }

    fn is_polled(&self, key: Key) -> bool {
        self.blocked.get(&key).is_some_and(|blocked| blocked.polled)
    }

    /// Tries the send once more, watched or not.
    fn retry(&mut self, key: Key, table: &mut OpTable) {
        let Some(Op::Send { fd, data, .. }) = table.op_mut(key) else {
            return;
        };
        self.blocked.entry(key).or_default().sending = true;
        self.push_send(key, fd.as_raw_fd(), data, false);
    }

    /// Arms the poll.
    fn watch(&mut self, key: Key, table: &mut OpTable) {
        let Some(fd) = table.op_mut(key).and_then(|op| op.fd()) else {
            return;
        };
        let fd = types::Fd(fd.as_raw_fd());
        self.blocked.entry(key).or_default().polled = true;
        self.slots.change(key, Tag::Watch);
        let entry = opcode::PollAdd::new(fd, libc::POLLOUT as u32)
            .multi(true)
            .build()
            .user_data(tag::bits(key, Tag::Watch));
        self.push(|| entry.clone());
    }

    /// The send is over as soon as its poll is.
    fn end_send(&mut self, key: Key, result: i32, out: &mut Completions) {
        if self.is_polled(key) {
            self.blocked.entry(key).or_default().result = Some(result);
            self.push_cancel(tag::bits(key, Tag::Watch));
        } else {
            self.blocked.remove(&key);
            out.push(Completion::last(key, result));
        }
    }
}
