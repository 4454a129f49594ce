//! Who waits for the same thing, and stands there only as long as it waits.
//!
//! **Guarantees.** Nothing in here runs code of others: wakers are cloned before they come here, and
//! those that come out are dropped and woken by the caller. A list that was waited in before takes
//! nothing from the heap.

use std::task::Waker;

/// The place of one who waits; [`Waiters::leave`] is to be called with it.
#[derive(Default)]
pub(super) struct Place(Option<u64>);

/// See the module.
#[derive(Default)]
pub(super) struct Waiters {
    /// In the order in which they came.
    list: Vec<(u64, Waker)>,
    /// The number of the last who came.
    last: u64,
}

impl Waiters {
    /// Adds one who waits, or gives it another waker: the old one comes back.
    pub(super) fn stay(&mut self, place: &mut Place, waker: Waker) -> Option<Waker> {
        let known = self
            .list
            .iter_mut()
            .find(|(number, _)| place.0 == Some(*number));
        if let Some((_, old)) = known {
            return Some(std::mem::replace(old, waker));
        }
        self.last += 1;
        place.0 = Some(self.last);
        self.list.push((self.last, waker));
        None
    }

    /// Removes one who waits no more, if it was not woken meanwhile.
    pub(super) fn leave(&mut self, place: &mut Place) -> Option<Waker> {
        let number = place.0.take()?;
        let at = self.list.iter().position(|(other, _)| *other == number)?;
        Some(self.list.remove(at).1)
    }

    /// Takes all, to be woken in order.
    pub(super) fn take(&mut self) -> Vec<(u64, Waker)> {
        std::mem::take(&mut self.list)
    }

    /// Gives the memory of what was taken back.
    pub(super) fn reuse(&mut self, empty: Vec<(u64, Waker)>) {
        if self.list.capacity() == 0 {
            self.list = empty;
        }
    }
}

impl Place {
    /// Whether it may stand in a list.
    #[inline]
    pub(super) fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}
