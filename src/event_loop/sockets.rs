//! Making, checking and binding stream sockets, for connecting and serving.
//!
//! Sockets are close-on-exec. They stay in blocking mode: drivers never block on them, and
//! io_uring prefers it.

use super::options::Port;
use crate::driver::SockAddr;
use crate::protocol::Address;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind,
    getsockname, getsockopt, socket, sockopt,
};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An address could not be bound; an `io::Error` of the errno's kind carries it.
#[derive(Debug)]
pub struct BindError {
    address: Address,
    error: io::Error,
}

impl BindError {
    /// The address.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        match address {
            Address::Inet(_) => {
                let error = error.to_string().to_lowercase();
                write!(
                    f,
                    "error while attempting to bind on address {address}: {error}"
                )
            }
            _ => write!(f, "Address '{address}' is already in use"),
        }
    }
}

impl std::error::Error for BindError {
    /// The error of `bind(2)`.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

fn bind_error(address: Address, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), BindError { address, error })
}

/// Arguments that exclude each other, or a socket of the wrong kind.
pub(super) fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// A TCP socket for addresses of that family.
pub(super) fn tcp_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    Ok(socket(
        family,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Tcp,
    )?)
}

/// A Unix stream socket.
pub(super) fn unix_socket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// # Errors
/// [`BindError`].
pub(super) fn bind_inet(socket: &OwnedFd, address: SocketAddr) -> Result<(), (Errno, io::Error)> {
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .map_err(|errno| (errno, bind_error(Address::Inet(address), errno)))
}

/// The name after the leading NUL byte of an abstract path.
pub(super) fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(&[0])
}

/// Refuses a path that no Unix address can hold, and says why.
pub(super) fn check_unix_path(path: &Path) -> io::Result<()> {
    SockAddr::unix(path).map(drop)
}

/// # Errors
/// [`BindError`] for an address in use; else the plain error.
pub(super) fn bind_unix(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    let (raw, address) = match abstract_name(path) {
        Some(name) => (
            UnixAddr::new_abstract(name)?,
            Address::UnixAbstract(name.to_vec()),
        ),
        None => (UnixAddr::new(path)?, Address::Unix(path.to_owned())),
    };
    bind(socket.as_raw_fd(), &raw).map_err(|errno| match errno {
        Errno::EADDRINUSE => bind_error(address, errno),
        _ => errno.into(),
    })
}

fn is_stream(socket: BorrowedFd<'_>) -> bool {
    getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream)
}

/// Refuses what is not a stream socket.
pub(super) fn check_stream(socket: &OwnedFd) -> io::Result<()> {
    if is_stream(socket.as_fd()) {
        return Ok(());
    }
    Err(invalid(format!(
        "A Stream Socket was expected, got {}",
        describe(socket)
    )))
}

/// Refuses what is not a Unix stream socket.
pub(super) fn check_unix_stream(socket: &OwnedFd) -> io::Result<()> {
    let name = getsockname::<SockaddrStorage>(socket.as_raw_fd());
    let is_unix = name.is_ok_and(|name| name.family() == Some(AddressFamily::Unix));
    if is_unix && is_stream(socket.as_fd()) {
        return Ok(());
    }
    let got = describe(socket);
    Err(invalid(format!(
        "A UNIX Domain Stream Socket was expected, got {got}"
    )))
}

/// Type and name of a descriptor, for messages.
fn describe(fd: &OwnedFd) -> String {
    let number = fd.as_raw_fd();
    match getsockopt(fd, sockopt::SockType) {
        Ok(kind) => {
            let name = crate::sys::names::own(fd.as_fd()).map(Address::from);
            let name = name.map(|name| format!(" at {name}")).unwrap_or_default();
            format!("descriptor {number}, a {kind:?} socket{name}")
        }
        Err(_) => format!("descriptor {number}, which is no socket"),
    }
}

/// The text of an optional port.
pub(super) fn port_text(port: Option<Port>) -> String {
    port.map(|port| port.as_str().to_owned())
        .unwrap_or_default()
}

/// Whether a path names a file, and not an abstract socket.
pub(super) fn is_file(path: &Path) -> bool {
    abstract_name(path).is_none()
}
