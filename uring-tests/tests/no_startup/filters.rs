//! Seccomp filters, as containers have them.

use ringloop::DriverKind;
use ringloop::ring::Cause;
use uring_tests::run_variant;
use uring_tests::seccomp::refuse;

use crate::refused;

const ALL: [libc::c_long; 3] = [
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Each runs where io_uring is not refused already.
fn filtered(name: &str, body: fn(DriverKind)) {
    run_variant(
        &format!("no_startup::filters::{name}"),
        DriverKind::Uring,
        body,
    );
}

fn filter(calls: &[libc::c_long], errno: i32) {
    let refuse = || refuse(calls, errno).expect("a filter may be set");
    refused(refuse, Cause::Seccomp, errno);
}

// Not on both drivers: io_uring is refused, and epoll taken.
#[test]
fn a_filter_that_denies_is_told_from_other_causes() {
    filtered("a_filter_that_denies_is_told_from_other_causes", |_| {
        filter(&ALL, libc::EPERM);
    });
}

// Not on both drivers: as above.
#[test]
fn a_filter_that_knows_no_io_uring_is_told_from_other_causes() {
    filtered(
        "a_filter_that_knows_no_io_uring_is_told_from_other_causes",
        |_| {
            filter(&ALL, libc::ENOSYS);
        },
    );
}

// Not on both drivers: as above.
#[test]
fn a_filter_of_the_set_up_alone_is_told_from_other_causes() {
    filtered(
        "a_filter_of_the_set_up_alone_is_told_from_other_causes",
        |_| {
            filter(&ALL[..1], libc::EPERM);
        },
    );
}
