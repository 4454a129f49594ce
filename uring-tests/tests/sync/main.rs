//! Locks, events, conditions, semaphores, barriers, queues.
//!
//! The tests turn the loop by hand, one iteration at a time: what happens within one is in order.
//! `memory.rs` counts what is taken from the heap.

mod barrier;
mod bound;
mod condition;
mod event;
mod foreign;
mod lock;
mod memory;
mod queue;
mod queue_end;
mod semaphore;
mod support;
