//! `Cancelled`: cancellation as a value.
//!
//! **Guarantees.** A [`Cancelled`] is not `Clone`; it lives in one place and is dropped once. It
//! shares its [`Request`] with the scope that asked, so the scope knows by the count of references
//! whether any of its values is still alive: a body that ends while one lives carries it.

use super::id::TaskId;
use super::running;
use super::slot::ROOT;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// One request to cancel, shared by the scope it was made to and the values that delivered it.
pub(super) struct Request {
    pub(super) task: Option<TaskId>,
    pub(super) message: Option<Arc<str>>,
}

/// The answer of an await that was cancelled. asyncio: `CancelledError`.
///
/// `?` carries it up. It becomes an [`io::Error`] of kind [`io::ErrorKind::Other`], never
/// `Interrupted`, which `read_exact` and `io::copy` would retry; [`Cancelled::in_error`] finds it
/// again. A request is delivered once: code that swallows this value goes on, and should know that
/// it was asked to stop.
#[must_use = "swallowing a cancellation lets the task go on; pass it up, or drop it on purpose"]
pub struct Cancelled(pub(super) Arc<Request>);

impl Cancelled {
    /// A cancellation that nobody asked for: a task whose body returns it ends cancelled, with
    /// `cancelling()` at 0. asyncio: `raise CancelledError`.
    pub fn new() -> Self {
        Self::unprompted(None)
    }

    /// As [`Cancelled::new`], with a message.
    pub fn with_message(message: impl Into<Arc<str>>) -> Self {
        Self::unprompted(Some(message.into()))
    }

    /// A value that counts for the task that runs now, if one runs.
    pub(super) fn unprompted(message: Option<Arc<str>>) -> Self {
        Self::of_scope(ROOT, message)
    }

    /// A value that counts for an open scope of the task that runs now.
    pub(super) fn of_scope(scope: u32, message: Option<Arc<str>>) -> Self {
        running::with(|tasks| {
            let running = tasks.and_then(|tasks| Some((tasks, tasks.current_slot()?)));
            let request = Arc::new(Request {
                task: running.and_then(|(_, slot)| slot.id()),
                message,
            });
            if let Some((tasks, slot)) = running {
                tasks.requests(slot, scope, |requests| requests.track(request.clone()));
            }
            Self(request)
        })
    }

    /// The same as a value among others: a task whose output holds it does not end cancelled.
    pub(crate) fn detached(self) -> Self {
        let Request { task, ref message } = *self.0;
        let message = message.clone();
        Self(Arc::new(Request { task, message }))
    }

    /// The same as a cancellation that the running task passes on.
    pub(crate) fn raised(self) -> Self {
        Self::unprompted(self.0.message.clone())
    }

    /// What was given to `cancel_with`, if anything. asyncio: the argument of the exception.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// The task that got it: one of its awaits was cancelled, or joined a task that was, or its code
    /// made this value. `None` outside any task.
    pub fn task(&self) -> Option<TaskId> {
        self.0.task
    }

    /// Finds a cancellation in an error or in what caused it.
    pub fn in_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut error = Some(error);
        while let Some(this) = error {
            if let Some(found) = this.downcast_ref::<Self>() {
                return Some(found);
            }
            if let Some(super::JoinError::Cancelled(found)) = this.downcast_ref() {
                return Some(found);
            }
            // `source` of an io::Error is the source of what it wraps: look at that itself first.
            error = match this
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
            {
                Some(inner) => Some(inner),
                None => this.source(),
            };
        }
        None
    }
}

impl Default for Cancelled {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled")
            .field("task", &self.task())
            .field("message", &self.message())
            .finish()
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => write!(f, "cancelled: {message}"),
            None => f.write_str("cancelled"),
        }
    }
}

impl Error for Cancelled {}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        Self::other(cancelled)
    }
}
