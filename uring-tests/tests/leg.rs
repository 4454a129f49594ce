//! The container leg is what its name says; a leg that blocks nothing, or too much, fails here.

use nix::sys::resource::{Resource, getrlimit};
use uring_tests::{Leg, isolated, on_both_drivers, open_fds, raw_uring_setup};

/// The soft limit of locked memory, in bytes.
fn memlock_limit() -> u64 {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).expect("there is a limit");
    soft
}

// Not on both drivers: asks the kernel itself.
#[test]
fn leg_is_what_it_says() {
    let leg = Leg::current();
    println!("leg: {leg:?}");
    let small = raw_uring_setup(8);
    match leg {
        // A machine without io_uring must say so, or the suite would demand it in vain.
        Leg::Host if leg.blocks_uring() => assert!(small.is_err(), "io_uring is not blocked"),
        Leg::Host | Leg::Allowed => small.expect("io_uring is allowed here"),
        Leg::BlockedEnosys | Leg::BlockedEperm => {
            let error = small.expect_err("the profile must refuse io_uring");
            assert_eq!(error.raw_os_error(), leg.refusal(), "{error}");
        }
        Leg::Memlock => {
            assert_eq!(memlock_limit(), 64 * 1024);
            let large = raw_uring_setup(4096).expect_err("4096 entries exceed 64 KiB");
            assert_eq!(large.raw_os_error(), Some(libc::ENOMEM), "{large}");
        }
    }
    if leg != Leg::Host {
        let inside = !std::path::Path::new("/root").exists();
        assert!(inside, "this is not the container's root directory");
    }
}

on_both_drivers! {
    /// A test binary can start itself again, also inside a container, and is alone there.
    fn a_test_can_have_a_process_of_its_own(_kind: DriverKind) {
        isolated(|| {
            let before = open_fds();
            let file = std::fs::File::open("/proc/self/stat").expect("/proc is mounted");
            assert_eq!(open_fds(), before + 1);
            drop(file);
            assert_eq!(open_fds(), before);
        });
    }
}
