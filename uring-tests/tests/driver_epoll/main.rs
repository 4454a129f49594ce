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

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A Unix socket pair that keeps message boundaries.
fn message_pair() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: the call writes two descriptors.
    let done = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        )
    };
    assert_eq!(done, 0);
    // SAFETY: the descriptors were just made and nobody else knows them.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

/// The same file under exactly this number, which no other test may use.
fn renumbered(fd: &impl AsRawFd, number: i32) -> OwnedFd {
    // SAFETY: takes no pointer.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) };
    assert_eq!(duplicate, number, "the number is taken");
    // SAFETY: the descriptor was just made and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(duplicate) }
}

/// Whether the descriptor is in non-blocking mode.
fn is_nonblocking(fd: &impl AsRawFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    assert!(flags >= 0);
    flags & libc::O_NONBLOCK != 0
}
