//! Names of sockets.

use nix::sys::socket::{
    AddressFamily, SockaddrLike, SockaddrStorage, getpeername, getsockname, setsockopt, sockopt,
};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// A socket's name, as far as it is IP or Unix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// IPv4 or IPv6.
    Inet(SocketAddr),
    /// A path.
    Path(PathBuf),
    /// An abstract name.
    Abstract(Vec<u8>),
    /// A Unix socket without a name.
    Unnamed,
}

fn name(addr: &SockaddrStorage) -> Option<Name> {
    match addr.family()? {
        AddressFamily::Inet => addr
            .as_sockaddr_in()
            .map(|addr| Name::Inet(SocketAddr::V4((*addr).into()))),
        AddressFamily::Inet6 => addr
            .as_sockaddr_in6()
            .map(|addr| Name::Inet(SocketAddr::V6((*addr).into()))),
        AddressFamily::Unix => {
            let addr = addr.as_unix_addr()?;
            Some(match (addr.path(), addr.as_abstract()) {
                (Some(path), _) => Name::Path(path.to_owned()),
                (None, Some(name)) => Name::Abstract(name.to_vec()),
                (None, None) => Name::Unnamed,
            })
        }
        _ => None,
    }
}

/// The peer's name; `None` when there is none (any more) or it is of another family.
pub fn peer(fd: BorrowedFd<'_>) -> Option<Name> {
    name(&getpeername(fd.as_raw_fd()).ok()?)
}

/// The socket's own name.
pub fn own(fd: BorrowedFd<'_>) -> Option<Name> {
    name(&getsockname(fd.as_raw_fd()).ok()?)
}

/// Turns Nagle's algorithm off; on sockets other than TCP this does nothing.
pub fn set_nodelay(fd: BorrowedFd<'_>) {
    // The only failures are that this is not TCP, or that the connection is gone already.
    let _ = setsockopt(&fd, sockopt::TcpNoDelay, &true);
}
