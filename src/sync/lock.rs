//! `Lock`: mutual exclusion between tasks.

use super::error::NotAcquired;
use super::leaf::{Bound, Leaf, Turn};
use super::waiters::Waiters;
use crate::task::Cancelled;
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// A guard holds it.
    Guarded,
    /// Locked, and no guard holds it.
    Kept,
}

/// A lock without a value.
///
/// Invariant: at most one waiter has been given the lock and has yet to take it, and the lock is
/// free until then; nobody else takes it, since the line is not empty.
pub(super) struct RawLock {
    state: Cell<State>,
    waiters: Waiters,
    bound: Bound,
}

impl RawLock {
    const fn new() -> Self {
        Self {
            state: Cell::new(State::Free),
            waiters: Waiters::new(),
            bound: Bound::new(),
        }
    }

    #[inline]
    pub(super) fn is_locked(&self) -> bool {
        self.state.get() != State::Free
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let free = !self.is_locked() && self.waiters.is_empty();
        if free {
            self.state.set(State::Guarded);
        }
        free
    }

    #[inline]
    pub(super) fn lock(&self) -> impl Future<Output = Result<(), Cancelled>> {
        Leaf::new(LockTurn(self))
    }

    #[inline]
    fn unlock(&self) {
        self.state.set(State::Free);
        self.waiters.give(0);
    }
}

struct LockTurn<'a>(&'a RawLock);

impl Turn for LockTurn<'_> {
    type Output = ();
    const NAME: &'static str = "Lock";
    const WHAT: &'static str = "lock";

    fn waiters(&self) -> &Waiters {
        &self.0.waiters
    }

    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    #[inline]
    fn enter(&mut self) -> Option<()> {
        self.0.try_lock().then_some(())
    }

    fn taken(&mut self, _: u32) -> Option<()> {
        self.0.state.set(State::Guarded);
        Some(())
    }

    fn left(&mut self, given: bool) {
        if given {
            self.0.waiters.give(0);
        }
    }
}

/// Mutual exclusion between the tasks of one loop, with the value it protects. asyncio: `Lock`,
/// which is `Lock::new(())`.
///
/// Strictly first in, first out: who comes while others wait queues behind them, also in the moment
/// between a release and the step in which the next one takes the lock.
///
/// It needs no lock of the system's and belongs to one thread. The first loop that blocks on it is its
/// loop; an acquisition that need not wait binds nothing. Hold it across awaits as you like; a
/// value that is only used between awaits needs no lock at all, since tasks of one loop run one
/// after the other.
///
/// # Examples
/// ```
/// use ringloop::sync::Lock;
///
/// # ringloop::run(async {
/// let balance = Lock::new(100);
/// {
///     let mut balance = balance.acquire().await?;
///     *balance -= 30;
///     ringloop::yield_now().await?;
///     *balance -= 30;
/// } // The guard releases it.
/// assert_eq!(balance.into_inner(), 40);
/// # Ok::<_, ringloop::Cancelled>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Lock<T = ()> {
    raw: RawLock,
    /// Borrowed by the guard, and only by it.
    value: RefCell<T>,
}

impl<T> Lock<T> {
    /// An unlocked lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            raw: RawLock::new(),
            value: RefCell::new(value),
        }
    }

    /// Waits until the lock is free and nobody is before this task, and takes it. Without waiting
    /// when it is free now. asyncio: `acquire`, and `async with`.
    ///
    /// Dropping the future gives up its place in line; if the lock had been passed to it already,
    /// the next one gets it.
    ///
    /// # Errors
    /// [`Cancelled`]: the lock is not taken, as when the future is dropped.
    ///
    /// # Panics
    /// When it has to wait and another loop than the lock's own runs.
    pub async fn acquire(&self) -> Result<LockGuard<'_, T>, Cancelled> {
        self.raw.lock().await?;
        Ok(self.guard())
    }

    /// Takes the lock if it is free and nobody waits for it. asyncio has no counterpart.
    pub fn try_acquire(&self) -> Option<LockGuard<'_, T>> {
        self.raw.try_lock().then(|| self.guard())
    }

    /// Whether it is locked. False also while the next one in line has been woken and has yet to
    /// take it.
    pub fn locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Releases a lock that was left locked by [`LockGuard::forget`], from wherever; where a guard
    /// lives, that guard releases it. asyncio: `release`.
    ///
    /// # Errors
    /// [`NotAcquired`] when it is not locked, or a guard holds it.
    pub fn release(&self) -> Result<(), NotAcquired> {
        if self.raw.state.get() != State::Kept {
            return Err(NotAcquired);
        }
        self.raw.unlock();
        Ok(())
    }

    /// The value, without locking: nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// For who has just taken the lock.
    fn guard(&self) -> LockGuard<'_, T> {
        LockGuard {
            lock: self,
            value: Some(self.value.borrow_mut()),
        }
    }

    pub(super) const fn raw(&self) -> &RawLock {
        &self.raw
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Lock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Shows whether it is locked and how many wait, not the value.
impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("locked", &self.locked())
            .field("waiters", &self.raw.waiters.waiting())
            .finish()
    }
}

/// Holds a [`Lock`] and reads as its value; releases it when dropped.
///
/// A guard loses its lock when a [`Condition::wait`](super::Condition::wait) that it was lent to is
/// dropped (not when it is cancelled): dropping cannot wait for the lock. Such a guard panics
/// when it is read, and releases nothing; [`LockGuard::reacquire`] takes the lock again.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a, T = ()> {
    lock: &'a Lock<T>,
    /// There exactly while it holds the lock.
    value: Option<RefMut<'a, T>>,
}

impl<'a, T> LockGuard<'a, T> {
    /// Whether it holds the lock; see [`LockGuard`].
    pub const fn is_held(guard: &Self) -> bool {
        guard.value.is_some()
    }

    /// Takes the lock again, if the guard lost it; see [`LockGuard`].
    ///
    /// # Errors
    /// [`Cancelled`]: the guard still has no lock.
    ///
    /// # Panics
    /// As [`Lock::acquire`].
    pub async fn reacquire(guard: &mut Self) -> Result<(), Cancelled> {
        if guard.value.is_none() {
            guard.lock.raw.lock().await?;
            guard.take();
        }
        Ok(())
    }

    /// Leaves the lock locked without a guard; [`Lock::release`] unlocks it. For code that locks in
    /// one place and unlocks in another. Does nothing if the guard lost its lock.
    ///
    /// # Examples
    /// ```
    /// use ringloop::sync::{Lock, LockGuard, NotAcquired};
    ///
    /// let lock = Lock::new(());
    /// LockGuard::forget(lock.try_acquire().unwrap());
    /// assert!(lock.locked());
    /// assert_eq!(lock.release(), Ok(()));
    /// assert_eq!(lock.release(), Err(NotAcquired));
    /// ```
    pub fn forget(mut guard: Self) {
        if guard.value.take().is_some() {
            guard.lock.raw.state.set(State::Kept);
        }
    }

    /// Releases the lock, and keeps the guard for [`LockGuard::take`].
    pub(super) fn give_up(&mut self) {
        // The borrow ends before others are woken.
        if self.value.take().is_some() {
            self.lock.raw.unlock();
        }
    }

    /// The lock has just been taken for this guard.
    pub(super) fn take(&mut self) {
        self.value = Some(self.lock.value.borrow_mut());
    }

    pub(super) const fn lock(&self) -> &'a Lock<T> {
        self.lock
    }
}

#[cold]
fn lost() -> ! {
    panic!("the guard lost its lock when a wait for a condition was dropped")
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| lost())
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().unwrap_or_else(|| lost())
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard")
            .field(&self.value.as_deref())
            .finish()
    }
}
