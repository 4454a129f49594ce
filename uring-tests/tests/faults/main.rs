//! What goes wrong around a loop, while it serves: nothing is lost, nobody else notices, and it is said
//! once.
//!
//! Queues that overflow are in `transports/queues.rs`, buffers that run out in `transports/starving.rs`,
//! kept leases in `transports/leases.rs`, a single shortage of descriptors in `servers/accepting.rs`.

mod panics;
mod signals;
mod soaked;
mod storm;
