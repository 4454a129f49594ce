//! `Barrier`: nobody goes on before all are there.
//!
//! | state | left by |
//! |---|---|
//! | `Filling` | the last party arrives: `Draining`; reset with parties inside: `Resetting` |
//! | `Draining` | the last party has left: `Filling`; reset: `Resetting` |
//! | `Resetting` | the last party has left: `Filling` |
//! | any | abort: `Broken` |
//! | `Broken` | reset: `Resetting` while parties are inside, else `Filling` |
//!
//! Parties that arrive while it drains or resets wait outside. What a party that stands inside is told
//! depends on the state when it runs, not when it was woken, as in asyncio.

use super::leaf::{Bound, Leaf, Turn};
use super::waiters::Waiters;
use crate::task::Cancelled;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Filling,
    Draining,
    Resetting,
    Broken,
}

/// Lets tasks go on only when a number of them is there. asyncio: `Barrier`.
///
/// It is used again for the next round as soon as all have left. It belongs to one thread, and to
/// the first loop that blocks on it.
///
/// # Examples
/// ```
/// use ringloop::EventLoopExt;
/// use ringloop::sync::Barrier;
/// use std::rc::Rc;
///
/// # ringloop::run(async {
/// let barrier = Rc::new(Barrier::new(2));
/// let other = barrier.clone();
/// let task = ringloop::get_running_loop().create_task(async move { other.wait().await })?;
/// let mine = barrier.wait().await?;
/// let its = task.await??;
/// assert_eq!(mine + its, 1, "one is 0 and one is 1");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Barrier {
    parties: usize,
    /// Parties that stand inside or were let through and have yet to run.
    inside: Cell<usize>,
    state: Cell<State>,
    inner: Waiters,
    outer: Waiters,
    bound: Bound,
}

impl Barrier {
    /// A barrier for so many parties.
    ///
    /// # Panics
    /// When there are none, or more than `u32::MAX`.
    pub fn new(parties: usize) -> Self {
        assert!(parties >= 1, "parties must be >= 1");
        assert!(u32::try_from(parties).is_ok(), "that many are never there");
        Self {
            parties,
            inside: Cell::new(0),
            state: Cell::new(State::Filling),
            inner: Waiters::new(),
            outer: Waiters::new(),
            bound: Bound::new(),
        }
    }

    /// Waits until all parties are there. Returns the position in which this one arrived, from 0
    /// on and different for each of them: a way to choose one that does something for all.
    ///
    /// A party that is cancelled or dropped before all are there only leaves; the others wait on.
    ///
    /// # Errors
    /// [`BarrierError::Broken`] when the barrier is or gets broken, or is reset meanwhile;
    /// [`BarrierError::Cancelled`].
    ///
    /// # Panics
    /// When it has to wait and another loop than the barrier's own runs.
    pub async fn wait(&self) -> Result<usize, BarrierError> {
        Leaf::new(Outside(self)).await?;
        if self.state.get() == State::Broken {
            return Err(BarrierError::Broken);
        }
        let arrived = self.inside.get();
        self.inside.set(arrived + 1);
        let _inside = Inside(self);
        if arrived + 1 == self.parties {
            self.state.set(State::Draining);
            self.inner.give_all();
            return Ok(arrived);
        }
        let position = Leaf::new(ToFill(self)).await?;
        match self.state.get() {
            State::Broken | State::Resetting => Err(BarrierError::Broken),
            State::Filling | State::Draining => Ok(position as usize),
        }
    }

    /// Empties the barrier: who waits inside gets [`BarrierError::Broken`], and once the last of them
    /// has left it is as new. Also mends a broken one. asyncio's is a coroutine; this needs none.
    pub fn reset(&self) {
        if self.inside.get() > 0 {
            self.state.set(State::Resetting);
            self.inner.give_all();
        } else {
            self.state.set(State::Filling);
            self.outer.give_all();
        }
    }

    /// Breaks the barrier: who waits, and who comes until [`Barrier::reset`], gets
    /// [`BarrierError::Broken`]. For when a party will never come. asyncio's is a coroutine; this
    /// needs none.
    pub fn abort(&self) {
        self.state.set(State::Broken);
        self.inner.give_all();
        self.outer.give_all();
    }

    /// How many parties it takes.
    pub const fn parties(&self) -> usize {
        self.parties
    }

    /// How many parties wait for the others. 0 while they leave.
    pub fn n_waiting(&self) -> usize {
        match self.state.get() {
            State::Filling => self.inside.get(),
            _ => 0,
        }
    }

    /// Whether it is broken.
    pub fn broken(&self) -> bool {
        self.state.get() == State::Broken
    }
}

/// Shows the state, how many wait, and for how many.
impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("state", &self.state.get())
            .field("waiters", &self.n_waiting())
            .field("parties", &self.parties)
            .finish()
    }
}

/// A party that stands inside, however it leaves.
struct Inside<'a>(&'a Barrier);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let barrier = self.0;
        let left = barrier.inside.get() - 1;
        barrier.inside.set(left);
        let state = barrier.state.get();
        if left == 0 && matches!(state, State::Draining | State::Resetting) {
            barrier.state.set(State::Filling);
            barrier.outer.give_all();
        }
    }
}

/// Waits outside until those of the last round have left.
struct Outside<'a>(&'a Barrier);

impl Turn for Outside<'_> {
    type Output = ();
    const NAME: &'static str = "Barrier";
    const WHAT: &'static str = "barrier to drain";

    fn waiters(&self) -> &Waiters {
        &self.0.outer
    }

    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    fn enter(&mut self) -> Option<()> {
        let state = self.0.state.get();
        (!matches!(state, State::Draining | State::Resetting)).then_some(())
    }

    /// Others that were let in with this one may have filled it already.
    fn taken(&mut self, _: u32) -> Option<()> {
        self.enter()
    }

    fn left(&mut self, _: bool) {}
}

/// Waits inside for the other parties; is given its position among them.
struct ToFill<'a>(&'a Barrier);

impl Turn for ToFill<'_> {
    type Output = u32;
    const NAME: &'static str = "Barrier";
    const WHAT: &'static str = "barrier";

    fn waiters(&self) -> &Waiters {
        &self.0.inner
    }

    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    fn enter(&mut self) -> Option<u32> {
        None
    }

    fn taken(&mut self, position: u32) -> Option<u32> {
        Some(position)
    }

    fn left(&mut self, _: bool) {}
}

/// Why a wait at a [`Barrier`] ended early.
#[derive(Debug)]
pub enum BarrierError {
    /// The barrier is broken, or was reset. asyncio: `BrokenBarrierError`.
    #[doc(alias = "BrokenBarrierError")]
    Broken,
    /// The wait was cancelled.
    Cancelled(Cancelled),
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("the barrier is broken or was reset"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl Error for BarrierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken => None,
            Self::Cancelled(cancelled) => Some(cancelled),
        }
    }
}

impl From<Cancelled> for BarrierError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<BarrierError> for io::Error {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::Broken => Self::other(error),
            BarrierError::Cancelled(cancelled) => cancelled.into(),
        }
    }
}
