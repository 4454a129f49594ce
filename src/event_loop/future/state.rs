//! The state of a future: setting, reading, cancelling, copying.

use super::Future;
use super::callbacks::Waiter;
use super::error::{FutureError, InvalidStateError, SharedError};
use super::host::FutureLoop;
use super::waiters::Waiters;
use crate::task::Cancelled;
use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

/// See the diagram in the module above.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Finished,
    Failed,
    Cancelled,
}

pub(super) struct Inner<T> {
    pub(super) event_loop: Rc<dyn FutureLoop>,
    pub(super) created: &'static Location<'static>,
    pub(super) state: Cell<State>,
    /// Failed, and nobody read the error.
    pub(super) unread: Cell<bool>,
    /// Once `Finished`, until it is taken. Borrowed by the value's own `Clone` and `Debug`.
    pub(super) value: RefCell<Option<T>>,
    /// Once `Failed`.
    pub(super) error: OnceCell<SharedError>,
    /// Once `Cancelled` with a message.
    message: OnceCell<Arc<str>>,
    pub(super) waiters: RefCell<Waiters<Waiter<T>>>,
}

impl<T> Inner<T> {
    pub(super) fn new(event_loop: Rc<dyn FutureLoop>, created: &'static Location<'static>) -> Self {
        Self {
            event_loop,
            created,
            state: Cell::new(State::Pending),
            unread: Cell::new(false),
            value: RefCell::new(None),
            error: OnceCell::new(),
            message: OnceCell::new(),
            waiters: RefCell::new(Waiters::new()),
        }
    }
}

impl<T: 'static> Future<T> {
    fn state(&self) -> State {
        self.0.state.get()
    }

    /// Whether it is finished, failed or cancelled. asyncio: `done()`.
    pub fn done(&self) -> bool {
        self.state() != State::Pending
    }

    /// Whether it was cancelled. asyncio: `cancelled()`.
    pub fn cancelled(&self) -> bool {
        self.state() == State::Cancelled
    }

    /// The message it was cancelled with.
    pub fn cancel_message(&self) -> Option<Arc<str>> {
        self.0.message.get().cloned()
    }

    /// Sets the value and tells who waits. asyncio: `set_result`.
    ///
    /// # Errors
    /// [`InvalidStateError::Done`]; the value is dropped then.
    pub fn set_result(&self, value: T) -> Result<(), InvalidStateError> {
        if self.done() {
            return Err(InvalidStateError::Done);
        }
        // Nothing was there, so nothing of others is dropped.
        *self.0.value.borrow_mut() = Some(value);
        self.end(State::Finished);
        Ok(())
    }

    /// As [`set_result`](Self::set_result), but does nothing to a future that was cancelled: for who
    /// resolves what somebody may have given up meanwhile. asyncio: `_set_result_unless_cancelled`.
    ///
    /// # Errors
    /// [`InvalidStateError::Done`] when it is finished or failed.
    pub fn set_result_unless_cancelled(&self, value: T) -> Result<(), InvalidStateError> {
        if self.cancelled() {
            return Ok(());
        }
        self.set_result(value)
    }

    /// Ends it with an error and tells who waits. An error that nobody reads (by awaiting the future,
    /// [`result`](Self::result) or [`exception`](Self::exception)) is reported as "Future exception was
    /// never retrieved" when the last handle is dropped. asyncio: `set_exception`.
    ///
    /// # Errors
    /// [`InvalidStateError::Done`]; the error is dropped then.
    pub fn set_exception(
        &self,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Result<(), InvalidStateError> {
        self.fail(SharedError::new(error))
    }

    pub(super) fn fail(&self, error: SharedError) -> Result<(), InvalidStateError> {
        if self.done() || self.0.error.set(error).is_err() {
            return Err(InvalidStateError::Done);
        }
        self.0.unread.set(true);
        self.end(State::Failed);
        Ok(())
    }

    /// Cancels the future: who waits gets [`Cancelled`]. False when it was done; an error that it ended
    /// with is not reported then. asyncio: `cancel()`.
    pub fn cancel(&self) -> bool {
        self.cancel_as(None)
    }

    /// As [`cancel`](Self::cancel), with a message. asyncio: `cancel(msg)`.
    pub fn cancel_with(&self, message: impl Into<Arc<str>>) -> bool {
        self.cancel_as(Some(message.into()))
    }

    pub(super) fn cancel_as(&self, message: Option<Arc<str>>) -> bool {
        self.0.unread.set(false);
        if self.done() {
            return false;
        }
        if let Some(message) = message {
            // It was pending, so there is none.
            let _ = self.0.message.set(message);
        }
        self.end(State::Cancelled);
        true
    }

    fn end(&self, state: State) {
        self.0.state.set(state);
        self.tell();
    }

    /// A clone of the value. asyncio: `result()`.
    ///
    /// # Errors
    /// The error it ended with, [`Cancelled`], or [`InvalidStateError`] while it is pending and after
    /// the value was taken.
    pub fn result(&self) -> Result<T, FutureError>
    where
        T: Clone,
    {
        self.check_finished()?;
        let value = self.0.value.borrow().clone();
        value.ok_or_else(|| InvalidStateError::Taken.into())
    }

    /// The value itself, once; the future stays done. asyncio: `result()`, for values that can not be
    /// shared.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub fn take_result(&self) -> Result<T, FutureError> {
        self.check_finished()?;
        let Ok(mut value) = self.0.value.try_borrow_mut() else {
            return Err(InvalidStateError::InUse.into());
        };
        value.take().ok_or_else(|| InvalidStateError::Taken.into())
    }

    fn check_finished(&self) -> Result<(), FutureError> {
        match self.state() {
            State::Finished => Ok(()),
            State::Pending => Err(InvalidStateError::NotReady.into()),
            State::Cancelled => Err(self.cancellation().into()),
            State::Failed => Err(self.read_error().into()),
        }
    }

    fn cancellation(&self) -> Cancelled {
        match self.cancel_message() {
            Some(message) => Cancelled::with_message(message),
            None => Cancelled::new(),
        }
    }

    fn read_error(&self) -> SharedError {
        self.0.unread.set(false);
        let error = self.0.error.get();
        error.expect("a future that failed has an error").clone()
    }

    /// The error it ended with, `None` if it has a value. asyncio: `exception()`.
    ///
    /// # Errors
    /// [`InvalidStateError::NoException`] while it is pending; [`Cancelled`].
    pub fn exception(&self) -> Result<Option<SharedError>, FutureError> {
        match self.state() {
            State::Pending => Err(InvalidStateError::NoException.into()),
            State::Cancelled => Err(self.cancellation().into()),
            State::Failed => Ok(Some(self.read_error())),
            State::Finished => Ok(None),
        }
    }

    /// An error that nobody read is not reported. It can not be switched on again. asyncio:
    /// `_log_traceback = False`.
    pub fn suppress_report(&self) {
        self.0.unread.set(false);
    }

    /// Ends as `source` did: with a clone of its value, with the same error, or cancelled with its
    /// message. Does nothing when this one was cancelled. asyncio: `_copy_future_state`.
    ///
    /// # Errors
    /// [`InvalidStateError`]: `source` is pending, or its value was taken; this one is finished.
    pub fn copy_state(&self, source: &Self) -> Result<(), InvalidStateError>
    where
        T: Clone,
    {
        let state = source.state();
        if state == State::Pending {
            return Err(InvalidStateError::NotReady);
        }
        if self.cancelled() {
            return Ok(());
        }
        if self.done() {
            return Err(InvalidStateError::Done);
        }
        match state {
            State::Cancelled => {
                self.cancel_as(source.cancel_message());
                Ok(())
            }
            State::Failed => self.fail(source.read_error()),
            _ => {
                let value = source.0.value.borrow().clone();
                self.set_result_unless_cancelled(value.ok_or(InvalidStateError::Taken)?)
            }
        }
    }
}
