//! What went wrong in tasks that somebody waits for together.

use crate::task::{Cancelled, JoinError, panic_message};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A panic as a value, with its payload. Unlike the payload it may be shared between threads, so
/// that errors that hold one go wherever errors go.
pub struct Panic(Mutex<Box<dyn Any + Send>>);

impl Panic {
    pub(super) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self(Mutex::new(payload))
    }

    /// Its message, if it has one.
    pub fn message(&self) -> String {
        let payload = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        panic_message(&**payload).to_owned()
    }

    /// What `std::panic::resume_unwind` takes.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message()).finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.message())
    }
}

impl Error for Panic {}

/// How a future ended that gave no value.
///
/// # Examples
/// ```
/// use ringloop::{Failure, create_task, gather};
///
/// # ringloop::run(async {
/// let failed = gather([create_task(async { panic!("a bug") })]).await;
/// match failed {
///     Ok(values) => { let _: Vec<()> = values; }
///     Err(Failure::Error(error)) => println!("{error}"),
///     Err(Failure::Cancelled(cancelled)) => println!("{cancelled}"),
///     Err(Failure::Panicked(panic)) => assert_eq!(panic.message(), "a bug"),
/// }
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub enum Failure<E> {
    /// With an error of its own.
    Error(E),
    /// Its task was cancelled. Never among the failures of a [`TaskGroup`](super::TaskGroup).
    Cancelled(Cancelled),
    /// It panicked.
    Panicked(Panic),
}

impl<E> Failure<E> {
    /// The error, if it ended with one.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Error(error) => Some(error),
            _ => None,
        }
    }

    /// The error, if it ended with one.
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Error(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> From<JoinError> for Failure<E> {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            JoinError::Panicked(payload) => Self::Panicked(Panic::new(payload)),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Panicked(panic) => panic.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Error(error) => Some(error),
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Panicked(panic) => Some(panic),
        }
    }
}

/// All failures of a [`TaskGroup`](super::TaskGroup), in the order in which they happened; that of
/// the group's own body comes last. Never empty. asyncio: `ExceptionGroup`.
///
/// # Examples
/// ```
/// use ringloop::{GroupError, TaskGroup, task_group};
/// use std::io;
///
/// # ringloop::run(async {
/// let ended = task_group(async |group: TaskGroup<io::Error>| {
///     for kind in [io::ErrorKind::NotFound, io::ErrorKind::InvalidData] {
///         group.create_task(async move { Err::<(), _>(kind.into()) })?;
///     }
///     Ok(())
/// });
/// let Err(GroupError::Failed(group)) = ended.await else {
///     panic!("both failed");
/// };
/// let kinds: Vec<_> = group.errors().map(io::Error::kind).collect();
/// assert_eq!(kinds, [io::ErrorKind::NotFound, io::ErrorKind::InvalidData]);
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct ExceptionGroup<E> {
    failures: Vec<Failure<E>>,
}

impl<E> ExceptionGroup<E> {
    pub(super) fn new(failures: Vec<Failure<E>>) -> Self {
        debug_assert!(!failures.is_empty(), "nothing failed");
        Self { failures }
    }

    /// The failures. asyncio: `exceptions`.
    pub fn exceptions(&self) -> &[Failure<E>] {
        &self.failures
    }

    /// The failures that are errors, not panics.
    pub fn errors(&self) -> impl Iterator<Item = &E> {
        self.failures.iter().filter_map(Failure::error)
    }
}

impl<E> IntoIterator for ExceptionGroup<E> {
    type Item = Failure<E>;
    type IntoIter = std::vec::IntoIter<Failure<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.failures.into_iter()
    }
}

impl<E: fmt::Display> fmt::Display for ExceptionGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.failures.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "unhandled errors in a TaskGroup ({count} sub-exception{plural}): "
        )?;
        for (at, failure) in self.failures.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{failure}")?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for ExceptionGroup<E> {
    /// The first failure, which set off the others.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures
            .first()
            .map(|failure| failure as &(dyn Error + 'static))
    }
}
