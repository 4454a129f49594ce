//! Bells: what a timer rings that does nothing but wake a future or cancel a scope.
//!
//! **Guarantees.** Ringing does what [`Waker::wake`] or [`Canceller::cancel`] does. A bell for a task
//! or a scope of a loop is a plain value of that loop ([`PlainBell`]): it owns nothing, may be
//! forgotten and rung late, and needs no place among the callbacks.

use super::id::tag_of;
use super::scope::Canceller;
use super::tasks::Tasks;
use super::waker::{clone_waker, word_of};
use std::task::Waker;

/// Something to ring at a time; see
/// [`AbstractEventLoop::ring_at`](crate::AbstractEventLoop::ring_at).
#[derive(Clone, Debug)]
pub struct Bell(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Wake(Waker),
    Cancel(Canceller),
}

impl Bell {
    /// A bell that wakes.
    #[inline]
    pub fn wake(waker: &Waker) -> Self {
        Self(Kind::Wake(clone_waker(waker)))
    }

    /// A bell that cancels a scope.
    #[inline]
    pub const fn cancel(canceller: Canceller) -> Self {
        Self(Kind::Cancel(canceller))
    }

    /// Whether it does what a bell for this waker would do.
    #[inline]
    pub fn wakes(&self, waker: &Waker) -> bool {
        matches!(&self.0, Kind::Wake(mine) if mine.will_wake(waker))
    }

    /// Whether it cancels a scope.
    #[inline]
    pub const fn cancels(&self) -> bool {
        matches!(self.0, Kind::Cancel(_))
    }

    /// Wakes, or cancels.
    pub fn ring(self) {
        match self.0 {
            Kind::Wake(waker) => waker.wake(),
            Kind::Cancel(canceller) => canceller.cancel(None),
        }
    }

    /// The same as a plain value, if it is for a task or a scope of `tasks`.
    #[inline]
    pub(crate) fn plain(&self, tasks: &Tasks) -> Option<PlainBell> {
        match &self.0 {
            Kind::Wake(waker) => {
                let word = word_of(waker)?;
                (tag_of(word) == tasks.tag()).then_some(PlainBell::Task(word))
            }
            Kind::Cancel(canceller) => {
                let (scope, generation) = canceller.scope_in(tasks)?;
                Some(PlainBell::Scope { scope, generation })
            }
        }
    }
}

/// A bell for one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainBell {
    /// The word of a task's waker.
    Task(u64),
    /// Index and generation of a scope.
    Scope {
        /// Index.
        scope: u32,
        /// Generation.
        generation: u32,
    },
}

impl Tasks {
    /// Rings a bell for this loop.
    #[inline]
    pub(crate) fn ring(&self, bell: PlainBell) {
        match bell {
            PlainBell::Task(word) => self.schedule(word),
            PlainBell::Scope { scope, generation } => {
                self.cancel_open_scope(scope, generation, None);
            }
        }
    }
}
