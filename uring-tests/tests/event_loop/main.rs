//! The event loop: life cycle, scheduling, handles, tasks, cancellation, time.
//!
//! `support.rs` has the loop of these tests: its driver writes down how it was parked, its clock may
//! be turned by hand, and reports that a test does not take make it fail.

mod cancel;
mod careless;
mod closed;
mod current;
mod handles;
mod host;
mod interface;
mod iteration;
mod lifecycle;
mod registry;
mod reports;
mod requests;
mod scheduling;
mod shutdown;
mod tasks;
mod threads;
mod ticks;
mod time;
mod wakeup;
