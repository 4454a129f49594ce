//! Who waits for the same thing, and stands there only as long as it waits.
//!
//! **Guarantees.** Nothing in here runs code of others: wakers are cloned before they come here, and
//! those that come out are dropped and woken by the caller. A list that was waited in before takes
//! nothing from the heap.

use std::num::NonZeroU32;
use std::task::Waker;

/// The place of one who waits; [`Waiters::leave`] is to be called with it.
#[derive(Default)]
pub(super) struct Place(Option<NonZeroU32>);

/// See the module.
#[derive(Default)]
pub(super) struct Waiters {
    /// In the order in which they came.
    list: Vec<(NonZeroU32, Waker)>,
    /// How many came. Numbers come again after four thousand million.
    came: u32,
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
        let number = self.next();
        place.0 = Some(number);
        self.list.push((number, waker));
        None
    }

    fn next(&mut self) -> NonZeroU32 {
        let next = NonZeroU32::MIN.saturating_add(self.came);
        self.came = self.came.wrapping_add(1) % (u32::MAX - 1);
        next
    }

    /// Removes one who waits no more, if it was not woken meanwhile.
    pub(super) fn leave(&mut self, place: &mut Place) -> Option<Waker> {
        let number = place.0.take()?;
        let at = self.list.iter().position(|(other, _)| *other == number)?;
        Some(self.list.remove(at).1)
    }

    /// Takes all, to be woken in order.
    pub(super) fn take(&mut self) -> Vec<(NonZeroU32, Waker)> {
        std::mem::take(&mut self.list)
    }

    /// Gives the memory of what was taken back.
    pub(super) fn reuse(&mut self, empty: Vec<(NonZeroU32, Waker)>) {
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
