//! Futures of the loop, of other loops and of no loop; what goes between threads.

mod book;
mod callbacks;
mod concurrent;
mod executors;
mod random;
mod reports;
mod state;
mod support;
mod threads;
mod waiting;
