//! What a future gives in place of a value.

use crate::task::Cancelled;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The future was in a state that does not allow the operation. asyncio: `InvalidStateError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidStateError {
    /// There is no result yet.
    NotReady,
    /// There is no error yet.
    NoException,
    /// It is done already.
    Done,
    /// The value was taken before.
    Taken,
    /// The value can not be taken while its own `Clone` or `Debug` reads it.
    InUse,
}

impl fmt::Display for InvalidStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "Result is not ready.",
            Self::NoException => "Exception is not set.",
            Self::Done => "invalid state",
            Self::Taken => "the result was taken already",
            Self::InUse => "the result is being read",
        })
    }
}

impl Error for InvalidStateError {}

impl From<InvalidStateError> for io::Error {
    fn from(error: InvalidStateError) -> Self {
        Self::other(error)
    }
}

/// An error that several readers get: clones are the same error, however often it is read. asyncio:
/// the exception object of a future.
#[derive(Clone)]
pub struct SharedError(Arc<dyn Error + Send + Sync>);

impl SharedError {
    /// Shares an error.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }

    /// The error.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// The error, if it is of this type.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// Whether both are the same error, not only equal ones.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Stands for the error it shares: its source is that error's.
impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Why a future gave no value.
#[derive(Debug)]
pub enum FutureError {
    /// It was cancelled, or who awaited it was.
    Cancelled(Cancelled),
    /// [`set_exception`](super::Future::set_exception) ended it.
    Exception(SharedError),
    /// It has no value now.
    InvalidState(InvalidStateError),
    /// A task of one loop awaited a pending future of another one, which nothing would wake.
    DifferentLoop,
}

impl FutureError {
    /// Whether it is [`FutureError::Cancelled`].
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// The error that the future ended with, if it is of this type.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Exception(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for FutureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Exception(error) => error.fmt(f),
            Self::InvalidState(error) => error.fmt(f),
            Self::DifferentLoop => f.write_str("the future is attached to a different loop"),
        }
    }
}

impl Error for FutureError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Exception(error) => Some(error.get_ref()),
            Self::InvalidState(error) => Some(error),
            Self::DifferentLoop => None,
        }
    }
}

impl From<Cancelled> for FutureError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<SharedError> for FutureError {
    fn from(error: SharedError) -> Self {
        Self::Exception(error)
    }
}

impl From<InvalidStateError> for FutureError {
    fn from(error: InvalidStateError) -> Self {
        Self::InvalidState(error)
    }
}

/// A cancellation becomes what [`Cancelled`] becomes; an `io::Error` that the future ended with keeps
/// its kind, and stands behind `get_ref`.
impl From<FutureError> for io::Error {
    fn from(error: FutureError) -> Self {
        match error {
            FutureError::Cancelled(cancelled) => cancelled.into(),
            FutureError::Exception(error) => {
                let kind = error
                    .downcast_ref()
                    .map_or(io::ErrorKind::Other, Self::kind);
                Self::new(kind, error)
            }
            other => Self::other(other),
        }
    }
}
