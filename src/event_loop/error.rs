//! Misuse of a loop, as values.

use std::fmt;
use std::io;

/// What a loop refuses. asyncio raises `RuntimeError` with the same texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopError {
    /// The loop was closed.
    Closed,
    /// This loop is running already.
    AlreadyRunning,
    /// Another loop runs in this thread.
    AnotherRunning,
    /// A running loop can not be closed.
    StillRunning,
    /// No loop runs in this thread.
    NoRunningLoop,
    /// `run_until_complete`: the loop was stopped before the future was done.
    StoppedEarly,
    /// Debug mode: a method that is not thread-safe was called on a loop running elsewhere.
    WrongThread,
    /// The loop does not implement this member of the interface.
    NotImplemented(&'static str),
}

impl fmt::Display for LoopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("Event loop is closed"),
            Self::AlreadyRunning => f.write_str("This event loop is already running"),
            Self::AnotherRunning => {
                f.write_str("Cannot run the event loop while another loop is running")
            }
            Self::StillRunning => f.write_str("Cannot close a running event loop"),
            Self::NoRunningLoop => f.write_str("no running event loop"),
            Self::StoppedEarly => f.write_str("Event loop stopped before Future completed."),
            Self::WrongThread => f.write_str(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            ),
            Self::NotImplemented(member) => write!(f, "{member} is not implemented by this loop"),
        }
    }
}

impl std::error::Error for LoopError {}

impl From<LoopError> for io::Error {
    fn from(error: LoopError) -> Self {
        let kind = match error {
            LoopError::NotImplemented(_) => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
