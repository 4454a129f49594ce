//! Combinators: groups of tasks, timeouts, and waiting for several tasks at once.
//!
//! | asyncio | here |
//! |---|---|
//! | `as_completed` | [`as_completed`](as_completed()) |
//! | `gather` | [`gather`](gather()) |
//! | `wait`, `wait_for` | [`wait`](wait()), [`wait_for`](wait_for()) |
//! | `shield` | [`shield`](shield()) |
//! | `staggered_race` | [`staggered_race`](staggered_race()) |
//! | `timeout`, `timeout_at` | [`timeout`](crate::timeout()), [`Deadline`](crate::Deadline), on the floor of the loop |
//! | `TaskGroup` | [`task_group`](task_group()), [`TaskGroup`] |
//! | `ExceptionGroup` | [`ExceptionGroup`], of [`Failure`]s |
//!
//! What fails here: a future whose output is an `Err`, and one that panics. A cancellation is no
//! failure.

mod as_completed;
mod child;
mod children;
mod failure;
mod gather;
mod group_error;
mod hop;
mod shield;
mod staggered_race;
mod task_group;
mod wait;
mod wait_for;

pub use as_completed::{AsCompleted, NextCompleted, as_completed};
pub use child::Child;
pub use failure::{ExceptionGroup, Failure, Panic};
pub use gather::{Gather, GatherAll, gather};
pub use group_error::{GroupError, Refused};
pub use shield::{Shield, shield};
pub use staggered_race::{Race, staggered_race};
pub use task_group::{TaskGroup, task_group};
pub use wait::{ReturnWhen, wait};
pub use wait_for::wait_for;
