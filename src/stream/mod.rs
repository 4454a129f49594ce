//! Streams: reading and writing connections with `await`. asyncio: `asyncio.streams`.
//!
//! A stream is a [`Protocol`](crate::protocol::Protocol) on a transport, no more: what the kernel
//! received goes through the reader as it is, and what is written goes to the transport.
//!
//! | asyncio | here |
//! |---|---|
//! | `open_connection`, `open_unix_connection` | [`open_connection`], [`open_unix_connection`] |
//! | `start_server`, `start_unix_server` | [`start_server`], [`start_unix_server`] |
//! | `StreamReader`, `StreamWriter` | [`StreamReader`], [`StreamWriter`] |
//! | `StreamReaderProtocol` | [`StreamReaderProtocol`] |
//! | `IncompleteReadError`, `LimitOverrunError` | [`IncompleteReadError`], [`LimitOverrunError`] |
//!
//! # Example
//! ```no_run
//! use ringloop::ServerOptions;
//! use ringloop::stream::{StreamReader, StreamWriter, start_server};
//! use std::io;
//!
//! async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
//!     while let Some(data) = reader.read_lease().await? {
//!         writer.write_lease(data)?;
//!         writer.drain().await?;
//!     }
//!     Ok(())
//! }
//!
//! # async fn main_() -> io::Result<()> {
//! let server = start_server(echo, ServerOptions::new("localhost", 7000)).await?;
//! server.serve_forever().await
//! # }
//! ```

mod client;
mod drain;
mod error;
mod head;
mod inbox;
mod open;
mod origin;
mod protocol;
mod rare;
mod read;
mod reader;
mod serve;
mod until;
mod waiters;
mod writer;

pub use client::ClientOutcome;
pub use error::{IncompleteReadError, LimitOverrunError};
pub use open::{
    open_connection, open_connection_with_limit, open_unix_connection,
    open_unix_connection_with_limit,
};
pub use protocol::{DEFAULT_LIMIT, StreamReaderProtocol};
pub use reader::StreamReader;
pub use serve::{
    start_server, start_server_with_limit, start_unix_server, start_unix_server_with_limit,
};
pub use writer::StreamWriter;
