//! The loop's own future. asyncio: `Future`.

use crate::task::{Cancelled, LoopId, Wait, WaitsFor, running_loop_id};
use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A value that will be set once; clones name the same future. Bound to its loop for life: to the
/// one that made it, or that ran when it was made. One made while no loop runs is bound to none.
///
/// ```text
///   Pending ──set_result──▶ Finished ──await / take──▶ Taken
///      └─────cancel───────▶ Cancelled
/// ```
pub struct Future<T>(Rc<RefCell<Inner<T>>>);

struct Inner<T> {
    /// The loop whose tasks may wait for it.
    owner: Option<LoopId>,
    state: State<T>,
    wakers: Vec<Waker>,
}

enum State<T> {
    Pending,
    Finished(T),
    Taken,
    Cancelled,
}

/// The future was in a state that does not allow the operation. asyncio: `InvalidStateError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStateError;

impl fmt::Display for InvalidStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid state")
    }
}

impl std::error::Error for InvalidStateError {}

impl<T> Clone for Future<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Future<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Future<T> {
    /// A pending future of the running loop.
    pub fn new() -> Self {
        Self::of(running_loop_id())
    }

    pub(super) fn of(owner: Option<LoopId>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            owner,
            state: State::Pending,
            wakers: Vec::new(),
        })))
    }

    fn end(&self, state: State<T>) -> bool {
        let wakers = {
            let mut inner = self.0.borrow_mut();
            if !matches!(inner.state, State::Pending) {
                return false;
            }
            inner.state = state;
            std::mem::take(&mut inner.wakers)
        };
        // In the order in which they began to wait, and outside the borrow.
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Sets the value and wakes who waits.
    ///
    /// # Errors
    /// [`InvalidStateError`] when the future is done.
    pub fn set_result(&self, value: T) -> Result<(), InvalidStateError> {
        if self.end(State::Finished(value)) {
            Ok(())
        } else {
            Err(InvalidStateError)
        }
    }

    /// Cancels the future: who waits gets [`Cancelled`]. False when it was done.
    pub fn cancel(&self) -> bool {
        self.end(State::Cancelled)
    }

    /// Whether the future is finished or cancelled.
    pub fn done(&self) -> bool {
        !matches!(self.0.borrow().state, State::Pending)
    }

    /// Whether the future was cancelled.
    pub fn cancelled(&self) -> bool {
        matches!(self.0.borrow().state, State::Cancelled)
    }

    /// Waits for the value and takes it. Cancelling the wait cancels the future, as awaiting it in
    /// asyncio does. A finished future gives its value without suspending.
    ///
    /// # Errors
    /// [`Cancelled`] when the future, or the waiting task, was cancelled.
    ///
    /// # Panics
    /// When the value was taken already, and when it is pending and belongs to another loop than the
    /// running one, which nothing would ever wake.
    pub fn wait(&self) -> impl std::future::Future<Output = Result<T, Cancelled>> + use<T> {
        Waiting {
            future: self.clone(),
            wait: Wait::new(),
        }
    }
}

struct Waiting<T> {
    future: Future<T>,
    wait: Wait,
}

impl<T> std::future::Future for Waiting<T> {
    type Output = Result<T, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Err(cancelled) = this.wait.check() {
            this.future.cancel();
            return Poll::Ready(Err(cancelled));
        }
        {
            let mut inner = this.future.0.borrow_mut();
            match std::mem::replace(&mut inner.state, State::Taken) {
                State::Finished(value) => {
                    drop(inner);
                    this.wait.finish();
                    return Poll::Ready(Ok(value));
                }
                State::Cancelled => {
                    inner.state = State::Cancelled;
                    drop(inner);
                    this.wait.finish();
                    return Poll::Ready(Err(Cancelled::new()));
                }
                State::Taken => panic!("the value of a future was taken twice"),
                State::Pending => inner.state = State::Pending,
            }
            if let (Some(owner), Some(running)) = (inner.owner, running_loop_id()) {
                assert_eq!(owner, running, "future attached to a different loop");
            }
            if !inner.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                inner.wakers.push(cx.waker().clone());
            }
        }
        if let Err(cancelled) = this.wait.suspend(cx, WaitsFor::Other("future")) {
            this.future.cancel();
            return Poll::Ready(Err(cancelled));
        }
        Poll::Pending
    }
}
