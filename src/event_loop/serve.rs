//! Servers: `create_server`, `create_unix_server`.
//!
//! **Guarantees.** Either every address that can be bound is bound and, unless told otherwise,
//! listened on, or an error is returned and every socket made so far is closed. A coroutine that
//! is cancelled or dropped before it returned leaves no server behind.

use super::abstract_event_loop::ProtocolFactory;
use super::connect::Context;
use super::exception::ExceptionContext;
use super::listener::{Cleanup, Listener};
use super::options::{ServerOptions, UnixServerOptions};
use super::resolver::{self, Hints, SocketType};
use super::server::Server;
use super::sockets::{
    bind_inet, bind_unix, check_stream, check_unix_path, check_unix_stream, invalid, is_file,
    port_text, tcp_socket, unix_socket,
};
use crate::protocol::Address;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// `create_server` of the base loop.
pub(super) async fn create_server(
    context: Context,
    factory: ProtocolFactory,
    mut options: ServerOptions,
) -> io::Result<Server> {
    context.core.check_closed()?;
    let has_address = options.hosts.is_some() || options.port.is_some();
    let listeners = match options.sock.take() {
        Some(_) if has_address => {
            return Err(invalid(
                "host/port and sock can not be specified at the same time",
            ));
        }
        None if !has_address => {
            return Err(invalid("Neither host/port nor sock were specified"));
        }
        Some(socket) => {
            check_stream(&socket)?;
            vec![Listener::adopted(socket)]
        }
        None => bound(&context, &mut options).await?,
    };
    let server = Server::new(context, listeners, factory, options.backlog);
    started(server, options.start_serving).await
}

/// Starts the server if so wanted; it is closed when that fails, is cancelled or dropped.
async fn started(server: Server, start: bool) -> io::Result<Server> {
    struct Unfinished(Option<Server>);
    impl Drop for Unfinished {
        fn drop(&mut self) {
            if let Some(server) = &self.0 {
                server.close();
            }
        }
    }
    let mut guard = Unfinished(Some(server.clone()));
    if start {
        server.start_serving().await?;
    }
    guard.0 = None;
    Ok(server)
}

/// Resolves the hosts and binds a socket for each distinct address.
async fn bound(context: &Context, options: &mut ServerOptions) -> io::Result<Vec<Listener>> {
    let hints = Hints {
        family: options.family,
        socket_type: SocketType::Stream,
        proto: 0,
        flags: options.flags,
    };
    let hosts = match options.hosts.take() {
        Some(hosts) => hosts
            .into_iter()
            .map(|host| (!host.is_empty()).then_some(host))
            .collect(),
        None => vec![None],
    };
    let port = port_text(options.port.take());
    let infos = resolver::resolve_all(&context.outer, hosts, &port, hints).await?;
    let mut sockets = Vec::new();
    for info in &infos {
        sockets.extend(bound_socket(context, info.address, options)?);
    }
    if sockets.is_empty() {
        let addresses: Vec<_> = infos.iter().map(|info| info.address.to_string()).collect();
        return Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!(
                "could not bind on any address out of [{}]",
                addresses.join(", ")
            ),
        ));
    }
    Ok(sockets.into_iter().map(Listener::own).collect())
}

/// A socket bound to the address; `None` when the machine does not have its family.
fn bound_socket(
    context: &Context,
    address: SocketAddr,
    options: &ServerOptions,
) -> io::Result<Option<OwnedFd>> {
    let skipped = |error: io::Error| {
        if context.core.is_debug() {
            let message = format!("create_server() skips the address {address}");
            context.core.report(ExceptionContext::error(message, error));
        }
        Ok(None)
    };
    let socket = match tcp_socket(&address) {
        Ok(socket) => socket,
        Err(error) => return skipped(error),
    };
    if options.reuse_address {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if options.reuse_port {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    if options.keep_alive {
        setsockopt(&socket, sockopt::KeepAlive, &true)?;
    }
    if address.is_ipv6() {
        // By default it would take the IPv4 connections too, and keep the IPv4 socket from binding.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    match bind_inet(&socket, address) {
        Ok(()) => Ok(Some(socket)),
        // The family exists but is switched off.
        Err((Errno::EADDRNOTAVAIL, error)) => skipped(error),
        Err((_, error)) => Err(error),
    }
}

/// `create_unix_server` of the base loop.
pub(super) async fn create_unix_server(
    context: Context,
    factory: ProtocolFactory,
    options: UnixServerOptions,
) -> io::Result<Server> {
    context.core.check_closed()?;
    let listener = match (options.path, options.sock) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "path and sock can not be specified at the same time",
            ));
        }
        (None, None) => return Err(invalid("path was not specified, and no sock specified")),
        (Some(path), None) => {
            check_unix_path(&path)?;
            let socket = unix_socket()?;
            if is_file(&path)
                && let Err(error) = remove_stale(&path)
            {
                // It may be allowed to bind there all the same.
                let path = path.display();
                let message = format!("Unable to check or remove stale UNIX socket '{path}'");
                context.core.report(ExceptionContext::error(message, error));
            }
            bind_unix(&socket, &path)?;
            Listener::own(socket)
        }
        (None, Some(socket)) => {
            check_unix_stream(&socket)?;
            Listener::adopted(socket)
        }
    };
    let cleanup = match listener.address() {
        Some(Address::Unix(path)) if options.cleanup_socket => Cleanup::of(&path)?,
        _ => None,
    };
    let server = Server::new(
        context,
        vec![listener.clean_up(cleanup)],
        factory,
        options.backlog,
    );
    started(server, options.start_serving).await
}

/// Removes a socket that an earlier server left behind; other files stay.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
