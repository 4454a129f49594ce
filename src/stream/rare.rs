//! What few streams need, in one box that the others do not have.
//!
//! **Guarantees.** Nothing in here runs code of others: what is taken out is dropped or woken by the
//! caller. The box stays once it was needed.

use super::error::StoredError;
use super::inbox::More;
use super::protocol::StreamReaderProtocol;
use super::waiters::Waiters;

/// See the module.
#[derive(Default)]
pub(super) struct Rare {
    /// What arrived behind the first piece.
    pub(super) more: More,
    pub(super) error: Option<StoredError>,
    drainers: Waiters,
    closers: Waiters,
}

/// Whom a list of [`Waiters`] is for.
#[derive(Clone, Copy)]
pub(super) enum Until {
    /// The transport takes more, or is lost.
    Drained,
    /// The connection is lost.
    Closed,
}

impl Rare {
    pub(super) fn waiters(&mut self, until: Until) -> &mut Waiters {
        match until {
            Until::Drained => &mut self.drainers,
            Until::Closed => &mut self.closers,
        }
    }
}

impl StreamReaderProtocol {
    /// Changes what is rare. `f` runs no code of others.
    pub(super) fn with_rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> R {
        let mut rare = self.rare.take().unwrap_or_default();
        let result = f(&mut rare);
        self.rare.set(Some(rare));
        result
    }

    /// The same if there is something, else nothing.
    #[inline]
    pub(super) fn if_rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> Option<R> {
        let mut rare = self.rare.take()?;
        let result = f(&mut rare);
        self.rare.set(Some(rare));
        Some(result)
    }
}
