//! Transports: connections on the driver, one file each, and the factory that makes them.

mod bulk;
mod factory;
mod flags;
mod key_cell;
mod rare;
mod receive;
mod send;
mod socket;

pub use factory::DefaultTransports;
