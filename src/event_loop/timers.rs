//! Timers: a heap of small plain entries.
//!
//! **Guarantees.** Earlier deadlines first, ties in order of creation. The callback does not live
//! in the heap but in the callback arena (a bell beside the heap), so cancelling drops it at once; what
//! stays is a stale entry of 24 bytes that goes when it reaches the head, or when cancelled entries are
//! more than half of more than a hundred.
//!
//! The heap has four children to a node: half the levels of a binary one, and the children of a
//! node stand side by side in memory.

use super::bells::{Bells, is_bell};
use crate::task::{CallKey, PlainBell};

/// More entries than this, and …
const MIN_FOR_COMPACTION: usize = 100;
/// Children of a node.
const ARITY: usize = 4;

#[derive(Clone, Copy)]
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

    /// What the heap is ordered by; no two entries have the same.
    #[inline]
    fn order(&self) -> u128 {
        u128::from(self.when) << 64 | u128::from(self.sequence)
    }
}

/// The heap. Deadlines are nanoseconds of the loop's clock.
#[derive(Default)]
pub(super) struct Timers {
    heap: Vec<Entry>,
    sequence: u64,
    /// Entries in the heap whose callback was cancelled.
    cancelled: usize,
    /// What the last timer phase took: entries of up to this sequence with a deadline before this
    /// time are no longer in the heap.
    taken: (u64, u64),
    bells: Bells,
}

/// Names an entry after it was pushed.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerId {
    pub(super) when: u64,
    sequence: u64,
}

impl TimerId {
    /// Of an entry that another loop keeps, in its own way.
    pub(super) const fn of_others(when: u64) -> Self {
        Self { when, sequence: 0 }
    }
}

impl Timers {
    #[inline]
    pub(super) fn push(&mut self, when: u64, key: CallKey) -> TimerId {
        self.sequence += 1;
        let CallKey { index, generation } = key;
        let sequence = self.sequence;
        self.heap.push(Entry {
            when,
            sequence,
            index,
            generation,
        });
        self.rise(self.heap.len() - 1);
        TimerId { when, sequence }
    }

    /// Has a bell rung then.
    #[inline]
    pub(super) fn push_bell(&mut self, when: u64, bell: PlainBell) -> (CallKey, TimerId) {
        let key = self.bells.insert(bell);
        (key, self.push(when, key))
    }

    /// Takes a bell down that has not rung.
    #[inline]
    pub(super) fn take_bell(&mut self, key: CallKey) -> Option<PlainBell> {
        self.bells.take(key)
    }

    /// Whether a bell has neither rung nor been taken down.
    #[inline]
    pub(super) fn is_bell_waiting(&self, key: CallKey) -> bool {
        self.bells.is_waiting(key)
    }

    /// The callback of an entry was cancelled before it ran; counts if the entry is in the heap.
    pub(super) fn note_cancelled(&mut self, id: TimerId) {
        let (end, sequence) = self.taken;
        if id.when >= end || id.sequence > sequence {
            self.cancelled += 1;
        }
    }

    /// As `note_cancelled`; an entry that stands last, as that of a timeout that was set a moment
    /// ago mostly does, goes at once.
    #[inline]
    pub(super) fn discard(&mut self, id: TimerId) {
        match self.heap.last() {
            Some(last) if last.sequence == id.sequence => {
                self.heap.pop();
            }
            _ => self.note_cancelled(id),
        }
    }

    /// The timer phase took all that was due before `end`.
    pub(super) fn note_taken(&mut self, end: u64) {
        self.taken = (end, self.sequence);
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
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
    /// `live`: whether a callback waits.
    #[inline]
    pub(super) fn prune(&mut self, live: impl Fn(CallKey) -> bool) {
        if self.cancelled > 0 {
            self.prune_cancelled(live);
        }
    }

    fn prune_cancelled(&mut self, live: impl Fn(CallKey) -> bool) {
        if self.heap.len() > MIN_FOR_COMPACTION && self.cancelled * 2 > self.heap.len() {
            let bells = &self.bells;
            self.heap.retain(|entry| is_live(bells, entry.key(), &live));
            self.cancelled = 0;
            for place in (0..self.heap.len().div_ceil(ARITY)).rev() {
                self.sink(place);
            }
            return;
        }
        while let Some(head) = self.heap.first()
            && !is_live(&self.bells, head.key(), &live)
        {
            self.pop();
            self.cancelled -= 1;
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.when)
    }

    /// Pops the earliest entry if it is due: its deadline lies before `end`.
    pub(super) fn pop_due(&mut self, end: u64) -> Option<CallKey> {
        self.next().filter(|&when| when < end)?;
        self.pop().map(Entry::key)
    }

    /// A popped entry turned out to be cancelled.
    pub(super) fn forget_cancelled(&mut self) {
        self.cancelled -= 1;
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.cancelled = 0;
        self.bells.clear();
    }

    // --- the heap

    fn pop(&mut self) -> Option<Entry> {
        let last = self.heap.pop()?;
        let Some(&head) = self.heap.first() else {
            return Some(last);
        };
        // The last entry belongs near the leaves: down there first, then up as far as it must.
        let mut place = 0;
        while let Some(least) = self.least_child(place) {
            self.heap[place] = self.heap[least];
            place = least;
        }
        self.heap[place] = last;
        self.rise(place);
        Some(head)
    }

    /// The child that comes first.
    #[inline]
    fn least_child(&self, place: usize) -> Option<usize> {
        let first = place * ARITY + 1;
        let children = self.heap.get(first..)?;
        let number = if let Some(four) = children.first_chunk::<ARITY>() {
            let [a, b, c, d] = four.each_ref().map(Entry::order);
            let (ab, low) = if b < a { (1, b) } else { (0, a) };
            let (cd, high) = if d < c { (3, d) } else { (2, c) };
            if high < low { cd } else { ab }
        } else {
            let orders = children.iter().map(Entry::order).enumerate();
            orders.min_by_key(|&(_, order)| order)?.0
        };
        Some(first + number)
    }

    /// Moves an entry towards the root, to where it belongs.
    #[inline]
    fn rise(&mut self, mut place: usize) {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].order() <= entry.order() {
                break;
            }
            self.heap[place] = self.heap[parent];
            place = parent;
        }
        self.heap[place] = entry;
    }

    /// Moves an entry towards the leaves, to where it belongs.
    fn sink(&mut self, mut place: usize) {
        let entry = self.heap[place];
        while let Some(least) = self.least_child(place)
            && self.heap[least].order() < entry.order()
        {
            self.heap[place] = self.heap[least];
            place = least;
        }
        self.heap[place] = entry;
    }
}

/// Whether an entry was not cancelled.
fn is_live(bells: &Bells, key: CallKey, live: impl Fn(CallKey) -> bool) -> bool {
    if is_bell(key) {
        bells.is_waiting(key)
    } else {
        live(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> CallKey {
        CallKey {
            index,
            generation: 7,
        }
    }

    /// Numbers that look random.
    fn next(state: &mut u64) -> u64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *state >> 33
    }

    #[test]
    fn earlier_first_and_ties_in_order_of_creation() {
        let mut state = 5;
        for count in [0, 1, 2, 3, 4, 5, 6, 21, 22, 1000] {
            let mut timers = Timers::default();
            let mut expected: Vec<(u64, u32)> = (0..count)
                .map(|index| (next(&mut state) % 50, index))
                .collect();
            for &(when, index) in &expected {
                timers.push(when, key(index));
            }
            expected.sort_unstable();
            for (when, index) in expected {
                assert_eq!(timers.next(), Some(when));
                assert_eq!(timers.pop_due(when), None, "not due yet");
                assert_eq!(timers.pop_due(when + 1), Some(key(index)));
            }
            assert!(timers.is_empty());
        }
    }

    #[test]
    fn order_survives_compaction_and_entries_that_go_at_once() {
        let mut state = 9;
        let mut timers = Timers::default();
        let mut expected = Vec::new();
        for index in 0..600 {
            let when = next(&mut state) % 100;
            let id = timers.push(when, key(index));
            match index % 3 {
                0 => expected.push((when, index)),
                1 => timers.note_cancelled(id),
                _ => timers.discard(id),
            }
        }
        timers.prune(|key| key.index % 3 == 0);
        assert_eq!((timers.len(), timers.cancelled()), (200, 0));
        expected.sort_unstable();
        for (when, index) in expected {
            assert_eq!(timers.pop_due(when + 1), Some(key(index)));
        }
    }

    #[test]
    fn the_last_entry_goes_at_once_and_others_are_counted() {
        let mut timers = Timers::default();
        let first = timers.push(10, key(0));
        let second = timers.push(20, key(1));
        timers.discard(second);
        assert_eq!((timers.len(), timers.cancelled()), (1, 0));
        let earlier = timers.push(5, key(2));
        timers.discard(earlier);
        assert_eq!((timers.len(), timers.cancelled()), (2, 1));
        timers.discard(first);
        assert_eq!((timers.len(), timers.cancelled()), (1, 1));
        timers.prune(|_| false);
        assert_eq!((timers.len(), timers.cancelled()), (0, 0));
    }
}
