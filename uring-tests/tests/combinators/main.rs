//! Groups, timeouts, and waiting for several tasks at once.
//!
//! The loop of these tests is the one of the tests of the event loop: its clock may be turned by
//! hand, and reports that a test does not take make it fail.

mod book;
mod common;
mod completion;
mod gathering;
mod groups;
mod groups_cancelled;
mod model;
mod random;
mod timeouts;
mod waiting;
