//! Seccomp filters, as containers have them.

use std::os::unix::process::CommandExt;

use ringloop::DriverKind;
use ringloop::ring::Cause;
use uring_tests::on_one_driver;
use uring_tests::seccomp::refuse;

use crate::{assert_does_not_start, assert_names, assert_serves, program, refused};

const ALL: [libc::c_long; 3] = [
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

fn filter(calls: &[libc::c_long], errno: i32) {
    let refuse = || refuse(calls, errno).expect("a filter may be set");
    refused(refuse, Cause::Seccomp, errno);
}

// Each runs where io_uring is not refused already.
on_one_driver! { Uring:
    fn a_filter_that_denies_is_told_from_other_causes() {
        filter(&ALL, libc::EPERM);
    }

    fn a_filter_that_knows_no_io_uring_is_told_from_other_causes() {
        filter(&ALL, libc::ENOSYS);
    }

    fn a_filter_of_the_set_up_alone_is_told_from_other_causes() {
        filter(&ALL[..1], libc::EPERM);
    }

    /// One that demands io_uring, and one that leaves the choice open.
    fn a_program_behind_a_filter_says_why_it_ends_or_serves_on_epoll() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let filtered = |driver| {
                let mut program = program(driver);
                // SAFETY: `refuse` makes system calls and allocates nothing.
                unsafe { program.pre_exec(move || refuse(&ALL, errno)) };
                program
            };
            let demanded = assert_does_not_start(filtered("uring"));
            let open = assert_serves(filtered("auto"), DriverKind::Epoll);
            for said in [demanded, open] {
                assert!(said.contains("io_uring is not available: "), "{said}");
                assert_names(&said, Cause::Seccomp);
            }
        }
    }
}
