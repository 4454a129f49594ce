//! Synchronisation between the tasks of one loop: [`Lock`], [`Event`], [`Condition`],
//! [`Semaphore`], [`BoundedSemaphore`], [`Barrier`], [`Queue`], [`PriorityQueue`], [`LifoQueue`].
//! The names are asyncio's.
//!
//! # What all of them promise
//!
//! * **First in, first out.** Locks and semaphores strictly: a newcomer queues behind whoever was
//!   woken and has yet to run. Queues wake in order but hand nothing over: a woken getter may find its
//!   item gone, and queues again.
//! * **No wake-up is lost.** A wait that was woken and then is cancelled or dropped passes on what it
//!   had been woken for. Dropping an acquisition or a get takes nothing.
//! * **Cancellation** is delivered as everywhere: a cancelled wait answers [`Cancelled`](crate::Cancelled)
//!   even if what it waited for is there, and the next in line gets that. Until it has run it still
//!   stands in line, and passes on what it is given. (asyncio's lock does the same; its other
//!   primitives skip a cancelled waiter, which cannot take its cancellation back. Here
//!   [`uncancel`](crate::Task) can, and then the waiter must not have been skipped.)
//! * **Guards** release when dropped; [`LockGuard::forget`] and [`SemaphorePermit::forget`] are for code
//!   that acquires in one place and releases in another.
//! * **Memory.** What need not wait allocates nothing; what waits allocates nothing once the line has
//!   been as long before.
//! * **One loop.** A primitive belongs to the first loop that *blocked* on it; blocking on it in
//!   another is a mistake that nothing could ever wake, and panics (asyncio: a `RuntimeError`): the
//!   task ends with that. They belong to one thread: none is `Send`.
//!
//! Misuse in a call is an error value ([`NotAcquired`], [`ReleasedTooOften`], [`TaskDoneTooOften`]);
//! in a wait, whose error is its cancellation, it panics.
//!
//! # How it is made
//!
//! `waiters.rs` is the one line of waiters; `leaf.rs` is the one future that stands in it, for every
//! primitive the same; the other files say what their primitive's turn is.

mod barrier;
mod condition;
mod error;
mod event;
mod leaf;
mod lock;
mod queue;
mod queue_error;
mod queue_store;
mod semaphore;
mod waiters;

pub use barrier::{Barrier, BarrierError};
pub use condition::Condition;
pub use error::{NotAcquired, ReleasedTooOften, TaskDoneTooOften};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use queue::{LifoQueue, PriorityQueue, Queue};
pub use queue_error::{GetError, GetNowaitError, PutError, PutNowaitError};
pub use queue_store::{Fifo, Lifo, QueueStore, Smallest};
pub use semaphore::{BoundedSemaphore, Semaphore, SemaphorePermit};
