//! `Semaphore` and `BoundedSemaphore`: a number of units to share.

use super::error::ReleasedTooOften;
use super::leaf::{Bound, Leaf, Turn};
use super::waiters::Waiters;
use crate::task::Cancelled;
use std::cell::Cell;
use std::fmt;
use std::future::Future;

/// What both kinds are made of. A unit is with a permit, in `value`, or with a waiter that was given
/// it and has yet to run; a waiter that leaves puts it back.
struct Units {
    value: Cell<usize>,
    waiters: Waiters,
    bound: Bound,
    /// No more units than this.
    limit: usize,
}

impl Units {
    const fn new(value: usize, limit: usize) -> Self {
        Self {
            value: Cell::new(value),
            waiters: Waiters::new(),
            bound: Bound::new(),
            limit,
        }
    }

    /// Whether a newcomer would have to wait: also while others wait, or have yet to run.
    fn locked(&self) -> bool {
        self.value.get() == 0 || !self.waiters.is_empty()
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        let free = !self.locked();
        if free {
            self.value.set(self.value.get() - 1);
        }
        free
    }

    #[inline]
    fn acquire(&self) -> impl Future<Output = Result<(), Cancelled>> {
        Leaf::new(UnitTurn(self))
    }

    /// One unit more. False when there would be more than the limit.
    #[inline]
    fn release(&self) -> bool {
        if self.value.get() >= self.limit {
            return false;
        }
        self.value.set(self.value.get() + 1);
        self.hand_out_one();
        true
    }

    /// Gives a unit to the first in line.
    #[inline]
    fn hand_out_one(&self) -> bool {
        if self.waiters.is_empty() {
            return false;
        }
        let Some(left) = self.value.get().checked_sub(1) else {
            return false;
        };
        self.value.set(left);
        let given = self.waiters.give(0);
        if !given {
            // Nobody was woken, so nothing else has run.
            self.value.set(left + 1);
        }
        given
    }

    /// Who came while others had yet to run had to wait even if there were units.
    fn hand_out(&self) {
        while self.hand_out_one() {}
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("locked", &self.locked())
            .field("value", &self.value.get())
            .field("waiters", &self.waiters.waiting())
            .finish()
    }
}

struct UnitTurn<'a>(&'a Units);

impl Turn for UnitTurn<'_> {
    type Output = ();
    const NAME: &'static str = "Semaphore";
    const WHAT: &'static str = "semaphore";

    fn waiters(&self) -> &Waiters {
        &self.0.waiters
    }

    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    #[inline]
    fn enter(&mut self) -> Option<()> {
        self.0.try_acquire().then_some(())
    }

    fn taken(&mut self, _: u32) -> Option<()> {
        self.0.hand_out();
        Some(())
    }

    fn left(&mut self, given: bool) {
        if given {
            self.0.value.set(self.0.value.get() + 1);
        }
        self.0.hand_out();
    }
}

/// A number of units that tasks of one loop share. asyncio: `Semaphore`.
///
/// Strictly first in, first out: who comes while others wait queues behind them, even if a unit is
/// free. It belongs to one thread, and to the first loop that blocks on it.
///
/// # Examples
/// ```
/// use ringloop::sync::Semaphore;
///
/// # ringloop::run(async {
/// let connections = Semaphore::new(2);
/// let first = connections.acquire().await?;
/// let _second = connections.acquire().await?;
/// assert!(connections.locked());
/// drop(first);
/// assert!(!connections.locked());
/// # Ok::<_, ringloop::Cancelled>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Semaphore {
    units: Units,
}

impl Semaphore {
    /// A semaphore with so many units. asyncio's default is 1.
    pub const fn new(value: usize) -> Self {
        Self {
            units: Units::new(value, usize::MAX),
        }
    }

    /// Waits for a unit and takes it; without waiting when one is free and nobody waits.
    ///
    /// Dropping the future gives up its place in line; a unit that had been passed to it goes to
    /// the next one.
    ///
    /// # Errors
    /// [`Cancelled`]: no unit is taken, as when the future is dropped.
    ///
    /// # Panics
    /// When it has to wait and another loop than the semaphore's own runs.
    pub async fn acquire(&self) -> Result<SemaphorePermit<'_>, Cancelled> {
        self.units.acquire().await?;
        Ok(SemaphorePermit(&self.units))
    }

    /// Takes a unit if one is free and nobody waits. asyncio has no counterpart.
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        let taken = self.units.try_acquire();
        taken.then(|| SemaphorePermit(&self.units))
    }

    /// Whether [`Semaphore::acquire`] would have to wait now: no unit is free, or others wait.
    pub fn locked(&self) -> bool {
        self.units.locked()
    }

    /// How many units are free. There may be some while others wait: those that were woken come
    /// first.
    pub fn value(&self) -> usize {
        self.units.value.get()
    }

    /// One unit more: given back by who kept it with [`SemaphorePermit::forget`], or new.
    /// (At `usize::MAX` there are no more.)
    pub fn release(&self) {
        self.units.release();
    }
}

impl Default for Semaphore {
    /// One unit.
    fn default() -> Self {
        Self::new(1)
    }
}

/// Shows the value and how many wait.
impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.units.fmt("Semaphore", f)
    }
}

/// A semaphore that never has more units than at first. asyncio: `BoundedSemaphore`.
///
/// For what there is a fixed number of: a release too many is a mistake, and is reported as one.
///
/// # Examples
/// ```
/// use ringloop::sync::{BoundedSemaphore, ReleasedTooOften};
///
/// let licences = BoundedSemaphore::new(2);
/// licences.try_acquire().unwrap().forget();
/// assert_eq!(licences.release(), Ok(()));
/// assert_eq!(licences.release(), Err(ReleasedTooOften));
/// ```
pub struct BoundedSemaphore {
    units: Units,
}

impl BoundedSemaphore {
    /// A semaphore with so many units, and never more.
    pub const fn new(value: usize) -> Self {
        Self {
            units: Units::new(value, value),
        }
    }

    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    /// [`Cancelled`]: no unit is taken.
    ///
    /// # Panics
    /// When it has to wait and another loop than the semaphore's own runs.
    pub async fn acquire(&self) -> Result<SemaphorePermit<'_>, Cancelled> {
        self.units.acquire().await?;
        Ok(SemaphorePermit(&self.units))
    }

    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        let taken = self.units.try_acquire();
        taken.then(|| SemaphorePermit(&self.units))
    }

    /// As [`Semaphore::locked`].
    pub fn locked(&self) -> bool {
        self.units.locked()
    }

    /// As [`Semaphore::value`].
    pub fn value(&self) -> usize {
        self.units.value.get()
    }

    /// Gives a unit back that was kept with [`SemaphorePermit::forget`].
    ///
    /// # Errors
    /// [`ReleasedTooOften`] when all units are free; nothing has changed then.
    pub fn release(&self) -> Result<(), ReleasedTooOften> {
        if self.units.release() {
            Ok(())
        } else {
            Err(ReleasedTooOften)
        }
    }
}

impl Default for BoundedSemaphore {
    /// One unit.
    fn default() -> Self {
        Self::new(1)
    }
}

/// Shows the value and how many wait.
impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.units.fmt("BoundedSemaphore", f)
    }
}

/// One unit of a [`Semaphore`] or [`BoundedSemaphore`], given back when it is dropped.
#[must_use = "the unit is given back when the permit is dropped"]
pub struct SemaphorePermit<'a>(&'a Units);

impl SemaphorePermit<'_> {
    /// Keeps the unit without a permit, until `release` gives it back.
    pub const fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    #[inline]
    fn drop(&mut self) {
        // A bounded semaphore that was released too often meanwhile takes no more.
        self.0.release();
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SemaphorePermit")
    }
}
