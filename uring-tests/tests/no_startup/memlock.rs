//! A limit on locked memory that leaves nothing for a ring.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use ringloop::DriverKind;
use ringloop::ring::Cause;
use uring_tests::on_one_driver;

use crate::{assert_does_not_start, assert_names, assert_serves, program};

/// `CAP_IPC_LOCK`: who has it is not limited.
const IPC_LOCK: libc::c_ulong = 14;

/// Allows no locked memory to what is executed next.
fn allow_nothing() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: takes numbers, and a limit that lives during the call. Who may not give the capability
    // up is not privileged, and does not have it.
    let done = unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, IPC_LOCK, 0, 0, 0);
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn without_memory(driver: &str) -> Command {
    let mut program = program(driver);
    // SAFETY: two system calls, and nothing is allocated.
    unsafe { program.pre_exec(allow_nothing) };
    program
}

/// Before Linux 6.14 a ring is not locked memory.
fn is_limited() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    (next().unwrap_or(0), next().unwrap_or(0)) >= (6, 14)
}

on_one_driver! { Uring:
    // Not on both drivers: a program that demands io_uring, or leaves the choice open.
    fn a_limit_on_locked_memory_is_told_from_other_causes() {
        if !is_limited() {
            println!("this kernel does not count rings as locked memory");
            assert_serves(without_memory("uring"), DriverKind::Uring);
            return;
        }
        let demanded = assert_does_not_start(without_memory("uring"));
        assert!(demanded.contains("RLIMIT_MEMLOCK is 0 KiB"), "{demanded}");
        let open = assert_serves(without_memory("auto"), DriverKind::Epoll);
        for said in [demanded, open] {
            assert!(said.contains("io_uring is not available: "), "{said}");
            assert_names(&said, Cause::Memlock);
        }
    }
}
