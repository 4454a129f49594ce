//! Servers whose connections are streams.

use super::client::{Client, ClientOutcome};
use super::origin::{ClientConnected, Origin};
use super::protocol::{DEFAULT_LIMIT, StreamReaderProtocol};
use super::reader::{StreamReader, check_limit};
use super::writer::StreamWriter;
use crate::event_loop::{
    AbstractEventLoop, EventLoopExt, Server, ServerOptions, UnixServerOptions, try_get_running_loop,
};
use std::future::Future;
use std::io;
use std::rc::Rc;

/// Serves TCP: calls `client_connected` with the two halves of every new connection and makes a task
/// of what it returns. asyncio: `start_server`.
///
/// The callback is an async function or closure, or a plain one that returns a future
/// (`std::future::ready(())` if it did everything itself). When its task returns an error or panics,
/// that is reported as "Unhandled exception in client_connected_cb" and the connection is closed;
/// when it is cancelled, the connection is closed silently.
///
/// # Errors
/// No running loop; else as [`create_server`](EventLoopExt::create_server).
///
/// # Examples
/// ```no_run
/// use ringloop::{ServerOptions, stream::start_server};
///
/// # async fn example() -> std::io::Result<()> {
/// let server = start_server(
///     async |mut reader, writer| {
///         while let Some(data) = reader.read_lease().await? {
///             writer.write_lease(data)?;
///             writer.drain().await?;
///         }
///         std::io::Result::Ok(())
///     },
///     ServerOptions::new("localhost", 7000),
/// )
/// .await?;
/// server.serve_forever().await
/// # }
/// ```
pub async fn start_server<C, F>(
    client_connected: C,
    on: impl Into<ServerOptions>,
) -> io::Result<Server>
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: ClientOutcome> + 'static,
{
    start_server_with_limit(client_connected, on, DEFAULT_LIMIT).await
}

/// As [`start_server`], with another limit of the readers.
///
/// # Errors
/// `InvalidInput` when `limit` is 0.
pub async fn start_server_with_limit<C, F>(
    client_connected: C,
    on: impl Into<ServerOptions>,
    limit: usize,
) -> io::Result<Server>
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: ClientOutcome> + 'static,
{
    let event_loop = try_get_running_loop()?;
    let streams = streams(client_connected, &event_loop, limit)?;
    event_loop.create_server(streams, on.into()).await
}

/// Serves a Unix socket, otherwise as [`start_server`]. asyncio: `start_unix_server`.
///
/// # Errors
/// No running loop; else as [`create_unix_server`](EventLoopExt::create_unix_server).
pub async fn start_unix_server<C, F>(
    client_connected: C,
    on: impl Into<UnixServerOptions>,
) -> io::Result<Server>
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: ClientOutcome> + 'static,
{
    start_unix_server_with_limit(client_connected, on, DEFAULT_LIMIT).await
}

/// As [`start_unix_server`], with another limit of the readers.
///
/// # Errors
/// `InvalidInput` when `limit` is 0.
pub async fn start_unix_server_with_limit<C, F>(
    client_connected: C,
    on: impl Into<UnixServerOptions>,
    limit: usize,
) -> io::Result<Server>
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: ClientOutcome> + 'static,
{
    let event_loop = try_get_running_loop()?;
    let streams = streams(client_connected, &event_loop, limit)?;
    event_loop.create_unix_server(streams, on.into()).await
}

/// The protocol factory of a server; what all its connections share is made once.
///
/// # Errors
/// `InvalidInput` when `limit` is 0.
fn streams<C, F>(
    client_connected: C,
    event_loop: &Rc<dyn AbstractEventLoop>,
    limit: usize,
) -> io::Result<impl Fn() -> Rc<StreamReaderProtocol> + use<C, F>>
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: ClientOutcome> + 'static,
{
    check_limit(limit)?;
    let start: ClientConnected = Box::new(move |stream, event_loop| {
        let reader = StreamReader::of(stream.clone());
        let writer = StreamWriter::of(stream.clone());
        let client = Client::new(client_connected(reader, writer), stream);
        // A loop that takes no tasks any more drops the client, which closes the connection.
        let _ = event_loop.create_task(client);
    });
    let origin = Rc::new(Origin {
        event_loop: Rc::downgrade(event_loop),
        limit,
        client_connected: Some(start),
    });
    Ok(move || StreamReaderProtocol::new(origin.clone()))
}
