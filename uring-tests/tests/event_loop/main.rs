//! The event loop: life cycle, scheduling, handles, tasks, cancellation, time.
//!
//! `support.rs` has the loop of these tests: its driver writes down how it was parked, its clock may
//! be turned by hand, and reports that a test does not take make it fail.

mod closed;
mod handles;
mod host;
mod interface;
mod iteration;
mod lifecycle;
mod scheduling;
mod support;
mod threads;
mod wakeup;
