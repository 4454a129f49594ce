//! What a wait waits for, as its node keeps it: in 8 bytes, because idle connections are many.
//!
//! **Guarantees.** A name comes out as it went in. What is only looked at by listings (the id of an
//! awaited task) is found then, not kept.
//!
//! ```text
//!   63              32 31             8 7    0
//!  ┌──────────────────┬────────────────┬──────┐
//!  │ descriptor       │ name           │ kind │  a name: its number in the loop's `Names`
//!  │ generation       │ slot           │ kind │  a join
//!  │ id of a task                      │ kind │
//!  └───────────────────────────────────┴──────┘
//! ```

use super::arena::NONE;
use super::id::{TASK_BITS, TASK_MASK, TaskId};
use super::tasks::Tasks;
use super::wait::WaitsFor;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Slot and generation of a task of the same loop.
const JOIN: u64 = 0;
/// The id of a task.
const TASK: u64 = 1;
/// A name and a descriptor.
const IO: u64 = 2;
/// A name.
const OTHER: u64 = 3;
const SLEEP: u64 = 4;

const KIND: u64 = 0xff;
const KIND_BITS: u32 = KIND.count_ones();

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted(u64);

const _: () = assert!(size_of::<Noted>() == 8 && KIND_BITS + TASK_BITS == 32);

impl Noted {
    #[inline]
    const fn new(kind: u64, low: u32, high: u32) -> Self {
        Self((high as u64) << 32 | ((low & TASK_MASK) as u64) << KIND_BITS | kind)
    }

    /// The wait for the end of the task in this slot.
    #[inline]
    pub(super) const fn join(slot: u32, generation: u32) -> Self {
        Self::new(JOIN, slot, generation)
    }

    #[inline]
    const fn kind(self) -> u64 {
        self.0 & KIND
    }

    /// The number between kind and descriptor.
    #[inline]
    const fn low(self) -> u32 {
        (self.0 >> KIND_BITS) as u32 & TASK_MASK
    }

    #[inline]
    const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Slot and generation of the awaited task; the slot is NONE for other waits.
    #[inline]
    pub(super) fn joined(self) -> (u32, u32) {
        match self.kind() {
            JOIN => (self.low(), self.high()),
            _ => (NONE, 0),
        }
    }
}

/// Places of the table by address.
const PLACES: usize = 32;
/// What stands for a name when there are too many.
const MANY: &str = "something";

/// The names that a loop's waits have had. A name that was used lately is found by its address.
pub(super) struct Names {
    lately: [Cell<(&'static str, u32)>; PLACES],
    list: RefCell<Vec<&'static str>>,
    numbers: RefCell<HashMap<&'static str, u32>>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            lately: [const { Cell::new((MANY, 0)) }; PLACES],
            list: RefCell::new(vec![MANY]),
            numbers: RefCell::new(HashMap::from([(MANY, 0)])),
        }
    }
}

impl Names {
    /// The number of a name.
    #[inline]
    fn number(&self, name: &'static str) -> u32 {
        let mixed = (name.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = &self.lately[(mixed >> (u64::BITS - PLACES.ilog2())) as usize];
        let (known, number) = place.get();
        if std::ptr::eq(known, name) {
            return number;
        }
        let number = self.find(name);
        place.set((name, number));
        number
    }

    #[cold]
    fn find(&self, name: &'static str) -> u32 {
        let mut list = self.list.borrow_mut();
        let new = list.len();
        if new > TASK_MASK as usize {
            return 0;
        }
        let number = *self.numbers.borrow_mut().entry(name).or_insert(new as u32);
        if number as usize == new {
            list.push(name);
        }
        number
    }

    fn name(&self, number: u32) -> &'static str {
        self.list.borrow()[number as usize]
    }
}

impl Tasks {
    /// Notes a wait that is no join.
    #[inline]
    pub(super) fn note(&self, what: WaitsFor) -> Noted {
        match what {
            WaitsFor::Sleep => Noted(SLEEP),
            WaitsFor::Task(id) => Noted(id.get() << KIND_BITS | TASK),
            WaitsFor::Io { name, fd } => Noted::new(IO, self.names.number(name), fd as u32),
            WaitsFor::Other(name) => Noted::new(OTHER, self.names.number(name), 0),
        }
    }

    /// What was noted, in full.
    pub(super) fn what(&self, noted: Noted) -> WaitsFor {
        let task = |id: Option<TaskId>| id.map_or(WaitsFor::Other("task"), WaitsFor::Task);
        match noted.kind() {
            SLEEP => WaitsFor::Sleep,
            TASK => task(TaskId::from_bits(noted.0 >> KIND_BITS)),
            JOIN => {
                let (index, generation) = noted.joined();
                let awaited = self.arena.get(index);
                let awaited = awaited.filter(|slot| slot.generation() == generation);
                task(awaited.and_then(|slot| slot.id()))
            }
            IO => WaitsFor::Io {
                name: self.names.name(noted.low()),
                fd: noted.high() as i32,
            },
            _ => WaitsFor::Other(self.names.name(noted.low())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Loop;
    use super::*;

    #[test]
    fn what_is_noted_comes_out_as_it_went_in() {
        let l = Loop::new();
        let unique = TaskId::unique();
        let mut all = vec![
            WaitsFor::Sleep,
            WaitsFor::Task(unique),
            WaitsFor::Other(""),
            WaitsFor::Other(MANY),
        ];
        // More names than places, some of them equal and none at the address of another.
        for n in 0..200 {
            let name: &'static str = Box::leak("é".repeat(1 + n % 150).into_boxed_str());
            all.push(WaitsFor::Other(name));
            let fd = n as i32 - 1;
            all.push(WaitsFor::Io { name, fd });
        }
        for _ in 0..2 {
            let noted: Vec<_> = all.iter().map(|&what| l.tasks.note(what)).collect();
            for (noted, what) in noted.into_iter().zip(&all) {
                assert_eq!(l.tasks.what(noted), *what);
                assert_eq!(noted.joined(), (NONE, 0));
            }
        }
        assert_eq!(l.tasks.names.list.borrow().len(), 152);
        assert_eq!(Noted::join(7, 9).joined(), (7, 9));
        assert_eq!(
            Noted::join(TASK_MASK, TASK_MASK).joined(),
            (TASK_MASK, TASK_MASK)
        );
    }
}
