//! Connects of Unix sockets.
//!
//! **Guarantees.** They answer as any other operation does: in order, and a cancel reaches them. To the
//! kernel they are no good as entries. A connect to a full backlog finds a socket that looks
//! ready to be written to, so that it is tried over and over and then goes to a worker thread, where it
//! blocks, and on the way there a cancel misses it. So the driver calls `connect(2)` itself, which for a
//! Unix socket is over at once; only a full backlog refuses it, and nothing reports when that has room.
//!
//! ```text
//!  submit ─▶ Untried ──park: connect(2)──▶ connected, or failed ──────▶ final
//!                         │      ▲  └ EAGAIN, cancelled: ECANCELED ───▶ final
//!                         └──────┘ EAGAIN: in CONNECT_RETRY once more
//! ```

use super::tag::Tag;
use super::{Completion, Completions, UringDriver};
use crate::driver::{CONNECT_RETRY, Key, Op, OpTable, Park};
use crate::sys::{clock, socket, to_result};

impl UringDriver {
    /// A connect that the kernel is not told of.
    #[cold]
    pub(super) fn note_connect(&mut self, key: Key) {
        self.slots.set(key, Tag::Connect);
        self.connects.push(key);
    }

    /// Tries those that are not connected, in order.
    #[cold]
    pub(super) fn try_connects(&mut self, table: &mut OpTable, out: &mut Completions) {
        let mut connects = std::mem::take(&mut self.connects);
        connects.retain(|key| {
            let Some(Op::Connect { fd, addr }) = table.op_mut(*key) else {
                return false;
            };
            self.counters.submitted += 1;
            let done = socket::connect_now(&*fd, &addr.storage, addr.len);
            let mut result = to_result(done.map(|()| 0));
            if result == -libc::EAGAIN {
                if self.slots.armable(*key).is_some() {
                    return true;
                }
                result = -libc::ECANCELED;
            }
            self.counters.completed += 1;
            out.push(Completion::last(*key, result));
            false
        });
        self.connects = connects;
    }

    /// A park of `until` while connects are to be tried again.
    #[inline]
    pub(super) fn until_retry(&self, until: Park) -> Park {
        if self.connects.is_empty() {
            return until;
        }
        let retry = clock::now() + CONNECT_RETRY.as_nanos() as u64;
        match until {
            Park::Poll => Park::Poll,
            Park::Until(time) => Park::Until(time.min(retry)),
            Park::Forever => Park::Until(retry),
        }
    }
}
