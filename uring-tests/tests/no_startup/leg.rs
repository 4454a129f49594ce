//! Programs as this place has them: on the host, and in each container.

use ringloop::DriverKind;
use ringloop::ring::Cause;
use uring_tests::{Leg, on_one_driver};

use crate::{assert_does_not_start, assert_names, assert_serves, program};

on_one_driver! { Epoll:
    // Not on both drivers: a program that demands io_uring, or leaves the choice open.
    fn a_program_starts_wherever_it_may() {
        assert_eq!(assert_serves(program("epoll"), DriverKind::Epoll), "");
        let leg = Leg::current();
        if !leg.blocks_uring() {
            assert_eq!(assert_serves(program("uring"), DriverKind::Uring), "");
            assert_eq!(assert_serves(program("auto"), DriverKind::Uring), "");
            return;
        }
        let demanded = assert_does_not_start(program("uring"));
        let open = assert_serves(program("auto"), DriverKind::Epoll);
        for said in [demanded, open] {
            assert!(said.contains("io_uring is not available: "), "{said}");
            if leg.refusal().is_some() {
                assert_names(&said, Cause::Seccomp);
            }
        }
    }
}
