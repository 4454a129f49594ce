//! Receives that found no buffer.
//!
//! **Guarantees.** `ENOBUFS` is a state, not an error, and nobody above sees it. The pool grows by
//! a segment at a time up to its limit, while few buffers circulate (fewer, when they are full); then
//! receives are parked, in order, and armed again, in order, as buffers come back, in each park no more of
//! them than there are buffers. So one flooding socket (trap T10: kernels up to 6.7 let it take the whole
//! ring at once) delays the others and starves none.
//!
//! ```text
//!   armed ──ENOBUFS──▶ starved ──a buffer is free, or the pool may grow──▶ armed (POLL_FIRST)
//!                         └──cancel──▶ ECANCELED
//! ```
//!
//! A receive is armed with `POLL_FIRST` again, or it would fail at once when another took the
//! buffer and no data is there. (The kernel asks for a buffer before it looks for data, so a receive
//! may starve that has nothing to receive.) While receives starve, no park sleeps that could feed one
//! without an event. Buffers that other threads hold wake the loop when they come back.

use super::{Completion, Completions, UringDriver};
use crate::driver::pool::{CIRCULATING, SEGMENT_BUFFERS};
use crate::driver::{FLAG_BUFFER, Key, OpTable};

/// What is received in one park and sent in the next should stay in the cache of a core meanwhile: 1 MiB.
const WARM: usize = 1 << 20;

impl UringDriver {
    /// `newcomers` receives were just added to the starved ones.
    pub(super) fn starve(&mut self, newcomers: usize, table: &mut OpTable, out: &mut Completions) {
        self.feed(table, out);
        self.counters.parked_receives += newcomers.min(self.starved.len()) as u64;
    }

    /// Arms as many starved receives as there are buffers for.
    #[cold]
    pub(super) fn feed(&mut self, table: &mut OpTable, out: &mut Completions) {
        // The pool calls a buffer the kernel's until its completion is dispatched.
        let (mut spoken_for, mut bytes) = (0, 0);
        for completion in out.iter().filter(|it| it.flags & FLAG_BUFFER != 0) {
            spoken_for += 1;
            bytes += completion.result.max(0) as usize;
        }
        if let Some(mean) = bytes.checked_div(spoken_for) {
            self.circulating = (WARM / mean.max(1)).clamp(SEGMENT_BUFFERS, CIRCULATING);
        }
        loop {
            let buffers = self.pool.size() - self.pool.lent();
            while buffers > spoken_for
                && let Some(key) = self.starved.pop_front()
            {
                spoken_for += 1;
                self.arm_again(key, true, table, out);
            }
            if self.starved.is_empty() {
                self.pool.set_starving(false);
                return;
            }
            if self.pool.grow(self.circulating) {
                continue;
            }
            // Whoever gives one back from now on wakes the loop; who did before, was not seen.
            self.pool.set_starving(true);
            if self.pool.collect() == 0 {
                return;
            }
        }
    }

    /// Whether a park without an event could feed a receive that starves: a buffer is free (those that
    /// were armed for it had no data), or a send that completes silently may give one back.
    #[inline]
    pub(super) fn may_feed(&self) -> bool {
        !self.starved.is_empty()
            && (self.pool.lent() < self.pool.size() || !self.unsettled.is_empty())
    }

    /// A cancel: completes the receive if it is starved, so that the kernel does not know it.
    pub(super) fn leave_starved(&mut self, key: Key) -> bool {
        let Some(at) = self.starved.iter().position(|starved| *starved == key) else {
            return false;
        };
        self.starved.remove(at);
        self.done.push(Completion::last(key, -libc::ECANCELED));
        true
    }
}
