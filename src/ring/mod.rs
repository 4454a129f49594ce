//! The kernel side: one io_uring. Knows no operation's meaning.
//!
//! ```text
//!  setup ──▶ Ring ──push──▶ SQ ──enter──▶ kernel ──▶ CQ ──completions──▶ driver
//!    └─▶ refusal: why there is none, and the remedy
//! ```
//!
//! **Guarantees.** A `Ring` belongs to the thread that made it. What is pushed stands in the
//! submission queue until an enter consumed it, in order. Dropping a ring does not wait for what
//! is in flight (trap T2): the driver above drains first, or leaks.

mod buf_ring;
mod queues;
mod refusal;
mod setup;
mod sqe;

pub(crate) use buf_ring::BufRing;
pub(crate) use queues::{Ring, Wait};
pub use refusal::{Cause, Facts, Refusal};
pub(crate) use setup::{LAST_PAUSES, RingOptions};
pub(crate) use sqe::{recv_multi, send, sendmsg};
