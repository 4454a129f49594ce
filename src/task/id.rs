//! Names of loops and tasks, and the word that a waker carries.
//!
//! **Guarantees.** A [`LoopId`] and a [`TaskId`] are unique in the process and never used twice.
//!
//! A waker's word packs three numbers:
//!
//! ```text
//!  63        60 59          48 47              24 23               0
//! ┌────────────┬──────────────┬──────────────────┬──────────────────┐
//! │ loop serial│  loop slot   │ task generation  │    task index    │
//! └────────────┴──────────────┴──────────────────┴──────────────────┘
//!   the low 16 bits of the loop's id: its tag
//! ```
//!
//! Serial and generation wrap. A waker that outlived its task by a whole turn wakes another task
//! for nothing, which `Future` allows.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a slot in the static loop table.
pub(super) const SLOT_BITS: u32 = 12;
/// Bits of a task index and of a task generation.
pub(super) const TASK_BITS: u32 = 24;
/// The largest task index and generation.
pub(super) const TASK_MASK: u32 = (1 << TASK_BITS) - 1;

/// The index that no task has: a word with it is no waker's.
pub(super) const NO_INDEX: u32 = TASK_MASK;

/// Names an event loop: unique in the process, never reused. asyncio compares loops by identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoopId(NonZeroU64);

impl LoopId {
    /// The next loop in slot `slot` of the static table.
    pub(super) fn next(slot: usize) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let id = serial << SLOT_BITS | slot as u64;
        Self(NonZeroU64::new(id).expect("serials start at 1"))
    }

    /// The id as a number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    pub(super) const fn slot(self) -> usize {
        self.get() as usize & ((1 << SLOT_BITS) - 1)
    }

    pub(super) const fn tag(self) -> u16 {
        self.get() as u16
    }
}

impl fmt::Debug for LoopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loop-{}", self.get() >> SLOT_BITS)
    }
}

/// Names a task: unique in the process, never reused, and increasing within a loop.
/// The N of asyncio's automatic name `Task-N`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub(super) NonZeroU64);

static TASK_ID: AtomicU64 = AtomicU64::new(1);

impl TaskId {
    /// A name for a task of a foreign kind; see [`ForeignTask`](super::ForeignTask).
    pub fn unique() -> Self {
        Self::from_bits(TASK_ID.fetch_add(1, Ordering::Relaxed)).expect("ids start at 1")
    }

    /// The id as a number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    pub(super) const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task-{}", self.get())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task-{}", self.get())
    }
}

/// The first of `count` consecutive task ids, which are the caller's from now on.
pub(super) fn reserve_task_ids(count: u64) -> u64 {
    TASK_ID.fetch_add(count, Ordering::Relaxed)
}

/// Packs the word of a waker.
#[inline]
pub(super) const fn pack(tag: u16, index: u32, generation: u32) -> u64 {
    (tag as u64) << (2 * TASK_BITS) | (generation as u64) << TASK_BITS | index as u64
}

/// The word of the next task in the same slot; generations wrap.
#[inline]
pub(super) const fn next_generation(bits: u64) -> u64 {
    const OF_TASK: u64 = (1 << (2 * TASK_BITS)) - 1;
    bits & !OF_TASK | bits.wrapping_add(1 << TASK_BITS) & OF_TASK
}

/// The loop tag of a packed word.
#[inline]
pub(super) const fn tag_of(bits: u64) -> u16 {
    (bits >> (2 * TASK_BITS)) as u16
}

/// Task index and generation of a packed word.
#[inline]
pub(super) const fn unpack(bits: u64) -> (u32, u32) {
    (
        bits as u32 & TASK_MASK,
        (bits >> TASK_BITS) as u32 & TASK_MASK,
    )
}

const _: () = {
    let last = pack(u16::MAX, 5, TASK_MASK);
    assert!(next_generation(last) == pack(u16::MAX, 5, 0));
    assert!(next_generation(pack(3, TASK_MASK, 7)) == pack(3, TASK_MASK, 8));
};

const _: () = assert!(
    usize::BITS == 64,
    "a waker's word needs a 64-bit data pointer"
);
