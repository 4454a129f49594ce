//! Runners: several runs on one loop, the end of what is left, and SIGINT.
//!
//! SIGINT is for the main thread, in which no test runs: `interrupts.rs` starts the program
//! `interrupted` of this package.

mod interrupts;
mod runs;
