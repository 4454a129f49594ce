//! Connections of servers that are about to start: those that came one right after the other start in
//! one callback.
//!
//! **Guarantees.** Each starts in its turn among the callbacks, as if it had queued one of its own, and
//! once. One that leaves the loop takes none of those behind it along: they start in the next
//! iteration. A storm of connections costs a pointer for each while it waits, and the memory goes back.
//!
//! ```text
//!   start_soon ──the last entry of the ready queue is the open batch──▶ joins it
//!        └──────another one──▶ opens a batch: a callback of its own ──run──▶ start, start, …
//! ```

use super::core::Core;
use crate::ready::ReadyEntry;
use crate::task::{CallKey, CallOnce};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// What starts in the callback phase of an iteration.
pub trait Start {
    /// Called once; what it leaves the loop with is passed on.
    fn start(self: Rc<Self>);
}

/// The most that are kept room for when nobody waits.
const KEPT: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Starting {
    waiting: RefCell<VecDeque<Rc<dyn Start>>>,
    /// How many start in each callback that is queued, in order.
    batches: RefCell<VecDeque<usize>>,
    /// The callback of the last batch; stale once it ran, so that no entry is equal to it.
    open: Cell<Option<CallKey>>,
}

impl Starting {
    /// Takes all out, to be dropped.
    pub(super) fn take(&self) -> VecDeque<Rc<dyn Start>> {
        self.open.set(None);
        self.batches.take();
        self.waiting.take()
    }

    /// How many start in the callback that runs now.
    fn begin_batch(&self) -> usize {
        self.batches.borrow_mut().pop_front().unwrap_or(0)
    }

    fn next(&self) -> Option<Rc<dyn Start>> {
        let mut waiting = self.waiting.borrow_mut();
        let next = waiting.pop_front();
        if waiting.is_empty() && waiting.capacity() > KEPT {
            *waiting = VecDeque::new();
        }
        next
    }
}

impl Core {
    /// Has `start` called as [`defer`](Self::defer) calls a callback. Dropped when the loop is closed.
    pub fn start_soon(self: &Rc<Self>, start: Rc<dyn Start>) {
        if self.closed.get() {
            return;
        }
        let starting = &self.starting;
        starting.waiting.borrow_mut().push_back(start);
        let joins = starting.open.get().is_some_and(|key| {
            let last = ReadyEntry::callback(key.index, key.generation);
            self.ready.ends_with(&last)
        });
        if joins && let Some(batch) = starting.batches.borrow_mut().back_mut() {
            *batch += 1;
            return;
        }
        self.open_batch(1);
    }

    fn open_batch(self: &Rc<Self>, count: usize) {
        let core = self.clone();
        let key = self.schedule(&mut CallOnce::new(move || core.start_batch()));
        self.starting.batches.borrow_mut().push_back(count);
        self.starting.open.set(Some(key));
    }

    fn start_batch(self: &Rc<Self>) {
        /// How many are left; they start later when one leaves the loop.
        struct Left<'a>(&'a Rc<Core>, usize);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                if self.1 > 0 {
                    self.0.start_later(self.1);
                }
            }
        }
        let mut left = Left(self, self.starting.begin_batch());
        while left.1 > 0 {
            left.1 -= 1;
            match self.starting.next() {
                Some(next) => next.start(),
                // The loop was closed.
                None => left.1 = 0,
            }
        }
    }

    /// Those at the front of the queue: so the callbacks that are queued already take one number from
    /// before theirs.
    #[cold]
    fn start_later(self: &Rc<Self>, count: usize) {
        if !self.closed.get() {
            self.open_batch(0);
            let mut batches = self.starting.batches.borrow_mut();
            batches.pop_back();
            batches.push_front(count);
        }
    }
}
