//! File calls for a thread that is not the descriptor's owner.
//!
//! nix and std ask for a borrow of the descriptor, which can not be sent to another thread without
//! its owner. These take the number; whoever calls them keeps the descriptor open meanwhile.

use super::check;
use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `openat(2)` relative to the current directory, always close-on-exec.
///
/// # Errors
/// Those of the call.
pub fn open(path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: the path ends with NUL and is only read, during the call.
    let fd = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    check(fd as isize)?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `pread(2)`.
///
/// # Errors
/// Those of the call.
pub fn read_at(fd: RawFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    // SAFETY: the kernel writes at most the slice's length, during the call.
    check(unsafe { libc::pread64(fd, buf.as_mut_ptr().cast(), buf.len(), offset as i64) })
}

/// `pwrite(2)`.
///
/// # Errors
/// Those of the call.
pub fn write_at(fd: RawFd, buf: &[u8], offset: u64) -> io::Result<usize> {
    // SAFETY: the kernel only reads the slice, during the call.
    check(unsafe { libc::pwrite64(fd, buf.as_ptr().cast(), buf.len(), offset as i64) })
}

/// `fsync(2)`, or `fdatasync(2)`.
///
/// # Errors
/// Those of the call.
pub fn sync(fd: RawFd, data_only: bool) -> io::Result<usize> {
    // SAFETY: takes no pointer.
    let done = unsafe {
        if data_only {
            libc::fdatasync(fd)
        } else {
            libc::fsync(fd)
        }
    };
    check(done as isize)
}
