//! The bells of timers: who is told when a timer that only rings is due.
//!
//! **Guarantees.** Hanging a bell up takes nothing from the heap when warm. A key that rang or was
//! taken down is stale. A bell's key has an index no callback has, so the two kinds share handles and
//! the heap of timers.

use crate::task::{CallKey, PlainBell};

/// Set in the index of every bell's key; callbacks have indices below 2^24.
const BELL: u32 = 1 << 31;
/// No place.
const NONE: u32 = u32::MAX;

/// Whether the key is a bell's.
#[inline]
pub(super) const fn is_bell(key: CallKey) -> bool {
    key.index & BELL != 0
}

struct Place {
    bell: Option<PlainBell>,
    /// Goes up when a bell leaves.
    generation: u32,
    /// The next free place.
    next: u32,
}

pub(super) struct Bells {
    places: Vec<Place>,
    free: u32,
}

impl Default for Bells {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: NONE,
        }
    }
}

impl Bells {
    #[inline]
    pub(super) fn insert(&mut self, bell: PlainBell) -> CallKey {
        let index = self.free;
        if let Some(place) = self.places.get_mut(index as usize) {
            self.free = place.next;
            place.bell = Some(bell);
            return CallKey {
                index: index | BELL,
                generation: place.generation,
            };
        }
        let index = self.places.len() as u32;
        assert!(index < BELL - 1, "2^31 timers wait");
        self.places.push(Place {
            bell: Some(bell),
            generation: 0,
            next: NONE,
        });
        CallKey {
            index: index | BELL,
            generation: 0,
        }
    }

    /// The bell leaves: its key is stale from now on.
    #[inline]
    pub(super) fn take(&mut self, key: CallKey) -> Option<PlainBell> {
        let index = key.index & !BELL;
        let place = self.places.get_mut(index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let bell = place.bell.take()?;
        place.generation = place.generation.wrapping_add(1);
        place.next = std::mem::replace(&mut self.free, index);
        Some(bell)
    }

    /// Whether the bell has neither rung nor been taken down.
    #[inline]
    pub(super) fn is_waiting(&self, key: CallKey) -> bool {
        self.places
            .get((key.index & !BELL) as usize)
            .is_some_and(|place| place.generation == key.generation && place.bell.is_some())
    }

    /// Takes all down.
    pub(super) fn clear(&mut self) {
        for index in 0..self.places.len() as u32 {
            let generation = self.places[index as usize].generation;
            self.take(CallKey { index, generation });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_taken_once_and_its_place_serves_the_next() {
        let mut bells = Bells::default();
        let first = bells.insert(PlainBell::Task(1));
        let second = bells.insert(PlainBell::Task(2));
        assert!(is_bell(first) && bells.is_waiting(first) && bells.is_waiting(second));
        assert_eq!(bells.take(first), Some(PlainBell::Task(1)));
        assert_eq!(bells.take(first), None);
        let third = bells.insert(PlainBell::Task(3));
        assert_eq!(third.index, first.index);
        assert!(bells.is_waiting(third) && !bells.is_waiting(first));
        bells.clear();
        assert!(!bells.is_waiting(second) && bells.take(third).is_none());
        assert_eq!(bells.places.len(), 2);
    }
}
