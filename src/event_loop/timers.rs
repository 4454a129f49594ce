//! Timers: a heap of small plain entries.
//!
//! **Guarantees.** Earlier deadlines first, ties in order of creation. The callback does not live
//! here but in the callback arena, so cancelling drops it at once; what stays is a stale entry of
//! 32 bytes that goes when it reaches the head, or when cancelled entries are more than half of
//! more than a hundred.

use crate::task::CallKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// More entries than this, and …
const MIN_FOR_COMPACTION: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    when: u64,
    sequence: u64,
    index: u32,
    generation: u32,
}

impl Entry {
    fn key(self) -> CallKey {
        CallKey {
            index: self.index,
            generation: self.generation,
        }
    }
}

/// The heap. Deadlines are nanoseconds of the loop's clock.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    /// Entries in the heap whose callback was cancelled.
    cancelled: usize,
    /// What the last timer phase took: entries of up to this sequence with a deadline before this
    /// time are no longer in the heap.
    taken: (u64, u64),
}

/// Names an entry after it was pushed.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerId {
    pub(super) when: u64,
    sequence: u64,
}

impl Timers {
    pub(super) fn push(&mut self, when: u64, key: CallKey) -> TimerId {
        self.sequence += 1;
        let CallKey { index, generation } = key;
        let sequence = self.sequence;
        self.heap.push(Reverse(Entry {
            when,
            sequence,
            index,
            generation,
        }));
        TimerId { when, sequence }
    }

    /// The callback of an entry was cancelled before it ran; counts if the entry is in the heap.
    pub(super) fn note_cancelled(&mut self, id: TimerId) {
        let (end, sequence) = self.taken;
        if id.when >= end || id.sequence > sequence {
            self.cancelled += 1;
        }
    }

    /// The timer phase took all that was due before `end`.
    pub(super) fn note_taken(&mut self, end: u64) {
        self.taken = (end, self.sequence);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Entries in the heap, cancelled or not.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn cancelled(&self) -> usize {
        self.cancelled
    }

    /// Housekeeping at the start of an iteration: compacts, or pops cancelled entries from the head.
    pub(super) fn prune(&mut self, live: impl Fn(CallKey) -> bool) {
        if self.cancelled == 0 {
            return;
        }
        if self.heap.len() > MIN_FOR_COMPACTION && self.cancelled * 2 > self.heap.len() {
            self.heap.retain(|Reverse(entry)| live(entry.key()));
            self.cancelled = 0;
            return;
        }
        while let Some(Reverse(head)) = self.heap.peek()
            && !live(head.key())
        {
            self.heap.pop();
            self.cancelled -= 1;
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.when)
    }

    /// Pops the earliest entry if it is due: its deadline lies before `end`.
    pub(super) fn pop_due(&mut self, end: u64) -> Option<CallKey> {
        self.next().filter(|&when| when < end)?;
        self.heap.pop().map(|Reverse(entry)| entry.key())
    }

    /// A popped entry turned out to be cancelled.
    pub(super) fn forget_cancelled(&mut self) {
        self.cancelled -= 1;
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.cancelled = 0;
    }
}
