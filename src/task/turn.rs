//! Giving way for one turn: the leaf of a yield.
//!
//! **Guarantees.** A turn wakes itself and registers nothing. A request made meanwhile finds no node
//! and a task that is queued, so it is kept, and the poll that ends the turn takes it; where other
//! awaits of the task are pending, they get it instead. One that was kept before keeps the turn from
//! beginning.
//!
//! ```text
//!   new ──poll──▶ given way ──poll──▶ over
//!    └── a request was kept ───────────▲
//! ```

use super::cancelled::Cancelled;
use super::running;
use super::tasks::Tasks;
use std::task::{Context, Poll, Waker};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Given,
    Over,
}

/// A leaf that suspends once; see the module.
#[derive(Debug)]
pub struct Turn(State);

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

impl Turn {
    /// A turn that was not given away yet.
    #[inline]
    pub const fn new() -> Self {
        Self(State::New)
    }

    /// Suspends once.
    ///
    /// # Errors
    /// [`Cancelled`] when a request was kept.
    ///
    /// # Panics
    /// When it is over.
    #[inline]
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        match self.0 {
            State::New => {
                if let Err(cancelled) = give(cx.waker()) {
                    self.0 = State::Over;
                    return Poll::Ready(Err(cancelled));
                }
                self.0 = State::Given;
                Poll::Pending
            }
            State::Given => {
                self.0 = State::Over;
                Poll::Ready(pass())
            }
            State::Over => over(),
        }
    }
}

#[cold]
fn over() -> ! {
    panic!("a yield was polled after it ended")
}

/// Queues the next step of who waits, unless a request is kept.
#[inline]
fn give(waker: &Waker) -> Result<(), Cancelled> {
    let given = running::with(|tasks| {
        let Some(tasks) = tasks else { return false };
        match tasks.current_slot() {
            Some(slot) if slot.awaits_plainly(waker) => {
                tasks.queue(slot);
                true
            }
            _ => false,
        }
    });
    if given { Ok(()) } else { give_otherwise(waker) }
}

/// With another waker than the task's, with a request kept, or where no wait registers.
#[inline(never)]
fn give_otherwise(waker: &Waker) -> Result<(), Cancelled> {
    pass()?;
    waker.wake_by_ref();
    Ok(())
}

/// # Errors
/// [`Cancelled`] when a request was kept.
#[inline]
fn pass() -> Result<(), Cancelled> {
    let kept = running::with(|tasks| {
        tasks
            .and_then(Tasks::current_slot)
            .is_some_and(|slot| slot.kept() != 0)
    });
    if kept { pass_kept() } else { Ok(()) }
}

#[cold]
fn pass_kept() -> Result<(), Cancelled> {
    if let Some(tasks) = running::owned()
        && let Some(slot) = tasks.waiting_slot()
        && let Some(scope) = tasks.take_kept(slot)
    {
        return Err(tasks.requests(slot, scope, |requests| requests.value()));
    }
    Ok(())
}
