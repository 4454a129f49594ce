//! The vocabulary between transports and the programs above them: protocols, the transport
//! interface, write limits. No I/O and no loop.
//!
//! ```text
//!   made ──▶ data* ──▶ eof? ──▶ lost           (each connection: made once, lost once, nothing after)
//!              ▲  └─ pause_writing / resume_writing alternate, inside write() or when the queue drains
//! ```
//!
//! Protocol methods take `&self`, and a transport holds no borrow while one runs: `write`, `close`,
//! `abort`, `set_protocol` and `pause_reading` are legal inside every callback. A protocol that
//! wants `&mut self` is wrapped in [`ProtocolCell`].

mod callbacks;
mod cell;
mod flow;
mod transport;

pub use callbacks::{BaseProtocol, BufferedProtocol, Protocol, ProtocolKind};
pub use cell::{ProtocolCell, ProtocolMut};
pub use flow::{InvalidLimits, WriteLimits};
pub use transport::{Address, ExtraInfo, Transport};
