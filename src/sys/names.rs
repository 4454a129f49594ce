//! Names of sockets.

use nix::errno::Errno;
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

/// The peer's name; `None` when there was none or it is of another family. Also of a peer that is gone:
/// of a connection that was reset, `getpeername(2)` says `ENOTCONN`, and `SO_PEERNAME` who it was.
pub fn peer(fd: BorrowedFd<'_>) -> Option<Name> {
    match getpeername(fd.as_raw_fd()) {
        Ok(peer) => name(&peer),
        Err(Errno::ENOTCONN) => name(&former_peer(fd)?),
        Err(_) => None,
    }
}

fn former_peer(fd: BorrowedFd<'_>) -> Option<SockaddrStorage> {
    const SO_PEERNAME: libc::c_int = 28;
    // The option wants to be asked for no more than there is, and cuts what is longer.
    let lengths = [
        size_of::<libc::sockaddr_in6>(),
        size_of::<libc::sockaddr_in>(),
    ];
    lengths.into_iter().find_map(|len| {
        // SAFETY: all zeroes is a valid sockaddr_storage.
        let mut addr: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut len = len as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `addr`, during the call.
        let done = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERNAME,
                (&raw mut addr).cast(),
                &raw mut len,
            )
        };
        // SAFETY: the address is initialised, and so long.
        let name = || unsafe { SockaddrStorage::from_raw((&raw const addr).cast(), Some(len)) };
        (done == 0).then(name).flatten()
    })
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
