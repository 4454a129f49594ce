//! What only the epoll driver promises: how few calls it makes, and where it has to take care that
//! io_uring does not.
//!
//! Not on both drivers: it is about one.

mod edges;
mod ending;
mod files;
mod modes;
mod sends;
mod starving;

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

/// A Unix socket pair that keeps message boundaries.
fn message_pair() -> (OwnedFd, OwnedFd) {
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    socketpair(AddressFamily::Unix, kind, None, flags).expect("descriptors are free")
}

/// The same file under exactly this number, which no other test may use.
fn renumbered(fd: &impl AsFd, number: i32) -> OwnedFd {
    let duplicate = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(number)).expect("it is open");
    assert_eq!(duplicate, number, "the number is taken");
    // SAFETY: the descriptor was just made and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(duplicate) }
}

/// Whether the descriptor is in non-blocking mode.
fn is_nonblocking(fd: &impl AsFd) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFL).expect("it is open");
    OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
}
