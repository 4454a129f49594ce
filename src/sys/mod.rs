//! The few system calls that neither std nor nix gives safely, and the blocking thread pool.
//!
//! **Guarantees.** Every function is safe: buffers are slices, results are `io::Result`, new
//! descriptors are owned. None knows of operations, loops or tasks; anybody above may call them.

pub mod clock;
pub mod epoll;
pub mod file;
pub mod fork;
pub mod getaddrinfo;
pub mod names;
mod signal_slot;
pub mod signals;
pub mod socket;
pub mod threads;

use std::io;

/// The errno of the call that just returned `value` below zero, else `value`.
#[inline]
fn check(value: isize) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::Error::last_os_error())
}

/// A result as io_uring writes it: the count, or the negated errno.
///
/// An error without an errno counts as `EIO`; counts stand below 2^31 because the kernel moves at
/// most 2 GiB in one call.
#[inline]
pub fn to_result(outcome: io::Result<usize>) -> i32 {
    match outcome {
        Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    }
}
