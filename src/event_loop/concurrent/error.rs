//! What a concurrent future gives in place of a value.

use crate::event_loop::future::{FutureError, InvalidStateError, SharedError};
use crate::task::{Cancelled, panic_message};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// How a job ended without a value.
pub(in crate::event_loop) enum Failure {
    Exception(SharedError),
    Panicked(Box<dyn Any + Send>),
}

/// Why a [`ConcurrentFuture`](super::ConcurrentFuture) gave no value.
#[non_exhaustive]
pub enum ConcurrentError {
    /// It was cancelled, or the task was that it stands for, or who awaited it was.
    Cancelled(Cancelled),
    /// It ended with this error.
    Exception(SharedError),
    /// The job or task panicked, with this payload.
    Panicked(Box<dyn Any + Send>),
    /// It was not done in time.
    TimedOut,
    /// Its value was taken before.
    InvalidState(InvalidStateError),
    /// To block the thread of the loop that runs the task is to wait for ever.
    OwnLoop,
}

impl ConcurrentError {
    pub(super) fn cancelled(message: Option<Arc<str>>) -> Self {
        Self::Cancelled(match message {
            Some(message) => Cancelled::with_message(message),
            None => Cancelled::new(),
        })
    }

    /// Whether it is [`ConcurrentError::Cancelled`].
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// The error as a future of a loop has it; a panic becomes an error with its message.
    pub(in crate::event_loop) fn into_shared(self) -> SharedError {
        match self {
            Self::Exception(error) => error,
            other => SharedError::new(other.to_string()),
        }
    }
}

impl fmt::Display for ConcurrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Exception(error) => error.fmt(f),
            Self::Panicked(payload) => write!(f, "a job panicked: {}", panic_message(&**payload)),
            Self::TimedOut => f.write_str("timed out"),
            Self::InvalidState(error) => error.fmt(f),
            Self::OwnLoop => {
                f.write_str("the loop's own thread can not block until the loop has gone on")
            }
        }
    }
}

impl fmt::Debug for ConcurrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Exception(error) => write!(f, "Exception({error:?})"),
            other => write!(f, "ConcurrentError({other})"),
        }
    }
}

impl Error for ConcurrentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Exception(error) => Some(error.get_ref()),
            Self::InvalidState(error) => Some(error),
            Self::Panicked(_) | Self::TimedOut | Self::OwnLoop => None,
        }
    }
}

impl From<Cancelled> for ConcurrentError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<InvalidStateError> for ConcurrentError {
    fn from(error: InvalidStateError) -> Self {
        Self::InvalidState(error)
    }
}

impl From<Failure> for ConcurrentError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Exception(error) => Self::Exception(error),
            Failure::Panicked(payload) => Self::Panicked(payload),
        }
    }
}

/// A cancellation and an `io::Error` become what they were, with their kinds.
impl From<ConcurrentError> for io::Error {
    fn from(error: ConcurrentError) -> Self {
        match error {
            ConcurrentError::Cancelled(cancelled) => cancelled.into(),
            ConcurrentError::Exception(error) => FutureError::from(error).into(),
            ConcurrentError::TimedOut => Self::from(io::ErrorKind::TimedOut),
            other => Self::other(other.to_string()),
        }
    }
}
