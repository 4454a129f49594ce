//! What the driver remembers of each slot of the op table.
//!
//! **Guarantees.** A cancel needs the tag its target was submitted with, and an operation that was
//! cancelled is not armed again: both are kept here, with half of the generation they belong to, so
//! that a stale key finds nothing. (The [`Engine`](crate::driver::Engine) passes none; if one came after
//! exactly 65 536 uses of its slot, an operation would end as if it had been cancelled.)

use super::tag::Tag;
use crate::driver::Key;

#[derive(Clone, Copy)]
struct Slot {
    /// The lower half.
    generation: u16,
    tag: Tag,
    cancelled: bool,
}

// Part of the price of an idle connection.
const _: () = assert!(size_of::<Slot>() == 4);

const UNUSED: Slot = Slot {
    generation: u16::MAX,
    tag: Tag::Shutdown,
    cancelled: true,
};

#[derive(Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// A new operation stands in the slot.
    #[inline]
    pub(super) fn set(&mut self, key: Key, tag: Tag) {
        let index = key.index as usize;
        if index >= self.0.len() {
            self.grow(index);
        }
        self.0[index] = Slot {
            generation: key.generation as u16,
            tag,
            cancelled: false,
        };
    }

    /// The operation in the slot goes on in another form; a cancel stays noted.
    pub(super) fn change(&mut self, key: Key, tag: Tag) {
        if let Some(slot) = self.get(key) {
            slot.tag = tag;
        }
    }

    #[cold]
    fn grow(&mut self, index: usize) {
        // By a part, where a vector would double.
        let part = (self.0.len() / 4).max(64);
        self.0.reserve_exact(part.max(index + 1 - self.0.len()));
        self.0.resize(self.0.capacity(), UNUSED);
    }

    fn get(&mut self, key: Key) -> Option<&mut Slot> {
        self.0
            .get_mut(key.index as usize)
            .filter(|slot| slot.generation == key.generation as u16)
    }

    /// Notes that the operation shall end; its tag, unless the key is stale or this is not the
    /// first time.
    pub(super) fn cancel(&mut self, key: Key) -> Option<Tag> {
        let slot = self.get(key).filter(|slot| !slot.cancelled)?;
        slot.cancelled = true;
        Some(slot.tag)
    }

    /// The tag of an operation that may be armed again: known, and not cancelled.
    pub(super) fn armable(&mut self, key: Key) -> Option<Tag> {
        let slot = self.get(key)?;
        (!slot.cancelled).then_some(slot.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_keys_and_second_cancels_find_nothing() {
        let mut slots = Slots::default();
        let old = Key {
            index: 3,
            generation: 1,
        };
        let new = Key {
            index: 3,
            generation: 2,
        };
        assert_eq!(slots.cancel(old), None);
        slots.set(old, Tag::Receive);
        slots.set(new, Tag::Poll);
        assert_eq!(slots.cancel(old), None);
        assert_eq!(slots.armable(old), None);
        assert_eq!(slots.armable(new), Some(Tag::Poll));
        slots.change(old, Tag::Receive);
        assert_eq!(slots.armable(new), Some(Tag::Poll));
        assert_eq!(slots.cancel(new), Some(Tag::Poll));
        slots.change(new, Tag::Watch);
        assert_eq!(slots.cancel(new), None);
        assert_eq!(slots.armable(new), None);
    }
}
