//! An event loop and async runtime for Linux servers.

pub mod driver;
pub mod protocol;
pub mod ready;
pub mod ring;
pub mod sys;
pub mod task;
