//! Operations: what they own, and who adopts their results when nobody waits any more.
//!
//! **Guarantees.** An operation owns its buffers and a share of its descriptor; all memory the
//! kernel is told of stands on the heap and does not move when the operation does.
//!
//! The orphan rules (what becomes of a result whose future is gone):
//!
//! | operation | result | goes to |
//! |---|---|---|
//! | receive | bytes, end of stream | the stash of its descriptor: the next receive gets them |
//! | accept | connection | the stash of its listener: the next accept gets it; closed with the listener |
//! | open | descriptor | is closed |
//! | connect, send, write, fsync, shutdown, close, poll | effect | has happened or not; nothing to keep |

use super::buf::Buf;
use super::chunk::Gather;
use super::fd::Fd;
use super::target::Parts;
use std::ffi::CString;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

/// An operation with all it owns.
#[derive(Debug)]
pub enum Op {
    /// Completes with 0.
    Nop,
    /// Accepts one connection; the result is its descriptor.
    Accept {
        /// The listener.
        fd: Fd,
    },
    /// Accepts until an error or a cancel; each completion is one connection.
    AcceptMulti {
        /// The listener.
        fd: Fd,
    },
    /// Connects a socket. After a cancel the socket's state is undefined: close it.
    Connect {
        /// The socket.
        fd: Fd,
        /// The peer's address.
        addr: Box<SockAddr>,
    },
    /// Receives once, into `buf[..]`; the result is the count, 0 at the end of the stream.
    Recv {
        /// The socket.
        fd: Fd,
        /// Filled from its start.
        buf: Box<Buf>,
    },
    /// Receives into pool buffers until the end of the stream, an error or a cancel.
    RecvMulti {
        /// The socket.
        fd: Fd,
    },
    /// Sends the gathered chunks; the result is how many bytes the socket took.
    Send {
        /// The socket, of stream type.
        fd: Fd,
        /// What to send.
        data: Box<Gather>,
        /// Completes within the next park with what the socket took, or `-EAGAIN`; else waits
        /// until the socket takes something.
        inline: bool,
        /// The next park must not sleep, because something waits behind this send.
        urgent: bool,
    },
    /// Shuts a direction of a socket down.
    Shutdown {
        /// The socket.
        fd: Fd,
        /// Which direction.
        how: Shutdown,
    },
    /// Closes a descriptor; it is closed even if the operation is cancelled.
    Close {
        /// What to close.
        fd: Option<OwnedFd>,
    },
    /// Waits once for poll events; the result is the mask that is ready.
    Poll {
        /// The descriptor.
        fd: Fd,
        /// `POLLIN`, `POLLOUT` …
        events: u32,
    },
    /// Reports poll events until cancelled.
    PollMulti {
        /// The descriptor.
        fd: Fd,
        /// `POLLIN`, `POLLOUT` …
        events: u32,
    },
    /// Opens a file; the result is its descriptor, always close-on-exec.
    OpenAt {
        /// Path; relative ones start at the current directory.
        path: CString,
        /// `O_RDONLY` …
        flags: i32,
        /// Permissions of a file that is created: at most `0o7777`.
        mode: u16,
    },
    /// Reads at an offset; the result is the count, which may be short.
    ReadAt {
        /// The file.
        fd: Fd,
        /// What is filled.
        part: Box<FilePart>,
    },
    /// Writes at an offset; the result is the count, which may be short.
    WriteAt {
        /// The file.
        fd: Fd,
        /// What is written.
        part: Box<FilePart>,
    },
    /// Brings a file's data (and its metadata unless `data_only`) to the disk. Not ordered after
    /// writes still in flight.
    Fsync {
        /// The file.
        fd: Fd,
        /// `fdatasync` instead of `fsync`.
        data_only: bool,
    },
}

// An idle connection has one of them in the op table. What only few operations have is boxed.
const _: () = assert!(size_of::<Option<Op>>() == 24);

/// A buffer, and where in a file its bytes belong.
#[derive(Debug)]
pub struct FilePart {
    /// Read into, or written, from its start.
    pub buf: Buf,
    /// Bytes from the start of the file.
    pub offset: u64,
}

impl Op {
    /// An [`Op::Recv`].
    pub fn recv(fd: Fd, buf: impl Into<Buf>) -> Self {
        let buf = Box::new(buf.into());
        Self::Recv { fd, buf }
    }

    /// An [`Op::ReadAt`].
    pub fn read_at(fd: Fd, buf: impl Into<Buf>, offset: u64) -> Self {
        let part = Box::new(FilePart {
            buf: buf.into(),
            offset,
        });
        Self::ReadAt { fd, part }
    }

    /// An [`Op::WriteAt`].
    pub fn write_at(fd: Fd, buf: impl Into<Buf>, offset: u64) -> Self {
        let part = Box::new(FilePart {
            buf: buf.into(),
            offset,
        });
        Self::WriteAt { fd, part }
    }

    /// The name io_uring gives it, for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nop => "nop",
            Self::Accept { .. } => "accept",
            Self::AcceptMulti { .. } => "accept (multishot)",
            Self::Connect { .. } => "connect",
            Self::Recv { .. } => "recv",
            Self::RecvMulti { .. } => "recv (multishot)",
            Self::Send { .. } => "send",
            Self::Shutdown { .. } => "shutdown",
            Self::Close { .. } => "close",
            Self::Poll { .. } => "poll",
            Self::PollMulti { .. } => "poll (multishot)",
            Self::OpenAt { .. } => "openat",
            Self::ReadAt { .. } => "read",
            Self::WriteAt { .. } => "write",
            Self::Fsync { .. } => "fsync",
        }
    }

    /// Whether a result of zero or more is a new descriptor.
    pub fn yields_descriptor(&self) -> bool {
        matches!(
            self,
            Self::Accept { .. } | Self::AcceptMulti { .. } | Self::OpenAt { .. }
        )
    }

    /// The descriptor that the operation takes bytes or connections from.
    #[inline]
    pub(super) fn takes(&self) -> Option<&Fd> {
        match self {
            Self::Recv { fd, .. }
            | Self::RecvMulti { fd }
            | Self::Accept { fd }
            | Self::AcceptMulti { fd } => Some(fd),
            _ => None,
        }
    }

    /// The descriptor the operation works on.
    pub fn fd(&self) -> Option<&Fd> {
        match self {
            Self::Nop | Self::Close { .. } | Self::OpenAt { .. } => None,
            Self::Accept { fd }
            | Self::AcceptMulti { fd }
            | Self::Connect { fd, .. }
            | Self::Recv { fd, .. }
            | Self::RecvMulti { fd }
            | Self::Send { fd, .. }
            | Self::Shutdown { fd, .. }
            | Self::Poll { fd, .. }
            | Self::PollMulti { fd, .. }
            | Self::ReadAt { fd, .. }
            | Self::WriteAt { fd, .. }
            | Self::Fsync { fd, .. } => Some(fd),
        }
    }

    /// Applies the orphan rule to one result and what it owns; see the module.
    pub(super) fn adopt(&self, result: i32, parts: Parts) {
        match self {
            Self::RecvMulti { fd } => match parts.lease {
                Some(lease) => fd.stash_bytes(&lease),
                None if result == -libc::ECANCELED => {}
                None => fd.stash_end(result),
            },
            Self::Recv { fd, buf } => match usize::try_from(result) {
                // It had no room: that is no end.
                Ok(0) if buf.is_empty() => {}
                Ok(0) => fd.stash_end(0),
                Ok(n) => fd.stash_bytes_first(&buf[..n]),
                Err(_) if result == -libc::ECANCELED => {}
                Err(_) => fd.stash_end(result),
            },
            Self::Accept { fd } => {
                if let Some(connection) = parts.fd {
                    fd.stash_accepted_first(connection);
                }
            }
            Self::AcceptMulti { fd } => {
                if let Some(connection) = parts.fd {
                    fd.stash_accepted(connection);
                }
            }
            // The descriptor of an open, if any, is closed by dropping it.
            _ => drop(parts),
        }
    }
}

/// Makes the owner of a descriptor that the kernel reported.
///
/// # Safety
/// `result` must be a descriptor that the kernel just created for this completion and that nobody
/// else owns.
pub(crate) unsafe fn own(result: i32) -> OwnedFd {
    // SAFETY: the caller's contract.
    unsafe { OwnedFd::from_raw_fd(result) }
}

/// A socket address in the kernel's form: IP or Unix.
#[derive(Clone, Copy)]
pub struct SockAddr {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) len: libc::socklen_t,
}

impl std::fmt::Debug for SockAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SockAddr(family {}, {} bytes)",
            self.storage.ss_family, self.len
        )
    }
}

impl SockAddr {
    fn from_bytes(bytes: &[u8]) -> Self {
        // SAFETY: all zeroes is a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        assert!(bytes.len() <= size_of::<libc::sockaddr_storage>());
        // SAFETY: the storage is plain memory at least as long as `bytes`, asserted above.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                std::ptr::from_mut(&mut storage).cast(),
                bytes.len(),
            );
        }
        Self {
            storage,
            len: bytes.len() as libc::socklen_t,
        }
    }

    /// The address of a Unix socket at `path`; a leading NUL byte names an abstract one.
    ///
    /// # Errors
    /// `InvalidInput` when the path does not fit (107 bytes) or holds a NUL byte elsewhere.
    pub fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let path = path.as_os_str().as_bytes();
        let room = size_of::<libc::sockaddr_un>() - size_of::<libc::sa_family_t>();
        let is_abstract = path.first() == Some(&0);
        if path.is_empty() || (!is_abstract && path.contains(&0)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a Unix socket path must not be empty nor hold a NUL byte",
            ));
        }
        if path.len() + usize::from(!is_abstract) > room {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a Unix socket path may have at most {} bytes", room - 1),
            ));
        }
        let mut bytes = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes().to_vec();
        bytes.extend_from_slice(path);
        if !is_abstract {
            bytes.push(0);
        }
        Ok(Self::from_bytes(&bytes))
    }

    /// Whether it is that of a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        i32::from(self.storage.ss_family) == libc::AF_UNIX
    }

    /// The address as `connect(2)` and `bind(2)` take it.
    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        std::ptr::from_ref(&self.storage).cast()
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(addr.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_in is plain memory without padding.
                Self::from_bytes(unsafe { bytes_of(&raw) })
            }
            SocketAddr::V6(addr) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: addr.ip().octets(),
                    },
                    sin6_scope_id: addr.scope_id(),
                };
                // SAFETY: sockaddr_in6 is plain memory without padding.
                Self::from_bytes(unsafe { bytes_of(&raw) })
            }
        }
    }
}

/// # Safety
/// `T` must be plain memory without padding.
unsafe fn bytes_of<T>(value: &T) -> &[u8] {
    // SAFETY: the caller's contract; the slice borrows the value.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
