//! What the primitives answer when they are misused. Their waits answer
//! [`Cancelled`](crate::Cancelled).

use std::error::Error;
use std::fmt;
use std::io;

macro_rules! misuse {
    ($($(#[$meta:meta])* $name:ident: $text:literal)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($text)
            }
        }

        impl Error for $name {}

        impl From<$name> for io::Error {
            fn from(error: $name) -> Self {
                Self::other(error)
            }
        }
    )+};
}

misuse! {
    /// The lock is not locked, or not by what would have to. asyncio: the `RuntimeError` of
    /// `Lock.release` and `Condition.notify`.
    NotAcquired: "Lock is not acquired."
    /// A [`BoundedSemaphore`](super::BoundedSemaphore) already has all its units. asyncio: the
    /// `ValueError` of its `release`.
    ReleasedTooOften: "BoundedSemaphore released too many times"
    /// No item of the queue is being worked on. asyncio: the `ValueError` of `Queue.task_done`.
    TaskDoneTooOften: "task_done() called too many times"
}
