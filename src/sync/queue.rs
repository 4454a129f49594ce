//! `Queue`: items from producers to consumers.
//!
//! Items are not handed to waiters: who is woken looks again, and goes to the end of the line if
//! somebody else was faster. A wake-up that met a waiter who leaves goes on to the next as long as
//! there is something to get (or room to put).

use super::error::TaskDoneTooOften;
use super::event::Event;
use super::leaf::{Bound, Leaf, Turn};
use super::queue_error::{GetError, GetNowaitError, PutError, PutNowaitError};
use super::queue_store::{Fifo, Lifo, QueueStore, Smallest};
use super::waiters::Waiters;
use crate::task::Cancelled;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// Carries items from tasks to tasks of one loop, first in, first out; bounded or not.
/// asyncio: `Queue`.
///
/// `S` is the order; see [`PriorityQueue`], [`LifoQueue`], and [`Queue::with_store`] for others.
/// It belongs to one thread, and to the first loop that blocks on it. The order (an `Ord` of
/// items, or a store of your own) must not use the queue it serves: that panics.
///
/// # Examples
/// ```
/// use ringloop::EventLoopExt;
/// use ringloop::sync::{GetError, Queue};
/// use std::rc::Rc;
///
/// # ringloop::run(async {
/// let queue = Rc::new(Queue::new(2));
/// let source = queue.clone();
/// let worker = ringloop::get_running_loop().create_task(async move {
///     let mut sum = 0;
///     loop {
///         match source.get().await {
///             Ok(number) => sum += number,
///             Err(GetError::QueueShutDown) => return Ok(sum),
///             Err(GetError::Cancelled(cancelled)) => return Err(cancelled),
///         }
///         source.task_done().expect("it was got");
///     }
/// })?;
/// for number in 1..=10 {
///     queue.put(number).await?; // Waits while the queue is full.
/// }
/// queue.join().await?; // All have been worked on.
/// queue.shutdown(false);
/// assert_eq!(worker.await??, 55);
/// # Ok::<_, std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Queue<T, S: QueueStore<T> = Fifo<T>> {
    store: RefCell<S>,
    maxsize: usize,
    shut_down: Cell<bool>,
    unfinished: Cell<usize>,
    /// Set while nothing is unfinished.
    finished: Event,
    getters: Waiters,
    putters: Waiters,
    bound: Bound,
    items: PhantomData<T>,
}

impl<T> Queue<T> {
    /// An empty queue that holds at most `maxsize` items; any number if that is 0, as in asyncio.
    pub fn new(maxsize: usize) -> Self {
        Self::with_store(maxsize, Fifo::default())
    }
}

impl<T> Default for Queue<T> {
    /// A queue without a bound.
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T, S: QueueStore<T>> Queue<T, S> {
    /// A queue with an order of your own; items that are in `store` already count as put.
    /// asyncio: overriding `_put` and `_get`.
    pub fn with_store(maxsize: usize, store: S) -> Self {
        let unfinished = store.len();
        let finished = Event::new();
        if unfinished == 0 {
            finished.set();
        }
        Self {
            store: RefCell::new(store),
            maxsize,
            shut_down: Cell::new(false),
            unfinished: Cell::new(unfinished),
            finished,
            getters: Waiters::new(),
            putters: Waiters::new(),
            bound: Bound::new(),
            items: PhantomData,
        }
    }

    /// How many items it holds.
    pub fn qsize(&self) -> usize {
        self.store.borrow().len()
    }

    /// How many items it may hold; 0 is any number.
    pub const fn maxsize(&self) -> usize {
        self.maxsize
    }

    /// Whether it holds no item.
    pub fn empty(&self) -> bool {
        self.qsize() == 0
    }

    /// Whether it holds as many items as it may.
    pub fn full(&self) -> bool {
        self.maxsize > 0 && self.qsize() >= self.maxsize
    }

    /// Puts an item in, waiting while the queue is full.
    ///
    /// # Errors
    /// [`PutError`], which gives the item back: the queue was shut down, or the wait was cancelled.
    /// Dropping the future drops the item unless it was put.
    ///
    /// # Panics
    /// When it has to wait and another loop than the queue's own runs.
    pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
        let mut leaf = Leaf::new(PutTurn {
            queue: self,
            item: Some(item),
        });
        match (&mut leaf).await {
            Ok(outcome) => outcome.map_err(PutError::QueueShutDown),
            Err(cancelled) => {
                let item = leaf.turn.item.take();
                Err(PutError::Cancelled(
                    item.unwrap_or_else(|| gone()),
                    cancelled,
                ))
            }
        }
    }

    /// Puts an item in if there is room.
    ///
    /// # Errors
    /// [`PutNowaitError`], which gives the item back.
    pub fn put_nowait(&self, item: T) -> Result<(), PutNowaitError<T>> {
        if self.shut_down.get() {
            return Err(PutNowaitError::QueueShutDown(item));
        }
        if self.full() {
            return Err(PutNowaitError::QueueFull(item));
        }
        let _put = Put(self);
        self.store.borrow_mut().push(item);
        Ok(())
    }

    /// Takes an item out, waiting while there is none.
    ///
    /// Dropping the future loses nothing: no item is taken, and if it had been woken for one, the next
    /// in line is.
    ///
    /// # Errors
    /// [`GetError`]: the queue was shut down and is empty, or the wait was cancelled; then no item was
    /// taken.
    ///
    /// # Panics
    /// When it has to wait and another loop than the queue's own runs.
    pub async fn get(&self) -> Result<T, GetError> {
        match Leaf::new(GetTurn(self)).await {
            Ok(Some(item)) => Ok(item),
            Ok(None) => Err(GetError::QueueShutDown),
            Err(cancelled) => Err(GetError::Cancelled(cancelled)),
        }
    }

    /// Takes an item out if there is one.
    ///
    /// # Errors
    /// [`GetNowaitError`].
    pub fn get_nowait(&self) -> Result<T, GetNowaitError> {
        let item = self.store.borrow_mut().pop();
        match item {
            Some(item) => {
                self.putters.give(0);
                Ok(item)
            }
            None if self.shut_down.get() => Err(GetNowaitError::QueueShutDown),
            None => Err(GetNowaitError::QueueEmpty),
        }
    }

    /// The work on one item that was got is done.
    ///
    /// # Errors
    /// [`TaskDoneTooOften`] when that was said for every item already.
    pub fn task_done(&self) -> Result<(), TaskDoneTooOften> {
        let left = self.unfinished.get().checked_sub(1);
        let left = left.ok_or(TaskDoneTooOften)?;
        self.unfinished.set(left);
        if left == 0 {
            self.finished.set();
        }
        Ok(())
    }

    /// Waits until [`Queue::task_done`] was called for every item that was put.
    ///
    /// # Errors
    /// [`Cancelled`].
    ///
    /// # Panics
    /// When it has to wait and another loop runs than the first that joined.
    pub async fn join(&self) -> Result<(), Cancelled> {
        self.finished.wait().await
    }

    /// Lets nothing in any more, for good. What is in the queue can still be got, unless `immediate`
    /// drops it (which counts as done). Everyone who waits to put, and once it is empty everyone who
    /// waits to get, is told so.
    pub fn shutdown(&self, immediate: bool) {
        self.shut_down.set(true);
        if immediate {
            self.drain();
        }
        if self.unfinished.get() == 0 {
            self.finished.set();
        }
        self.getters.give_all();
        self.putters.give_all();
    }

    fn drain(&self) {
        // Popped under the borrow, dropped outside.
        let pop = || self.store.borrow_mut().pop();
        while let Some(item) = pop() {
            // More may have been said to be done than was got.
            self.unfinished.set(self.unfinished.get().saturating_sub(1));
            drop(item);
        }
    }
}

/// An item was put, even if its order panicked on the way.
struct Put<'a, T, S: QueueStore<T>>(&'a Queue<T, S>);

impl<T, S: QueueStore<T>> Drop for Put<'_, T, S> {
    fn drop(&mut self) {
        let queue = self.0;
        queue.unfinished.set(queue.unfinished.get() + 1);
        queue.finished.clear();
        queue.getters.give(0);
    }
}

/// Shows sizes and counts, not the items.
impl<T, S: QueueStore<T>> fmt::Debug for Queue<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("qsize", &self.qsize())
            .field("maxsize", &self.maxsize)
            .field("getters", &self.getters.waiting())
            .field("putters", &self.putters.waiting())
            .field("unfinished_tasks", &self.unfinished.get())
            .field("shut_down", &self.shut_down.get())
            .finish()
    }
}

struct GetTurn<'a, T, S: QueueStore<T>>(&'a Queue<T, S>);

impl<T, S: QueueStore<T>> Turn for GetTurn<'_, T, S> {
    /// None: the queue was shut down.
    type Output = Option<T>;
    const NAME: &'static str = "Queue";
    const WHAT: &'static str = "queue to get from";

    fn waiters(&self) -> &Waiters {
        &self.0.getters
    }

    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    #[inline]
    fn enter(&mut self) -> Option<Option<T>> {
        match self.0.get_nowait() {
            Ok(item) => Some(Some(item)),
            Err(GetNowaitError::QueueShutDown) => Some(None),
            Err(GetNowaitError::QueueEmpty) => None,
        }
    }

    fn taken(&mut self, _: u32) -> Option<Option<T>> {
        self.enter()
    }

    fn left(&mut self, given: bool) {
        if given && !self.0.empty() {
            self.0.getters.give(0);
        }
    }
}

struct PutTurn<'a, T, S: QueueStore<T>> {
    queue: &'a Queue<T, S>,
    item: Option<T>,
}

impl<T, S: QueueStore<T>> Turn for PutTurn<'_, T, S> {
    /// An error gives the item back: the queue was shut down.
    type Output = Result<(), T>;
    const NAME: &'static str = "Queue";
    const WHAT: &'static str = "queue to put to";

    fn waiters(&self) -> &Waiters {
        &self.queue.putters
    }

    fn bound(&self) -> &Bound {
        &self.queue.bound
    }

    #[inline]
    fn enter(&mut self) -> Option<Result<(), T>> {
        let item = self.item.take().unwrap_or_else(|| gone());
        match self.queue.put_nowait(item) {
            Ok(()) => Some(Ok(())),
            Err(PutNowaitError::QueueShutDown(item)) => Some(Err(item)),
            Err(PutNowaitError::QueueFull(item)) => {
                self.item = Some(item);
                None
            }
        }
    }

    fn taken(&mut self, _: u32) -> Option<Result<(), T>> {
        self.enter()
    }

    fn left(&mut self, given: bool) {
        if given && !self.queue.full() {
            self.queue.putters.give(0);
        }
    }
}

#[cold]
fn gone() -> ! {
    unreachable!("a put that ended is not polled")
}

/// A queue that gives the smallest item first; equal ones in no particular order. Everything else is
/// [`Queue`]'s. asyncio: `PriorityQueue`.
///
/// # Examples
/// ```
/// use ringloop::sync::PriorityQueue;
///
/// let queue = PriorityQueue::new(0);
/// for number in [3, 1, 2] {
///     queue.put_nowait(number).unwrap();
/// }
/// assert_eq!(queue.get_nowait(), Ok(1));
/// ```
#[derive(Debug)]
pub struct PriorityQueue<T: Ord>(Queue<T, Smallest<T>>);

impl<T: Ord> PriorityQueue<T> {
    /// As [`Queue::new`].
    pub fn new(maxsize: usize) -> Self {
        Self(Queue::with_store(maxsize, Smallest::default()))
    }
}

impl<T: Ord> Default for PriorityQueue<T> {
    /// A queue without a bound.
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T: Ord> Deref for PriorityQueue<T> {
    type Target = Queue<T, Smallest<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A queue that gives the last item first. Everything else is [`Queue`]'s. asyncio: `LifoQueue`.
///
/// # Examples
/// ```
/// use ringloop::sync::LifoQueue;
///
/// let queue = LifoQueue::new(0);
/// for number in [3, 1, 2] {
///     queue.put_nowait(number).unwrap();
/// }
/// assert_eq!(queue.get_nowait(), Ok(2));
/// ```
#[derive(Debug)]
pub struct LifoQueue<T>(Queue<T, Lifo<T>>);

impl<T> LifoQueue<T> {
    /// As [`Queue::new`].
    pub fn new(maxsize: usize) -> Self {
        Self(Queue::with_store(maxsize, Lifo::default()))
    }
}

impl<T> Default for LifoQueue<T> {
    /// A queue without a bound.
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> Deref for LifoQueue<T> {
    type Target = Queue<T, Lifo<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
