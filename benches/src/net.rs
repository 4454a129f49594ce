//! Sockets of both ends, set up alike: no Nagle, one congestion control.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Congestion control of both ends: present in every kernel, and without pacing (BBR costs 1.6
/// times as much on loopback).
const CONGESTION: &[u8] = b"reno";

fn set<T>(fd: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value is live and its size is given.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (value as *const T).cast(),
            std::mem::size_of::<T>() as u32,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set_up(fd: RawFd) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32)?;
    // SAFETY: the name is live and its length is given.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            CONGESTION.as_ptr().cast(),
            CONGESTION.len() as u32,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn stream_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(ip).to_be(),
        },
        sin_zero: [0; 8],
    }
}

const ADDRESS_LENGTH: u32 = std::mem::size_of::<libc::sockaddr_in>() as u32;

/// A listener on a free port of 127.0.0.1, blocking; accepted sockets inherit its options.
pub fn listen() -> io::Result<TcpListener> {
    let socket = stream_socket()?;
    set_up(socket.as_raw_fd())?;
    let here = address(Ipv4Addr::LOCALHOST, 0);
    // SAFETY: the address is live and its length is given.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const here).cast(), ADDRESS_LENGTH) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers.
    if unsafe { libc::listen(socket.as_raw_fd(), 4096) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket.into())
}

/// Connects, blocking, from `source` (an address of the loopback network; its port is picked
/// late, so that one port can serve several destinations).
pub fn connect(source: Ipv4Addr, to: SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    let fd = socket.as_raw_fd();
    set_up(fd)?;
    if source != Ipv4Addr::LOCALHOST {
        set(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32)?;
        let here = address(source, 0);
        // SAFETY: the address is live and its length is given.
        if unsafe { libc::bind(fd, (&raw const here).cast(), ADDRESS_LENGTH) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let there = address(*to.ip(), to.port());
    loop {
        // SAFETY: the address is live and its length is given.
        if unsafe { libc::connect(fd, (&raw const there).cast(), ADDRESS_LENGTH) } == 0 {
            return Ok(socket);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}
