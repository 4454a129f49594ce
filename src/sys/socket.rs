//! Socket calls that never block, whatever mode the descriptor is in.
//!
//! Receives and sends pass `MSG_DONTWAIT`, so a descriptor may stay in blocking mode, as io_uring
//! prefers it. `accept4(2)` and `connect(2)` know no such flag: see there.

use super::check;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Receives what is there.
///
/// # Errors
/// `WouldBlock`: nothing is there; else those of `recv(2)`.
#[inline]
pub fn recv(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most the slice's length, during the call.
    check(unsafe {
        libc::recv(
            fd.as_fd().as_raw_fd(),
            buf.as_mut_ptr().cast(),
            buf.len(),
            libc::MSG_DONTWAIT,
        )
    })
}

/// Receives what is there, and says whether control data came with it, which is discarded: on a
/// Unix socket such data ends a receive early although more bytes may be there.
///
/// # Errors
/// As [`recv`].
pub fn recv_with_control(fd: impl AsFd, buf: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut vector = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: all zeroes is a valid msghdr (null pointers with zero lengths).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    // SAFETY: header and vector live during the call, which writes at most the slice's length.
    let count = check(unsafe {
        libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT)
    })?;
    Ok((count, header.msg_flags & libc::MSG_CTRUNC != 0))
}

/// Sends what the socket takes; a dead peer is an error, not a signal.
///
/// # Errors
/// `WouldBlock`: it takes nothing; else those of `send(2)`.
#[inline]
pub fn send(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel only reads the slice, during the call.
    check(unsafe {
        libc::send(
            fd.as_fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    })
}

/// Accepts a connection, close-on-exec and in blocking mode. Blocks unless the listener is in
/// non-blocking mode.
///
/// # Errors
/// `WouldBlock`: none is there; else those of `accept4(2)`.
pub fn accept(fd: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: null pointers: the peer's address is not asked for.
    let accepted = unsafe {
        libc::accept4(
            fd.as_fd().as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    };
    check(accepted as isize)?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

/// Starts to connect. Blocks unless the socket is in non-blocking mode.
///
/// # Errors
/// `EINPROGRESS`: the handshake goes on, the socket becomes writable when it ends; else those of
/// `connect(2)`. `InvalidInput`: `len` exceeds the storage.
pub fn connect(
    fd: impl AsFd,
    addr: &libc::sockaddr_storage,
    len: libc::socklen_t,
) -> io::Result<()> {
    if len as usize > size_of::<libc::sockaddr_storage>() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the kernel reads `len` bytes of the address, checked above, during the call.
    let done =
        unsafe { libc::connect(fd.as_fd().as_raw_fd(), std::ptr::from_ref(addr).cast(), len) };
    check(done as isize).map(drop)
}

/// Starts to connect, whatever mode the socket is in, and leaves it in that mode: a handshake goes on
/// by itself.
///
/// # Errors
/// As [`connect`]; `WouldBlock`: the backlog of a Unix listener is full.
pub fn connect_now(
    fd: impl AsFd,
    addr: &libc::sockaddr_storage,
    len: libc::socklen_t,
) -> io::Result<()> {
    let changed = set_nonblocking(&fd, true)?;
    let outcome = connect(&fd, addr, len);
    if changed {
        set_nonblocking(&fd, false)?;
    }
    outcome
}

/// Shuts a direction down.
///
/// # Errors
/// Those of `shutdown(2)`.
pub fn shutdown(fd: impl AsFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes no pointer.
    check(unsafe { libc::shutdown(fd.as_fd().as_raw_fd(), how) } as isize).map(drop)
}

/// A socket option that is one integer.
///
/// # Errors
/// Those of `getsockopt(2)`; `ENOTSOCK`: the descriptor is no socket.
pub fn option(fd: impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, during the call.
    let done = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    check(done as isize).map(|_| value)
}

/// Which poll events out of `events` (and always `POLLERR`, `POLLHUP`) hold at this moment.
///
/// # Errors
/// Those of `poll(2)`: `ENOMEM`.
pub fn poll_now(fd: impl AsFd, events: u32) -> io::Result<u32> {
    let mut entry = libc::pollfd {
        fd: fd.as_fd().as_raw_fd(),
        events: events as i16,
        revents: 0,
    };
    // SAFETY: one entry, written during the call. With a timeout of 0 nothing is waited for.
    let done = unsafe { libc::poll(&raw mut entry, 1, 0) };
    check(done as isize).map(|_| u32::from(entry.revents as u16))
}

/// Puts a descriptor into non-blocking mode (or out of it); whether it was in the other mode.
///
/// # Errors
/// Those of `fcntl(2)`.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<bool> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: takes no pointer.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) } as isize)? as i32;
    let wanted = if nonblocking {
        flags | libc::O_NONBLOCK
    } else {
        flags & !libc::O_NONBLOCK
    };
    if wanted == flags {
        return Ok(false);
    }
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, wanted) } as isize).map(|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn blocking_sockets_do_not_block() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut buf = [0; 8];
        let error = recv(&far, &mut buf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        near.write_all(b"abc").unwrap();
        assert_eq!(recv_with_control(&far, &mut buf).unwrap(), (3, false));
        while send(&far, &[0; 4096]).is_ok() {}
        let error = send(&far, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(near);
        let error = send(&far, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn control_data_is_told() {
        use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
        let (near, far) = UnixStream::pair().unwrap();
        let fds = [near.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        let data = [std::io::IoSlice::new(b"with")];
        sendmsg::<()>(near.as_raw_fd(), &data, &control, MsgFlags::empty(), None).unwrap();
        (&near).write_all(b"without").unwrap();
        let mut buf = [0; 32];
        assert_eq!(recv_with_control(&far, &mut buf).unwrap(), (4, true));
        assert_eq!(recv_with_control(&far, &mut buf).unwrap(), (7, false));
    }

    #[test]
    fn the_mode_is_told() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(set_nonblocking(&near, true).unwrap());
        assert!(!set_nonblocking(&near, true).unwrap());
        assert!(set_nonblocking(&near, false).unwrap());
        let out = poll_now(&near, (libc::POLLIN | libc::POLLOUT) as u32).unwrap();
        assert_eq!(out, libc::POLLOUT as u32);
    }
}
