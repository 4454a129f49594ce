//! Connecting: a transport whose protocol is a stream.

use super::protocol::DEFAULT_LIMIT;
use super::reader::StreamReader;
use super::writer::StreamWriter;
use crate::event_loop::{ConnectOptions, EventLoopExt, UnixConnectOptions, try_get_running_loop};
use std::io;

/// Connects over TCP and returns the two halves of the stream. asyncio: `open_connection`.
///
/// # Errors
/// No running loop; else as [`create_connection`](EventLoopExt::create_connection). Cancelled or
/// dropped, it leaves no connection behind.
///
/// # Examples
/// ```no_run
/// use ringloop::{ConnectOptions, stream::open_connection};
///
/// # async fn example() -> std::io::Result<()> {
/// let (mut reader, writer) = open_connection(ConnectOptions::new("localhost", 7000)).await?;
/// writer.write(b"hello\n")?;
/// let answer = reader.readline().await?;
/// writer.close();
/// writer.wait_closed().await?;
/// # Ok(())
/// # }
/// ```
pub async fn open_connection(
    to: impl Into<ConnectOptions>,
) -> io::Result<(StreamReader, StreamWriter)> {
    open_connection_with_limit(to, DEFAULT_LIMIT).await
}

/// As [`open_connection`], with another limit of the reader.
///
/// # Errors
/// `InvalidInput` when `limit` is 0.
pub async fn open_connection_with_limit(
    to: impl Into<ConnectOptions>,
    limit: usize,
) -> io::Result<(StreamReader, StreamWriter)> {
    let event_loop = try_get_running_loop()?;
    let reader = StreamReader::on_loop(limit, &event_loop)?;
    let stream = reader.protocol();
    let connecting = event_loop.create_connection(move || stream, to.into());
    let (_, stream) = connecting.await?;
    Ok((reader, StreamWriter::of(stream)))
}

/// Connects to a Unix socket and returns the two halves of the stream. asyncio:
/// `open_unix_connection`.
///
/// # Errors
/// No running loop; else as [`create_unix_connection`](EventLoopExt::create_unix_connection).
pub async fn open_unix_connection(
    to: impl Into<UnixConnectOptions>,
) -> io::Result<(StreamReader, StreamWriter)> {
    open_unix_connection_with_limit(to, DEFAULT_LIMIT).await
}

/// As [`open_unix_connection`], with another limit of the reader.
///
/// # Errors
/// `InvalidInput` when `limit` is 0.
pub async fn open_unix_connection_with_limit(
    to: impl Into<UnixConnectOptions>,
    limit: usize,
) -> io::Result<(StreamReader, StreamWriter)> {
    let event_loop = try_get_running_loop()?;
    let reader = StreamReader::on_loop(limit, &event_loop)?;
    let stream = reader.protocol();
    let connecting = event_loop.create_unix_connection(move || stream, to.into());
    let (_, stream) = connecting.await?;
    Ok((reader, StreamWriter::of(stream)))
}
