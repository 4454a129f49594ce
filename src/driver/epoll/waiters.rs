//! Operations that wait for their descriptor, in order.
//!
//! Mostly there is one, so the first stands in place and only more of them need memory.

use super::super::Key;
use std::collections::VecDeque;

/// A waiting operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) key: Key,
    /// Number of the park that started it.
    pub(super) turn: u32,
}

impl Waiter {
    /// In the place of one where there is none.
    pub(super) const NOBODY: Self = Self {
        key: Key::from_bits(0),
        turn: 0,
    };

    /// Whether this is `key`, started in this very park.
    pub(super) fn is(&self, key: Key, turn: u32) -> bool {
        self.key == key && self.turn == turn
    }
}

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    first: Option<Waiter>,
    /// Only used while there is a first.
    more: Option<Box<More>>,
}

/// Boxed, since most descriptors never need it and there may be many thousands.
#[derive(Debug, Default)]
struct More {
    waiters: VecDeque<Waiter>,
}

impl Waiters {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    #[inline]
    pub(super) fn front(&self) -> Option<Waiter> {
        self.first
    }

    pub(super) fn push(&mut self, waiter: Waiter) {
        if self.first.is_none() {
            self.first = Some(waiter);
        } else {
            self.more.get_or_insert_default().waiters.push_back(waiter);
        }
    }

    /// Takes the first away.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        let next = self.more.as_mut().and_then(|more| more.waiters.pop_front());
        std::mem::replace(&mut self.first, next)
    }

    /// Takes those away that `keep` refuses; asked in order.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Waiter) -> bool) {
        let first_stays = self.first.as_ref().is_none_or(&mut keep);
        if let Some(more) = &mut self.more {
            more.waiters.retain(keep);
        }
        if !first_stays {
            self.pop();
        }
    }

    /// Takes `key` away; whether it was there.
    pub(super) fn remove(&mut self, key: Key) -> bool {
        if self.first.is_some_and(|first| first.key == key) {
            self.pop();
            return true;
        }
        let Some(More { waiters }) = self.more.as_deref_mut() else {
            return false;
        };
        let Some(index) = waiters.iter().position(|waiter| waiter.key == key) else {
            return false;
        };
        waiters.remove(index);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(index: u32) -> Waiter {
        Waiter {
            key: Key {
                index,
                generation: 0,
            },
            turn: 0,
        }
    }

    #[test]
    fn first_in_first_out_and_removal_anywhere() {
        let mut waiters = Waiters::default();
        assert!(waiters.is_empty());
        for index in 0..5 {
            waiters.push(waiter(index));
        }
        for index in [0, 3] {
            assert!(waiters.remove(waiter(index).key));
            assert!(!waiters.remove(waiter(index).key));
        }
        for index in [1, 2, 4] {
            assert_eq!(waiters.front().map(|first| first.key.index), Some(index));
            waiters.pop();
        }
        assert!(waiters.is_empty());
        for index in 10..15 {
            waiters.push(waiter(index));
        }
        let mut asked = Vec::new();
        waiters.retain(|waiter| {
            asked.push(waiter.key.index);
            waiter.key.index % 2 == 1
        });
        assert_eq!(asked, [10, 11, 12, 13, 14]);
        asked.clear();
        waiters.retain(|waiter| {
            asked.push(waiter.key.index);
            true
        });
        assert_eq!(asked, [11, 13]);
    }
}
