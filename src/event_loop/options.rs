//! What connecting and serving can be told, under asyncio's names.
//!
//! Every struct has a `Default`, public fields for loops of your own, and chainable setters:
//!
//! ```
//! # use std::time::Duration;
//! use ringloop::{ConnectOptions, ServerOptions};
//!
//! let server = ServerOptions::new("localhost", 0).backlog(1000);
//! let client = ConnectOptions::new("example.org", "https")
//!     .happy_eyeballs_delay(Duration::from_millis(250));
//! ```

use super::resolver::Family;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A port as asyncio takes it: a number, or the name of a service; empty means 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port(String);

impl Port {
    /// Decimal number, service name, or empty.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u16> for Port {
    fn from(port: u16) -> Self {
        Self(port.to_string())
    }
}

impl From<&str> for Port {
    fn from(port: &str) -> Self {
        Self(port.to_owned())
    }
}

impl From<String> for Port {
    fn from(port: String) -> Self {
        Self(port)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For `create_connection`: a host and port, or a connected socket.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Name or literal address. `None` with a port means this machine.
    pub host: Option<String>,
    /// Port or service.
    pub port: Option<Port>,
    /// Which addresses to try; any by default.
    pub family: Family,
    /// `AI_*` bits for the resolver; none by default.
    pub flags: i32,
    /// A connected stream socket to take over, instead of host and port.
    pub sock: Option<OwnedFd>,
    /// Host and port to bind the socket to; not bound by default.
    pub local_addr: Option<(String, Port)>,
    /// How long to wait for one attempt before the next begins beside it (RFC 8305 proposes
    /// 250 ms). `None`, the default: an attempt begins when the one before it failed.
    pub happy_eyeballs_delay: Option<Duration>,
    /// Mixes the families of the addresses, beginning with so many of the first family; 0 leaves
    /// them as the resolver gave them. By default 1 with `happy_eyeballs_delay`, else 0.
    pub interleave: Option<usize>,
    /// Whether failure gives [`ConnectErrors`](super::ConnectErrors) with every error, instead of
    /// one that sums them up; false by default.
    pub all_errors: bool,
}

impl ConnectOptions {
    /// Connects to a port of a host.
    pub fn new(host: impl Into<String>, port: impl Into<Port>) -> Self {
        Self::default().host(host).port(port)
    }

    /// Sets the host.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: impl Into<Port>) -> Self {
        self.port = Some(port.into());
        self
    }

    /// Sets which addresses are tried.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Sets the resolver's `AI_*` bits.
    #[must_use]
    pub fn flags(mut self, flags: i32) -> Self {
        self.flags = flags;
        self
    }

    /// Takes a connected stream socket over; it is closed when connecting fails.
    #[must_use]
    pub fn sock(mut self, sock: impl Into<OwnedFd>) -> Self {
        self.sock = Some(sock.into());
        self
    }

    /// Binds the socket first.
    #[must_use]
    pub fn local_addr(mut self, host: impl Into<String>, port: impl Into<Port>) -> Self {
        self.local_addr = Some((host.into(), port.into()));
        self
    }

    /// Tries addresses side by side.
    #[must_use]
    pub fn happy_eyeballs_delay(mut self, delay: Duration) -> Self {
        self.happy_eyeballs_delay = Some(delay);
        self
    }

    /// Mixes the families of the addresses.
    #[must_use]
    pub fn interleave(mut self, first_family_count: usize) -> Self {
        self.interleave = Some(first_family_count);
        self
    }

    /// Asks for every error.
    #[must_use]
    pub fn all_errors(mut self, all_errors: bool) -> Self {
        self.all_errors = all_errors;
        self
    }
}

impl From<SocketAddr> for ConnectOptions {
    /// A numeric address needs no resolver, unless it has a scope.
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                format!("{}%{}", address.ip(), address.scope_id())
            }
            _ => address.ip().to_string(),
        };
        Self::new(host, address.port())
    }
}

/// For `create_unix_connection`: a path, or a connected socket.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct UnixConnectOptions {
    /// Where the server listens; a leading NUL byte means an abstract name.
    pub path: Option<PathBuf>,
    /// A connected Unix stream socket to take over.
    pub sock: Option<OwnedFd>,
}

impl UnixConnectOptions {
    /// Connects to a path.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::default().path(path)
    }

    /// Sets the path.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// Takes a connected socket over; it is closed when this fails.
    #[must_use]
    pub fn sock(mut self, sock: impl Into<OwnedFd>) -> Self {
        self.sock = Some(sock.into());
        self
    }
}

/// For `create_server`: hosts and a port, or a socket.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The hosts to listen on; an empty one means all interfaces, as does `None` with a port.
    pub hosts: Option<Vec<String>>,
    /// Port or service; 0, or none with a host, lets the system choose one for each address.
    pub port: Option<Port>,
    /// Which addresses to listen on; any by default.
    pub family: Family,
    /// `AI_*` bits for the resolver; `AI_PASSIVE` by default.
    pub flags: i32,
    /// A bound stream socket to take over, instead of hosts and port.
    pub sock: Option<OwnedFd>,
    /// How many connections the kernel keeps until they are accepted; 100 by default, capped by
    /// `net.core.somaxconn`.
    pub backlog: u32,
    /// `SO_REUSEADDR`: bind although connections of an earlier server are not yet over; true by
    /// default.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`: several sockets of the same user may listen on one port; false by default.
    pub reuse_port: bool,
    /// `SO_KEEPALIVE` on every connection; false by default.
    pub keep_alive: bool,
    /// Whether to listen and accept at once; true by default.
    pub start_serving: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            hosts: None,
            port: None,
            family: Family::Any,
            flags: libc::AI_PASSIVE,
            sock: None,
            backlog: BACKLOG,
            reuse_address: true,
            reuse_port: false,
            keep_alive: false,
            start_serving: true,
        }
    }
}

/// asyncio's backlog.
const BACKLOG: u32 = 100;

impl ServerOptions {
    /// Listens on a host (empty: all interfaces) and port.
    pub fn new(host: impl Into<String>, port: impl Into<Port>) -> Self {
        Self::default().host(host).port(port)
    }

    /// Listens on one host; empty means all interfaces.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts = Some(vec![host.into()]);
        self
    }

    /// Listens on several hosts, one socket for each distinct address.
    #[must_use]
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: impl Into<Port>) -> Self {
        self.port = Some(port.into());
        self
    }

    /// Sets which addresses are listened on.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Sets the resolver's `AI_*` bits.
    #[must_use]
    pub fn flags(mut self, flags: i32) -> Self {
        self.flags = flags;
        self
    }

    /// Takes a bound stream socket over.
    #[must_use]
    pub fn sock(mut self, sock: impl Into<OwnedFd>) -> Self {
        self.sock = Some(sock.into());
        self
    }

    /// Sets how many connections wait to be accepted.
    #[must_use]
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Switches `SO_REUSEADDR`.
    #[must_use]
    pub fn reuse_address(mut self, reuse_address: bool) -> Self {
        self.reuse_address = reuse_address;
        self
    }

    /// Switches `SO_REUSEPORT`.
    #[must_use]
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.reuse_port = reuse_port;
        self
    }

    /// Switches `SO_KEEPALIVE`.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Switches whether to serve at once; if not, the sockets are bound but refuse connections
    /// until [`Server::start_serving`](super::Server::start_serving).
    #[must_use]
    pub fn start_serving(mut self, start_serving: bool) -> Self {
        self.start_serving = start_serving;
        self
    }
}

impl From<SocketAddr> for ServerOptions {
    fn from(address: SocketAddr) -> Self {
        let ConnectOptions { host, port, .. } = ConnectOptions::from(address);
        Self {
            hosts: host.map(|host| vec![host]),
            port,
            ..Self::default()
        }
    }
}

/// For `create_unix_server`: a path, or a socket.
#[derive(Debug)]
#[non_exhaustive]
pub struct UnixServerOptions {
    /// Where to listen; a leading NUL byte means an abstract name. A stale socket there is replaced.
    pub path: Option<PathBuf>,
    /// A bound Unix stream socket to take over.
    pub sock: Option<OwnedFd>,
    /// As in [`ServerOptions`].
    pub backlog: u32,
    /// Whether to listen and accept at once; true by default.
    pub start_serving: bool,
    /// Whether closing the server removes the path, if it still is the same socket; true by default.
    pub cleanup_socket: bool,
}

impl Default for UnixServerOptions {
    fn default() -> Self {
        Self {
            path: None,
            sock: None,
            backlog: BACKLOG,
            start_serving: true,
            cleanup_socket: true,
        }
    }
}

impl UnixServerOptions {
    /// Listens on a path.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::default().path(path)
    }

    /// Sets the path.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// Takes a bound socket over.
    #[must_use]
    pub fn sock(mut self, sock: impl Into<OwnedFd>) -> Self {
        self.sock = Some(sock.into());
        self
    }

    /// Sets how many connections wait to be accepted.
    #[must_use]
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Switches whether to serve at once.
    #[must_use]
    pub fn start_serving(mut self, start_serving: bool) -> Self {
        self.start_serving = start_serving;
        self
    }

    /// Switches whether closing removes the path.
    #[must_use]
    pub fn cleanup_socket(mut self, cleanup_socket: bool) -> Self {
        self.cleanup_socket = cleanup_socket;
        self
    }
}
