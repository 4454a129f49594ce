//! `Condition`: waiting, with a lock, until something about its value changed.

use super::error::NotAcquired;
use super::leaf::{Bound, Leaf, Turn};
use super::lock::{Lock, LockGuard};
use super::waiters::Waiters;
use crate::task::Cancelled;
use std::fmt;
use std::rc::Rc;

/// A lock, and a line of tasks that wait until they are notified. asyncio: `Condition`.
///
/// A wait gives the lock up, waits, and takes it again, *also when it is cancelled*: code that
/// catches the cancellation, or a [`timeout`](crate::timeout) around the wait, finds its guard as it
/// was. Only dropping the wait leaves the guard without its lock; see [`LockGuard`].
///
/// # Examples
/// ```
/// use ringloop::EventLoopExt;
/// use ringloop::sync::Condition;
/// use std::rc::Rc;
///
/// # ringloop::run(async {
/// let stock = Rc::new(Condition::new(0));
/// let shop = stock.clone();
/// let buyer = ringloop::get_running_loop().create_task(async move {
///     let mut stock = shop.acquire().await?;
///     shop.wait_for(&mut stock, |stock| *stock >= 3).await?;
///     *stock -= 3;
///     Ok::<_, ringloop::Cancelled>(*stock)
/// })?;
/// for _ in 0..4 {
///     *stock.acquire().await? += 1;
///     let _guard = stock.acquire().await?;
///     stock.notify(1)?;
/// }
/// assert_eq!(buyer.await??, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Condition<T = ()> {
    lock: Rc<Lock<T>>,
    waiters: Waiters,
    bound: Bound,
}

impl<T> Condition<T> {
    /// A condition with a lock of its own around `value`.
    pub fn new(value: T) -> Self {
        Self::with_lock(Rc::new(Lock::new(value)))
    }

    /// A condition about the value of a lock that others may share. asyncio: `Condition(lock)`.
    pub const fn with_lock(lock: Rc<Lock<T>>) -> Self {
        Self {
            lock,
            waiters: Waiters::new(),
            bound: Bound::new(),
        }
    }

    /// Its lock.
    pub const fn lock(&self) -> &Rc<Lock<T>> {
        &self.lock
    }

    /// As [`Lock::acquire`].
    ///
    /// # Errors
    /// [`Cancelled`].
    ///
    /// # Panics
    /// As [`Lock::acquire`].
    pub async fn acquire(&self) -> Result<LockGuard<'_, T>, Cancelled> {
        self.lock.acquire().await
    }

    /// As [`Lock::locked`].
    pub fn locked(&self) -> bool {
        self.lock.locked()
    }

    /// Gives the lock up, waits to be notified, and takes the lock again. It may return without
    /// a notification that was meant for it, so look at the value again, or use
    /// [`Condition::wait_for`].
    ///
    /// A notification that met a wait which is cancelled or dropped goes to the next one.
    ///
    /// # Errors
    /// [`Cancelled`], after the lock has been taken again. Cancelled more than once meanwhile, it
    /// is the last one.
    ///
    /// # Panics
    /// When the guard is of another lock, or lost its lock; when another loop runs than the first
    /// that waited.
    pub async fn wait(&self, guard: &mut LockGuard<'_, T>) -> Result<(), Cancelled> {
        assert!(
            LockGuard::is_held(guard) && std::ptr::eq(guard.lock(), &*self.lock),
            "cannot wait on un-acquired lock"
        );
        let turn = ConditionTurn {
            condition: self,
            guard: &mut *guard,
        };
        let mut outcome = Leaf::new(turn).await;
        while let Err(cancelled) = self.lock.raw().lock().await {
            // A notification that came before it goes on.
            outcome = Err(cancelled);
        }
        guard.take();
        outcome.map(Notified::heed)
    }

    /// Waits until `predicate` is true of the value, which it looks at now and after each
    /// notification. Does not give the lock up when it is true now.
    ///
    /// # Errors
    /// [`Cancelled`], with the lock, as [`Condition::wait`].
    ///
    /// # Panics
    /// As [`Condition::wait`], and with the predicate.
    pub async fn wait_for(
        &self,
        guard: &mut LockGuard<'_, T>,
        mut predicate: impl FnMut(&mut T) -> bool,
    ) -> Result<(), Cancelled> {
        while !predicate(&mut **guard) {
            self.wait(guard).await?;
        }
        Ok(())
    }

    /// Notifies the first `n` that wait. They go on one after the other, once the lock is free.
    ///
    /// # Errors
    /// [`NotAcquired`] when nobody holds the lock. (Who holds it is not asked, as in asyncio.)
    pub fn notify(&self, n: usize) -> Result<(), NotAcquired> {
        if !self.locked() {
            return Err(NotAcquired);
        }
        for _ in 0..n {
            if !self.waiters.give(0) {
                break;
            }
        }
        Ok(())
    }

    /// Notifies all that wait.
    ///
    /// # Errors
    /// As [`Condition::notify`].
    pub fn notify_all(&self) -> Result<(), NotAcquired> {
        if !self.locked() {
            return Err(NotAcquired);
        }
        self.waiters.give_all();
        Ok(())
    }
}

impl<T: Default> Default for Condition<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Shows whether it is locked and how many wait to be notified, not the value.
impl<T> fmt::Debug for Condition<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("locked", &self.locked())
            .field("waiters", &self.waiters.waiting())
            .finish()
    }
}

/// A notification that was received. Dropped unheeded, it goes to the next one.
struct Notified<'a>(&'a Waiters);

impl Notified<'_> {
    fn heed(self) {
        std::mem::forget(self);
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        self.0.give(0);
    }
}

struct ConditionTurn<'a, 'b, 'g, T> {
    condition: &'a Condition<T>,
    guard: &'b mut LockGuard<'g, T>,
}

impl<'a, T> Turn for ConditionTurn<'a, '_, '_, T> {
    type Output = Notified<'a>;
    const NAME: &'static str = "Condition";
    const WHAT: &'static str = "condition";

    fn waiters(&self) -> &Waiters {
        &self.condition.waiters
    }

    fn bound(&self) -> &Bound {
        &self.condition.bound
    }

    fn enter(&mut self) -> Option<Notified<'a>> {
        None
    }

    /// Only now is the lock free: a notification by who takes it next counts.
    fn joined(&mut self) {
        self.guard.give_up();
    }

    fn taken(&mut self, _: u32) -> Option<Notified<'a>> {
        Some(Notified(&self.condition.waiters))
    }

    fn left(&mut self, given: bool) {
        if given {
            self.condition.waiters.give(0);
        }
    }
}
