//! The future of every primitive here: joins a line, waits for its turn, may be cancelled.
//!
//! **Guarantees.** Each poll looks for a cancellation first and suspends last. Whoever leaves early,
//! cancelled or dropped, tells the primitive what it had been given, so that it goes to the next.
//! What a newcomer needs is looked for again after its waker was cloned, since that runs code of
//! others, and joining the line follows at once: no wake-up falls between.
//!
//! ```text
//!   poll:  cancelled?            ── yes ──▶ leave, Err(Cancelled)
//!          not in line: enter()  ── Some ─▶ done
//!          given: taken()        ── Some ─▶ done;  None: to the end of the line again
//!          join the line, or refresh the waker
//!          suspend: kept request ── yes ──▶ leave, Err(Cancelled)
//!   drop:  leave
//! ```

use super::waiters::{Place, Waiters};
use crate::task::{Cancelled, LoopId, Wait, WaitsFor, running_loop_id};
use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The loop that a primitive belongs to: the first that blocked on it.
pub(super) struct Bound {
    to: Cell<Option<LoopId>>,
    /// Primitives stay on their thread.
    stays: PhantomData<Rc<()>>,
}

impl Bound {
    pub(super) const fn new() -> Self {
        Self {
            to: Cell::new(None),
            stays: PhantomData,
        }
    }

    /// Something is about to block.
    fn bind(&self, name: &str) {
        let Some(running) = running_loop_id() else {
            return;
        };
        match self.to.get() {
            None => self.to.set(Some(running)),
            Some(to) => assert!(
                to == running,
                "this {name} is bound to a different event loop"
            ),
        }
    }
}

/// What one wait of a primitive means.
pub(super) trait Turn {
    type Output;

    /// The primitive, for messages.
    const NAME: &'static str;

    /// What is waited for, for listings.
    const WHAT: &'static str;

    fn waiters(&self) -> &Waiters;

    fn bound(&self) -> &Bound;

    /// A newcomer: `Some` when it need not wait. Must not give it what is others' turn.
    fn enter(&mut self) -> Option<Self::Output>;

    /// It stands in line; the wait has not begun.
    fn joined(&mut self) {}

    /// It was given `value` and is out of the line. `None`: it has to queue again.
    fn taken(&mut self, value: u32) -> Option<Self::Output>;

    /// It left the line early, after it was `given` something or before.
    fn left(&mut self, given: bool);
}

/// See the module.
pub(super) struct Leaf<T: Turn> {
    pub(super) turn: T,
    place: Option<Place>,
    wait: Wait,
}

/// Nothing in it is pinned.
impl<T: Turn> Unpin for Leaf<T> {}

impl<T: Turn> Leaf<T> {
    #[inline]
    pub(super) const fn new(turn: T) -> Self {
        Self {
            turn,
            place: None,
            wait: Wait::new(),
        }
    }

    fn leave(&mut self) {
        if let Some(place) = self.place.take() {
            let given = self.turn.waiters().remove(place);
            self.turn.left(given.is_some());
        }
    }

    fn cancelled(&mut self, cancelled: Cancelled) -> Poll<Result<T::Output, Cancelled>> {
        self.leave();
        self.wait.finish();
        Poll::Ready(Err(cancelled))
    }

    /// What the turn brings, if it has come.
    #[inline]
    fn look(&mut self) -> Option<T::Output> {
        let Some(place) = self.place.take() else {
            return self.turn.enter();
        };
        match self.turn.waiters().claim(place) {
            Ok(value) => self.turn.taken(value),
            Err(place) => {
                self.place = Some(place);
                None
            }
        }
    }

    fn join(&mut self, cx: &mut Context<'_>) -> Poll<Result<T::Output, Cancelled>> {
        if let Some(place) = &self.place {
            self.turn.waiters().refresh(place, cx.waker());
        } else {
            let waker = cx.waker().clone();
            if let Some(output) = self.turn.enter() {
                self.wait.finish();
                return Poll::Ready(Ok(output));
            }
            self.turn.bound().bind(T::NAME);
            self.place = Some(self.turn.waiters().add(waker));
            self.turn.joined();
        }
        match self.wait.suspend(cx, WaitsFor::Other(T::WHAT)) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => self.cancelled(cancelled),
        }
    }
}

impl<T: Turn> Future for Leaf<T> {
    type Output = Result<T::Output, Cancelled>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Err(cancelled) = this.wait.check() {
            return this.cancelled(cancelled);
        }
        if let Some(output) = this.look() {
            this.wait.finish();
            return Poll::Ready(Ok(output));
        }
        this.join(cx)
    }
}

impl<T: Turn> Drop for Leaf<T> {
    #[inline]
    fn drop(&mut self) {
        self.leave();
    }
}
