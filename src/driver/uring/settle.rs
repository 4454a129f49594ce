//! Settling: when the silence of an inline send means success (D7).
//!
//! An inline send (`MSG_DONTWAIT | MSG_WAITALL`, its completion skipped on success) is over when
//! the enter that consumed it has returned. It posts a completion only when it did not send
//! everything. Silence is believed after these steps, in this order:
//!
//! 1. the kernel has consumed its entry ([`UringDriver::believe`]);
//! 2. the completion queue is drained, and what it says of a send replaces the belief
//!    ([`Beliefs::correct`]);
//! 3. while completions wait outside the queue, which was full, they are fetched and drained
//!    ([`UringDriver::flush`]);
//! 4. if the kernel dropped one for want of memory (`EBADR`), every send that was not settled failed
//!    and the ring is broken: some operation will never complete.
//!
//! A later write to the same socket can not overtake: it is submitted after the park that settled.

use super::{Completion, Completions, UringDriver};
use crate::driver::{Key, OpTable};
use crate::ring::Wait;
use std::ops::Range;

/// The completions made up for silent sends, until the drain confirms them.
pub(super) struct Beliefs {
    /// Where they stand in the output.
    range: Range<usize>,
    /// Where the last correction was: they come in order.
    next: usize,
}

impl Beliefs {
    /// The kernel said what became of a send.
    #[cold]
    pub(super) fn correct(&mut self, out: &mut Completions, key: Key, result: i32) {
        let Range { start, end } = self.range;
        for at in (self.next..end).chain(start..self.next) {
            if out[at].key == key {
                out[at].result = result;
                self.next = at + 1;
                return;
            }
        }
        // Not in flight: the table counts it as stale.
        out.push(Completion::last(key, result));
    }

    /// A completion was lost, perhaps one of these sends.
    fn fail(&self, out: &mut Completions) {
        for completion in &mut out[self.range.clone()] {
            completion.result = -libc::EBADR;
        }
    }
}

impl UringDriver {
    /// Step 1: success for every inline send that was consumed. They stand before what is drained,
    /// so that those above have their buffers back when they answer what was received.
    #[inline]
    pub(super) fn believe(&mut self, out: &mut Completions) -> Beliefs {
        let start = out.len();
        if let Some(last) = self.unsettled.last() {
            let consumed = self.consumed();
            let due = match last.at <= consumed {
                true => self.unsettled.len(),
                false => self.unsettled.partition_point(|send| send.at <= consumed),
            };
            self.counters.completed += due as u64;
            out.reserve(due);
            for send in &self.unsettled[..due] {
                out.push(Completion::last(send.key, send.total));
            }
            match due == self.unsettled.len() {
                true => self.unsettled.clear(),
                false => drop(self.unsettled.drain(..due)),
            }
        }
        Beliefs {
            range: start..out.len(),
            next: start,
        }
    }

    /// Everything an enter brought: steps 1 to 4, then what needs the table.
    #[inline]
    pub(super) fn reap(&mut self, table: &mut OpTable, out: &mut Completions) {
        let mut beliefs = self.believe(out);
        self.drain(&mut beliefs, out);
        if self.ring.overflowed() || self.ring.lost_completions() {
            self.flush(&mut beliefs, out);
        }
        if !self.later.is_empty() {
            self.finish(table, out);
        }
        if !self.marks.is_empty() {
            self.pass_marks(out);
        }
    }

    /// Steps 3 and 4.
    #[cold]
    fn flush(&mut self, beliefs: &mut Beliefs, out: &mut Completions) {
        while self.ring.overflowed() && !self.ring.lost_completions() && self.broken.is_none() {
            self.counters.cq_overflow += 1;
            self.counters.enters += 1;
            // Submits nothing: what is pushed meanwhile would not be among the beliefs.
            match self.ring.enter(0, Wait::Poll) {
                Ok(_) | Err(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::EBADR) => {}
                Err(errno) => self.broken = Some(errno),
            }
            self.drain(beliefs, out);
        }
        if self.ring.lost_completions() {
            self.broken = Some(libc::EBADR);
            beliefs.fail(out);
        }
    }
}
