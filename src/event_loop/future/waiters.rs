//! Who waits for a future, in the order in which they began to.
//!
//! **Guarantees.** Adding and removing take O(log n), amortised. The first waiter stands in place, so
//! a future that one task awaits takes no memory for it. What was removed is given back, never
//! dropped here: nothing in this file runs code of others.

/// See the module. `E` is a waiter.
pub(in crate::event_loop) struct Waiters<E> {
    /// Came before all in `more`.
    first: Option<(u64, E)>,
    /// By number, rising. Who left is `None` until there are too many of them.
    more: Vec<(u64, Option<E>)>,
    gone: usize,
    next: u64,
}

impl<E> Waiters<E> {
    pub(in crate::event_loop) const fn new() -> Self {
        Self {
            first: None,
            more: Vec::new(),
            gone: 0,
            next: 0,
        }
    }

    /// Adds a waiter behind all others; the number names it from now on.
    pub(in crate::event_loop) fn push(&mut self, waiter: E) -> u64 {
        let key = self.next;
        self.next += 1;
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some((key, waiter));
        } else {
            self.more.push((key, Some(waiter)));
        }
        key
    }

    /// A waiter that did not leave.
    pub(in crate::event_loop) fn get_mut(&mut self, key: u64) -> Option<&mut E> {
        if let Some((first, waiter)) = &mut self.first
            && *first == key
        {
            return Some(waiter);
        }
        let at = self.more.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.more[at].1.as_mut()
    }

    /// A waiter leaves.
    pub(in crate::event_loop) fn remove(&mut self, key: u64) -> Option<E> {
        if let Some((_, waiter)) = self.first.take_if(|(first, _)| *first == key) {
            return Some(waiter);
        }
        let at = self.more.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        let waiter = self.more[at].1.take()?;
        self.gone += 1;
        self.compact();
        Some(waiter)
    }

    /// All that are so leave, in their order.
    pub(in crate::event_loop) fn remove_all(&mut self, so: impl Fn(&E) -> bool) -> Vec<E> {
        let mut removed = Vec::new();
        removed.extend(self.first.take_if(|(_, waiter)| so(waiter)).map(|e| e.1));
        for (_, waiter) in &mut self.more {
            removed.extend(waiter.take_if(|waiter| so(waiter)));
        }
        self.gone = self
            .more
            .iter()
            .filter(|(_, waiter)| waiter.is_none())
            .count();
        self.compact();
        removed
    }

    fn compact(&mut self) {
        if self.gone * 2 > self.more.len() {
            self.more.retain(|(_, waiter)| waiter.is_some());
            self.gone = 0;
        }
    }

    /// All of them, in their order.
    pub(in crate::event_loop) fn iter(&self) -> impl Iterator<Item = &E> {
        let first = self.first.iter().map(|(_, waiter)| waiter);
        first.chain(self.more.iter().filter_map(|(_, waiter)| waiter.as_ref()))
    }

    /// Takes all of them out, in their order. Numbers given before name nobody any more.
    pub(in crate::event_loop) fn take(&mut self) -> impl Iterator<Item = E> + use<E> {
        self.gone = 0;
        let first = self.first.take().map(|(_, waiter)| waiter);
        let more = std::mem::take(&mut self.more);
        first
            .into_iter()
            .chain(more.into_iter().filter_map(|e| e.1))
    }

    /// How many places are taken; for tests.
    #[cfg(test)]
    fn places(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Waiters;

    fn of(count: u64) -> Waiters<u64> {
        let mut waiters = Waiters::new();
        for number in 0..count {
            assert_eq!(waiters.push(number), number);
        }
        waiters
    }

    fn all(waiters: &Waiters<u64>) -> Vec<u64> {
        waiters.iter().copied().collect()
    }

    #[test]
    fn any_may_leave_and_the_others_keep_their_order() {
        for count in 1..6 {
            for leaves in 0..count {
                let mut waiters = of(count);
                assert_eq!(waiters.remove(leaves), Some(leaves));
                assert_eq!(waiters.remove(leaves), None);
                assert!(waiters.get_mut(leaves).is_none());
                let new = waiters.push(99);
                *waiters.get_mut(new).unwrap() = 100;
                let mut left: Vec<_> = (0..count).filter(|number| *number != leaves).collect();
                left.push(100);
                assert_eq!(all(&waiters), left);
                assert!(waiters.take().eq(left));
                assert_eq!(waiters.places(), 0);
            }
        }
    }

    #[test]
    fn all_that_are_so_leave() {
        let mut waiters = of(7);
        assert_eq!(waiters.remove_all(|number| number % 2 == 0), [0, 2, 4, 6]);
        assert_eq!(all(&waiters), [1, 3, 5]);
        assert_eq!(waiters.remove_all(|_| true), [1, 3, 5]);
        assert_eq!(waiters.places(), 0);
    }

    #[test]
    fn who_comes_and_goes_takes_no_more_places() {
        let mut waiters = of(3);
        let mut last = waiters.push(0);
        for _ in 0..1000 {
            let new = waiters.push(0);
            assert!(waiters.remove(last).is_some());
            last = new;
            assert!(waiters.places() <= 12);
        }
    }
}
