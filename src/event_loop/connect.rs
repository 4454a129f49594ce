//! Connections: `create_connection`, `create_unix_connection`, `connect_accepted_socket`.
//!
//! ```text
//!   check arguments ─▶ resolve ─▶ attempt each address ─▶ factory() ─▶ transport ─▶ connection_made ─▶ return
//!                                   │ all failed: error     │ panics: the socket is closed   │ cancelled: the
//!                                   ▼                       ▼                                ▼ transport is closed
//! ```
//!
//! **Guarantees.** A socket that does not become a transport is closed, whatever ends the attempt:
//! failure, cancellation, a dropped future, a panic. The factory is called exactly once for each
//! connection. The coroutine returns after `connection_made`; when it is cancelled after the
//! transport was made, the protocol still gets `connection_made` and then `connection_lost`.

use super::abstract_event_loop::{AbstractEventLoop, Connection, ProtocolFactory};
use super::connections::Connections;
use super::core::Core;
use super::factory::{SocketParts, TransportFactory};
use super::future::Future as LoopFuture;
use super::operation::Operation;
use super::options::{ConnectOptions, UnixConnectOptions};
use super::resolver::{self, AddrInfo, Hints, SocketType};
use super::sockets::{
    bind_inet, check_stream, check_unix_stream, invalid, port_text, tcp_socket, unix_socket,
};
use super::staggered::{self, Attempt};
use crate::driver::{Fd, Op, SockAddr};
use crate::protocol::{Address, Transport};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::{Rc, Weak};

/// What connecting and serving need of a loop.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) core: Rc<Core>,
    /// Those that are no server's.
    pub(super) connections: Rc<Connections>,
    pub(super) factory: Rc<dyn TransportFactory>,
    pub(super) outer: Weak<dyn AbstractEventLoop>,
}

/// Every error of a failed `create_connection` with
/// [`all_errors`](ConnectOptions::all_errors), in the order of the attempts; an `io::Error` of
/// kind `Other` carries it. asyncio: `ExceptionGroup`.
#[derive(Debug)]
pub struct ConnectErrors {
    errors: Vec<io::Error>,
}

impl ConnectErrors {
    /// The errors.
    pub fn errors(&self) -> &[io::Error] {
        &self.errors
    }
}

impl fmt::Display for ConnectErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "create_connection failed: {}", joined(&self.errors))
    }
}

impl std::error::Error for ConnectErrors {}

fn joined(errors: &[io::Error]) -> String {
    errors
        .iter()
        .map(io::Error::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The one error that stands for all.
fn combined(mut errors: Vec<io::Error>, all_errors: bool) -> io::Error {
    if all_errors {
        return io::Error::other(ConnectErrors { errors });
    }
    let Some(first) = errors.first().map(io::Error::to_string) else {
        return io::Error::new(io::ErrorKind::TimedOut, "create_connection failed");
    };
    if errors.iter().all(|error| error.to_string() == first) {
        return errors.swap_remove(0);
    }
    io::Error::other(format!("Multiple exceptions: {}", joined(&errors)))
}

/// A socket that is connected, and to whom.
type Connected = (Fd, SocketAddr);

/// One attempt. A failure lists its errors: those of binding, then that of connecting.
async fn attempt(
    core: Rc<Core>,
    address: SocketAddr,
    local: Option<Rc<[AddrInfo]>>,
) -> Attempt<Connected, Vec<io::Error>> {
    let mut errors = Vec::new();
    let socket = match bound_socket(address, local.as_deref(), &mut errors) {
        Ok(socket) => Fd::new(socket),
        Err(error) => {
            errors.push(error);
            return Ok(Err(errors));
        }
    };
    let op = Op::Connect {
        fd: socket.clone(),
        addr: Box::new(address.into()),
    };
    Ok(match Operation::new(core, op).await?.count() {
        Ok(_) => Ok((socket, address)),
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    })
}

/// A socket to connect from, bound to the first local address that can be had.
fn bound_socket(
    address: SocketAddr,
    local: Option<&[AddrInfo]>,
    errors: &mut Vec<io::Error>,
) -> io::Result<OwnedFd> {
    let socket = tcp_socket(&address)?;
    let Some(local) = local else {
        return Ok(socket);
    };
    for info in local
        .iter()
        .filter(|info| info.address.is_ipv4() == address.is_ipv4())
    {
        match bind_inet(&socket, info.address) {
            Ok(()) => return Ok(socket),
            Err((_, error)) => errors.push(error),
        }
    }
    Err(errors.pop().unwrap_or_else(|| {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let text = format!("no matching local address with family={family} found");
        io::Error::new(io::ErrorKind::AddrNotAvailable, text)
    }))
}

/// Resolves, and tries the addresses.
async fn connect(context: &Context, options: ConnectOptions) -> io::Result<Connected> {
    let hints = Hints {
        family: options.family,
        socket_type: SocketType::Stream,
        proto: 0,
        flags: options.flags,
    };
    let resolve = |host, port| resolver::resolve(context.outer.clone(), host, port, hints);
    let mut infos = resolve(options.host, port_text(options.port)).await?;
    let local: Option<Rc<[AddrInfo]>> = match options.local_addr {
        Some((host, port)) => Some(resolve(Some(host), port_text(Some(port))).await?.into()),
        None => None,
    };
    let delay = options.happy_eyeballs_delay;
    let first = options.interleave.unwrap_or(usize::from(delay.is_some()));
    if first > 0 {
        infos = resolver::interleave(infos, first);
    }
    let attempts = infos
        .into_iter()
        .map(|info| attempt(context.core.clone(), info.address, local.clone()));
    let mut errors = Vec::new();
    match delay {
        Some(delay) => {
            match staggered::race(context.outer.clone(), delay, attempts.collect()).await? {
                Ok(connected) => return Ok(connected),
                Err(failures) => errors.extend(failures.into_iter().flatten()),
            }
        }
        None => {
            for attempt in attempts {
                match attempt.await? {
                    Ok(connected) => return Ok(connected),
                    Err(failure) => errors.extend(failure),
                }
            }
        }
    }
    Err(combined(errors, options.all_errors))
}

/// `create_connection` of the base loop.
pub(super) async fn create_connection(
    context: Context,
    factory: ProtocolFactory,
    mut options: ConnectOptions,
) -> io::Result<Connection> {
    context.core.check_closed()?;
    let has_address = options.host.is_some() || options.port.is_some();
    let (socket, peer) = match options.sock.take() {
        Some(_) if has_address => {
            return Err(invalid(
                "host/port and sock can not be specified at the same time",
            ));
        }
        None if !has_address => {
            return Err(invalid(
                "host and port was not specified and no sock specified",
            ));
        }
        Some(socket) => {
            check_stream(&socket)?;
            (Fd::new(socket), None)
        }
        None => {
            let (socket, peer) = connect(&context, options).await?;
            // Connecting to "any" address reaches this machine under another one.
            (
                socket,
                (!peer.ip().is_unspecified()).then_some(Address::Inet(peer)),
            )
        }
    };
    made(&context, socket, &factory, peer).await
}

/// `create_unix_connection` of the base loop.
pub(super) async fn create_unix_connection(
    context: Context,
    factory: ProtocolFactory,
    options: UnixConnectOptions,
) -> io::Result<Connection> {
    context.core.check_closed()?;
    let socket = match (options.path, options.sock) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "path and sock can not be specified at the same time",
            ));
        }
        (None, None) => return Err(invalid("no path and sock were specified")),
        (Some(path), None) => connect_unix(&context, &path).await?,
        (None, Some(socket)) => {
            check_unix_stream(&socket)?;
            Fd::new(socket)
        }
    };
    made(&context, socket, &factory, None).await
}

async fn connect_unix(context: &Context, path: &Path) -> io::Result<Fd> {
    let addr = Box::new(SockAddr::unix(path)?);
    let socket = Fd::new(unix_socket()?);
    let op = Op::Connect {
        fd: socket.clone(),
        addr,
    };
    Operation::new(context.core.clone(), op).await?.count()?;
    Ok(socket)
}

/// `connect_accepted_socket` of the base loop.
pub(super) async fn connect_accepted_socket(
    context: Context,
    factory: ProtocolFactory,
    socket: OwnedFd,
) -> io::Result<Connection> {
    context.core.check_closed()?;
    check_stream(&socket)?;
    made(&context, Fd::new(socket), &factory, None).await
}

/// Closes the transport unless `connection_made` was seen.
struct CloseUnlessMade(Option<Rc<dyn Transport>>);

impl Drop for CloseUnlessMade {
    fn drop(&mut self) {
        if let Some(transport) = &self.0 {
            transport.close();
        }
    }
}

/// Protocol and transport of a connected socket, once `connection_made` has run. asyncio:
/// `_create_connection_transport`.
async fn made(
    context: &Context,
    socket: Fd,
    factory: &ProtocolFactory,
    peer: Option<Address>,
) -> io::Result<Connection> {
    let protocol = factory();
    let made = LoopFuture::of_running_loop()?;
    let resolve = made.clone();
    let transport = context.factory.make_socket_transport(SocketParts {
        connections: context.connections.clone(),
        event_loop: context.outer.clone(),
        socket,
        protocol: protocol.clone(),
        made: Some(Box::new(move || {
            // Refused when it was cancelled meanwhile: then nobody waits.
            let _ = resolve.set_result(());
        })),
        peer,
        accepted: false,
    })?;
    let mut guard = CloseUnlessMade(Some(transport.clone()));
    made.wait().await?;
    guard.0 = None;
    Ok((transport, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(numbers: &[i32]) -> Vec<io::Error> {
        numbers
            .iter()
            .map(|&errno| io::Error::from_raw_os_error(errno))
            .collect()
    }

    #[test]
    fn con_04_equal_errors_become_one() {
        let error = combined(errors(&[libc::ECONNREFUSED, libc::ECONNREFUSED]), false);
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn con_05_different_errors_are_summed_up() {
        let error = combined(errors(&[libc::ECONNREFUSED, libc::ENETUNREACH]), false);
        assert_eq!(
            error.to_string(),
            "Multiple exceptions: Connection refused (os error 111), \
             Network is unreachable (os error 101)"
        );
        let error = combined(errors(&[libc::ECONNREFUSED, libc::ENETUNREACH]), true);
        let all = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<ConnectErrors>());
        let kinds: Vec<_> = all
            .expect("all errors")
            .errors()
            .iter()
            .map(io::Error::kind)
            .collect();
        assert_eq!(
            kinds,
            [
                io::ErrorKind::ConnectionRefused,
                io::ErrorKind::NetworkUnreachable
            ]
        );
    }

    #[test]
    fn con_07_no_recorded_error_is_a_timeout() {
        assert_eq!(combined(Vec::new(), false).kind(), io::ErrorKind::TimedOut);
    }
}
