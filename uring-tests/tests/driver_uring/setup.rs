//! The rungs of set-up, forced off one by one.
//!
//! Not on both drivers: it is about one.

use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringloop::driver::uring::{UringDriver, UringOptions};
use ringloop::driver::{Driver, DriverKind, Op, Park};
use uring_tests::drive::{Rig, fd};
use uring_tests::on_one_driver;
use uring_tests::{Leg, isolated, with_rig};

use crate::exercise;

fn all() -> UringOptions {
    UringOptions::default()
}

fn none() -> UringOptions {
    UringOptions {
        no_sqarray: false,
        registered_fd: false,
        no_iowait: false,
        absolute_timeouts: false,
        inline_sends: false,
        multishot_receive: false,
        multishot_accept: false,
        ..all()
    }
}

/// The line of the report that begins so.
#[track_caller]
fn line(report: &str, start: &str) -> String {
    report
        .lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no line {start:?} in\n{report}"))
        .to_owned()
}

with_rig! { Uring:
    fn what_was_chosen_can_be_read(rig = all()) {
        let report = rig.driver().report();
        println!("{report}");
        assert_eq!(rig.driver().kind(), DriverKind::Uring);
        assert_eq!(report.lines().next(), Some("driver: io_uring"));
        for start in [
            "queues:", "flags:", "NO_SQARRAY:", "registered ring descriptor:", "NO_IOWAIT:",
            "absolute timeouts:", "workers:", "receive buffers:", "multishot receive:",
            "inline sends:", "multishot accept:",
        ] {
            line(&report, start);
        }
        exercise(rig);
    }

    fn without_no_sqarray(rig = UringOptions { no_sqarray: false, ..all() }) {
        assert_eq!(line(&rig.driver().report(), "NO_SQARRAY"), "NO_SQARRAY: no (switched off)");
        exercise(rig);
    }

    fn without_a_registered_descriptor(rig = UringOptions { registered_fd: false, ..all() }) {
        let line = line(&rig.driver().report(), "registered ring");
        assert_eq!(line, "registered ring descriptor: no (switched off)");
        exercise(rig);
    }

    fn without_no_iowait(rig = UringOptions { no_iowait: false, ..all() }) {
        assert_eq!(line(&rig.driver().report(), "NO_IOWAIT"), "NO_IOWAIT: no (switched off)");
        exercise(rig);
    }

    fn without_absolute_timeouts(rig = UringOptions { absolute_timeouts: false, ..all() }) {
        let line = line(&rig.driver().report(), "absolute");
        assert_eq!(line, "absolute timeouts: no (switched off)");
        let end = rig.driver().now() + 3_000_000;
        while rig.driver().now() < end {
            rig.park(Park::Until(end));
        }
        // In the past: does not wait at all.
        rig.park(Park::Until(end));
        exercise(rig);
    }

    fn without_inline_sends(rig = UringOptions { inline_sends: false, ..all() }) {
        let line = line(&rig.driver().report(), "inline sends");
        assert_eq!(
            line,
            "inline sends: no, every send asks for its completion (switched off)"
        );
        // The completion of such a send ends the wait by itself.
        let (_peer, ours) = UnixStream::pair().unwrap();
        let ours = fd(ours);
        let sent = rig.submit(uring_tests::drive::send(&ours, *b"x", true));
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.result(sent), 1);
        exercise(rig);
    }

    fn without_multishot_receives(rig = UringOptions { multishot_receive: false, ..all() }) {
        let line = line(&rig.driver().report(), "multishot receive");
        assert_eq!(line, "multishot receive: no (switched off)");
        exercise(rig);
        assert_eq!(rig.driver().counters().rearmed, 0, "armed once for each");
    }

    fn without_anything_optional(rig = none()) {
        exercise(rig);
    }

    fn odd_sizes_are_rounded(rig = UringOptions { sq_entries: 3, cq_entries: 5, ..all() }) {
        let line = line(&rig.driver().report(), "queues");
        assert_eq!(line, "queues: 4 submissions, 8 completions");
        exercise(rig);
    }

    fn absurd_sizes_are_clamped(rig = UringOptions {
        sq_entries: 0,
        cq_entries: 0,
        buffers: 0,
        ..all()
    }) {
        println!("{}", rig.driver().report());
        exercise(rig);
    }
}

on_one_driver! { Uring:
    /// A thread has 16 slots for registered rings: the next ring does without, and a ring that is
    /// dropped gives its slot back.
    fn registered_descriptors_run_out_and_come_back() {
        let small = || UringOptions {
            sq_entries: 8,
            cq_entries: 16,
            buffers: 1,
            ..all()
        };
        let registered =
            |driver: &UringDriver| line(&driver.report(), "registered ring").ends_with(": yes");
        for _ in 0..2 {
            let mut drivers: Vec<UringDriver> = Vec::new();
            while drivers.len() < 17 {
                match UringDriver::new(small()) {
                    Ok(driver) => drivers.push(driver),
                    // So many rings do not fit into little locked memory, and the error says so.
                    Err(error) => {
                        assert_eq!(Leg::current(), Leg::Memlock, "{error}");
                        let text = error.to_string();
                        assert!(text.contains("per user, all processes together"), "{text}");
                        break;
                    }
                }
            }
            let with: Vec<bool> = drivers.iter().map(registered).collect();
            let expected: Vec<bool> = (0..drivers.len()).map(|number| number < 16).collect();
            assert_eq!(with, expected);
            for driver in &mut drivers {
                driver.shut_down(0);
            }
            exercise(&mut Rig::from(small()));
        }
    }

    /// Without descriptors there is neither a ring nor a socketpair to probe it with, whichever comes
    /// first; the error says so and nothing stays open.
    fn a_start_without_descriptors_fails_cleanly() {
        isolated(|| {
            let before = uring_tests::open_fds();
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let limit = |soft| setrlimit(Resource::RLIMIT_NOFILE, soft, most).unwrap();
            let mut failed = 0;
            for spare in 0.. {
                limit(before as u64 + spare);
                let driver = UringDriver::new(all());
                limit(most);
                match driver {
                    Ok(mut driver) => {
                        driver.shut_down(0);
                        break;
                    }
                    Err(error) => {
                        failed += 1;
                        let text = error.to_string();
                        let emfile = error.raw_os_error() == Some(libc::EMFILE);
                        assert!(emfile || text.contains("RLIMIT_NOFILE"), "{text}");
                    }
                }
                assert_eq!(uring_tests::open_fds(), before);
            }
            assert!(failed > 0);
            assert_eq!(uring_tests::open_fds(), before);
        });
    }

    /// Nothing but the ring itself is needed to start, and both drivers of one thread work.
    fn two_drivers_on_one_thread() {
        // Small enough for both to fit where little memory may be locked.
        let small = |options| UringOptions {
            sq_entries: 64,
            cq_entries: 256,
            buffers: 64,
            ..options
        };
        let (mut one, mut two) = (Rig::from(small(all())), Rig::from(small(none())));
        assert_eq!(one.run(Op::Nop).result, 0);
        assert_eq!(two.run(Op::Nop).result, 0);
        exercise(&mut one);
        exercise(&mut two);
    }
}
