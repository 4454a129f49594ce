//! The orders in which queues give their items.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What a [`Queue`](super::Queue) keeps its items in: an order. Implement it for one of your own.
/// asyncio: the methods `_put`, `_get` and `qsize` that subclasses of `Queue` override.
///
/// # Examples
/// Urgent items overtake the others:
/// ```
/// use ringloop::sync::{Queue, QueueStore};
/// use std::collections::VecDeque;
///
/// #[derive(Default)]
/// struct UrgentFirst {
///     urgent: VecDeque<&'static str>,
///     others: VecDeque<&'static str>,
/// }
///
/// impl QueueStore<(bool, &'static str)> for UrgentFirst {
///     fn push(&mut self, (urgent, item): (bool, &'static str)) {
///         let line = if urgent { &mut self.urgent } else { &mut self.others };
///         line.push_back(item);
///     }
///     fn pop(&mut self) -> Option<(bool, &'static str)> {
///         let urgent = self.urgent.pop_front().map(|item| (true, item));
///         urgent.or_else(|| self.others.pop_front().map(|item| (false, item)))
///     }
///     fn len(&self) -> usize {
///         self.urgent.len() + self.others.len()
///     }
/// }
///
/// let queue = Queue::with_store(0, UrgentFirst::default());
/// for item in [(false, "letter"), (true, "fire"), (false, "parcel")] {
///     queue.put_nowait(item).unwrap();
/// }
/// assert_eq!(queue.get_nowait(), Ok((true, "fire")));
/// ```
pub trait QueueStore<T> {
    /// Takes an item in, to be given once.
    fn push(&mut self, item: T);

    /// Gives the next item; `None` exactly when there is none.
    fn pop(&mut self) -> Option<T>;

    /// How many items there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// First in, first out.
#[derive(Debug)]
pub struct Fifo<T>(VecDeque<T>);

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> QueueStore<T> for Fifo<T> {
    fn push(&mut self, item: T) {
        self.0.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Last in, first out.
#[derive(Debug)]
pub struct Lifo<T>(Vec<T>);

impl<T> Default for Lifo<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> QueueStore<T> for Lifo<T> {
    fn push(&mut self, item: T) {
        self.0.push(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The smallest first, from a heap.
#[derive(Debug)]
pub struct Smallest<T>(BinaryHeap<Reverse<T>>);

impl<T: Ord> Default for Smallest<T> {
    fn default() -> Self {
        Self(BinaryHeap::new())
    }
}

impl<T: Ord> QueueStore<T> for Smallest<T> {
    fn push(&mut self, item: T) {
        self.0.push(Reverse(item));
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop().map(|Reverse(item)| item)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
