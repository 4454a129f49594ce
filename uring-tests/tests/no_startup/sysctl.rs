//! The sysctl `kernel.io_uring_disabled`.
//!
//! It belongs to the whole machine, so it is not set here. What a process sees of it is two things,
//! which are both brought about at the boundary to the kernel: `io_uring_setup` answers `EPERM` while
//! `io_uring_enter` works as ever, and a file holds the value.

use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicU8, Ordering};

use ringloop::ring::Cause;
use uring_tests::on_one_driver;
use uring_tests::seccomp::refuse;

use crate::refused;

const FILE: &CStr = c"/proc/sys/kernel/io_uring_disabled";

/// What the file holds instead; 0: what it holds.
static VALUE: AtomicU8 = AtomicU8::new(0);

/// Stands in for the C library's function in this program, by which the standard library opens files.
///
/// # Safety
/// As `open(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    let value = VALUE.load(Ordering::Relaxed);
    // SAFETY: the caller gives a path.
    if value != 0 && unsafe { CStr::from_ptr(path) } == FILE {
        let text = [value, b'\n'];
        // SAFETY: a name, and two bytes that are read during the call.
        return unsafe {
            let file = libc::memfd_create(c"io_uring_disabled".as_ptr(), libc::MFD_CLOEXEC);
            assert_eq!(libc::pwrite(file, text.as_ptr().cast(), 2, 0), 2);
            file
        };
    }
    // SAFETY: the caller's contract.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

fn disabled(value: u8) {
    let refuse = || {
        VALUE.store(value, Ordering::Relaxed);
        let path = FILE.to_str().expect("ASCII");
        let text = std::fs::read_to_string(path).expect("it is simulated");
        assert_eq!(text.as_bytes(), [value, b'\n'], "the simulation works");
        refuse(&[libc::SYS_io_uring_setup], libc::EPERM).expect("a filter may be set");
    };
    refused(refuse, Cause::Sysctl, libc::EPERM);
}

on_one_driver! { Uring:
    // Not on both drivers: io_uring is refused, and epoll taken.
    fn the_sysctl_for_the_unprivileged_is_told_from_other_causes() {
        disabled(b'1');
    }

    // Not on both drivers: as above.
    fn the_sysctl_for_everybody_is_told_from_other_causes() {
        disabled(b'2');
    }
}
