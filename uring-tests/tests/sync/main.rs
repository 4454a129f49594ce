//! Locks, events, conditions, semaphores, barriers, queues.
//!
//! The tests turn the loop by hand, one iteration at a time: what happens within one is in order.
//! `random*.rs` run random programs against models; `memory.rs` counts what is taken from the heap.

mod actors;
mod barrier;
mod book;
mod bound;
mod condition;
mod event;
mod foreign;
mod lock;
mod memory;
mod queue;
mod queue_end;
mod random;
mod random_queue;
mod semaphore;
mod support;
