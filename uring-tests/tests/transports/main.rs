//! Stream transports: the TRN, TSO, BUF, FLOW and PRO rows of the contract, and what the design
//! promises beyond them.
//!
//! Every test runs in a [`lab`](uring_tests::lab), which fails when an operation, a receive buffer, a
//! descriptor or a transport is left at the end. Sockets are real.

mod base;
mod buffered;
mod cells;
mod closing;
mod flow;
mod leases;
mod loop_close;
mod queues;
mod reading;
mod recorder;
mod reentrant;
mod sockets;
mod starving;
mod tamper;
mod writing;
