//! How a task group ends that gives no value, and what it refuses.

use super::failure::ExceptionGroup;
use crate::task::Cancelled;
use std::error::Error;
use std::fmt;
use std::io;

/// How a [`task_group`](super::task_group) ended that gave no value.
#[derive(Debug)]
pub enum GroupError<E> {
    /// It was cancelled from outside, or its body ended with a cancellation. The error carries it.
    Cancelled(E),
    /// Its body failed, or children did.
    Failed(ExceptionGroup<E>),
}

impl<E> GroupError<E> {
    /// The failures, if it did not end by a cancellation.
    pub fn failures(&self) -> Option<&ExceptionGroup<E>> {
        match self {
            Self::Cancelled(_) => None,
            Self::Failed(group) => Some(group),
        }
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(error) => error.fmt(f),
            Self::Failed(group) => group.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for GroupError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled(error) => Some(error),
            Self::Failed(group) => Some(group),
        }
    }
}

/// A group within a group of the same error: `?` carries a cancellation on as it is, and failures
/// as an error of kind [`io::ErrorKind::Other`] around the [`ExceptionGroup`].
impl From<GroupError<Self>> for io::Error {
    fn from(error: GroupError<Self>) -> Self {
        match error {
            GroupError::Cancelled(error) => error,
            GroupError::Failed(group) => Self::other(group),
        }
    }
}

/// A [`TaskGroup`](super::TaskGroup) takes no new children. The future was dropped without having
/// run. asyncio: `RuntimeError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Something failed, or the group was cancelled: it waits for its children to end.
    ShuttingDown,
    /// The group has ended, or its body has and no child is left.
    Finished,
    /// The event loop was closed, or none runs.
    LoopClosed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShuttingDown => "TaskGroup is shutting down",
            Self::Finished => "TaskGroup is finished",
            Self::LoopClosed => "Event loop is closed",
        })
    }
}

impl Error for Refused {}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::other(refused)
    }
}

/// Who is refused a child is being stopped: with `?` a body that knows no other errors ends.
impl From<Refused> for Cancelled {
    fn from(refused: Refused) -> Self {
        Self::with_message(refused.to_string())
    }
}
