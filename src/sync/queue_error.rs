//! What queues answer. The variants have the names of asyncio's exceptions; puts give their item
//! back.

use crate::task::Cancelled;
use std::error::Error;
use std::fmt;
use std::io;

/// Why [`Queue::get_nowait`](super::Queue::get_nowait) gave no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetNowaitError {
    /// There is none now.
    QueueEmpty,
    /// There is none, and there will be none: the queue was shut down.
    QueueShutDown,
}

/// Why [`Queue::get`](super::Queue::get) gave no item.
#[derive(Debug)]
pub enum GetError {
    /// There is none, and there will be none: the queue was shut down.
    QueueShutDown,
    /// The wait was cancelled.
    Cancelled(Cancelled),
}

/// Why [`Queue::put_nowait`](super::Queue::put_nowait) did not take the item, and the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PutNowaitError<T> {
    /// There is no room now.
    QueueFull(T),
    /// The queue was shut down.
    QueueShutDown(T),
}

/// Why [`Queue::put`](super::Queue::put) did not take the item, and the item.
pub enum PutError<T> {
    /// The queue was shut down.
    QueueShutDown(T),
    /// The wait was cancelled.
    Cancelled(T, Cancelled),
}

impl<T> PutNowaitError<T> {
    /// The item.
    pub fn into_item(self) -> T {
        match self {
            Self::QueueFull(item) | Self::QueueShutDown(item) => item,
        }
    }
}

impl<T> PutError<T> {
    /// The item. A cancellation is swallowed by this.
    pub fn into_item(self) -> T {
        match self {
            Self::QueueShutDown(item) | Self::Cancelled(item, _) => item,
        }
    }
}

const EMPTY: &str = "the queue is empty";
const FULL: &str = "the queue is full";
const SHUT_DOWN: &str = "the queue was shut down";

impl fmt::Display for GetNowaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueEmpty => EMPTY,
            Self::QueueShutDown => SHUT_DOWN,
        })
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueShutDown => f.write_str(SHUT_DOWN),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl<T> fmt::Display for PutNowaitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull(_) => FULL,
            Self::QueueShutDown(_) => SHUT_DOWN,
        })
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueShutDown(_) => f.write_str(SHUT_DOWN),
            Self::Cancelled(_, cancelled) => cancelled.fmt(f),
        }
    }
}

/// Without the item.
impl<T> fmt::Debug for PutNowaitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull(_) => "QueueFull(..)",
            Self::QueueShutDown(_) => "QueueShutDown(..)",
        })
    }
}

/// Without the item.
impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueShutDown(_) => f.write_str("QueueShutDown(..)"),
            Self::Cancelled(_, cancelled) => write!(f, "Cancelled(.., {cancelled:?})"),
        }
    }
}

impl Error for GetNowaitError {}

impl<T> Error for PutNowaitError<T> {}

impl Error for GetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::QueueShutDown => None,
            Self::Cancelled(cancelled) => Some(cancelled),
        }
    }
}

impl<T> Error for PutError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::QueueShutDown(_) => None,
            Self::Cancelled(_, cancelled) => Some(cancelled),
        }
    }
}

impl From<GetNowaitError> for io::Error {
    fn from(error: GetNowaitError) -> Self {
        Self::other(error)
    }
}

/// A cancellation becomes the error that [`Cancelled`] becomes.
impl From<GetError> for io::Error {
    fn from(error: GetError) -> Self {
        match error {
            GetError::QueueShutDown => Self::other(error),
            GetError::Cancelled(cancelled) => cancelled.into(),
        }
    }
}

/// Without the item.
impl<T> From<PutNowaitError<T>> for io::Error {
    fn from(error: PutNowaitError<T>) -> Self {
        Self::other(match error {
            PutNowaitError::QueueFull(_) => FULL,
            PutNowaitError::QueueShutDown(_) => SHUT_DOWN,
        })
    }
}

/// Without the item. A cancellation becomes the error that [`Cancelled`] becomes.
impl<T> From<PutError<T>> for io::Error {
    fn from(error: PutError<T>) -> Self {
        match error {
            PutError::QueueShutDown(_) => Self::other(SHUT_DOWN),
            PutError::Cancelled(_, cancelled) => cancelled.into(),
        }
    }
}
