//! Combinators: groups of tasks, timeouts, and waiting for several tasks at once.
//!
//! | asyncio | here |
//! |---|---|
//! | `TaskGroup` | [`task_group`], [`TaskGroup`] |
//! | `ExceptionGroup` | [`ExceptionGroup`], of [`Failure`]s |
//!
//! What fails here: a future whose output is an `Err`, and one that panics. A cancellation is no
//! failure.

mod child;
mod failure;
mod group_error;
mod task_group;

pub use child::Child;
pub use failure::{ExceptionGroup, Failure, Panic};
pub use group_error::{GroupError, Refused};
pub use task_group::{TaskGroup, task_group};
