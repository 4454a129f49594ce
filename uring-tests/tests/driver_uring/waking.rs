//! Parking and waking: what only this driver must take care of.
//!
//! Not on both drivers: it is about one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringloop::driver::uring::UringOptions;
use ringloop::driver::{Op, Park};
use uring_tests::drive::{fd, tcp_pair};
use uring_tests::signals::Storm;
use uring_tests::with_rig;

fn options() -> UringOptions {
    UringOptions::default()
}

with_rig! { Uring:
    /// Two threads wake as fast as they can; the loop sleeps whenever it has seen everything.
    fn no_wake_is_lost(rig = options()) {
        const WAKES: u64 = 100_000;
        let posted = Arc::new(AtomicU64::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (posted, unparker) = (posted.clone(), rig.driver().unparker());
                std::thread::spawn(move || {
                    for _ in 0..WAKES {
                        posted.fetch_add(1, Ordering::SeqCst);
                        unparker.unpark();
                    }
                })
            })
            .collect();
        // A lost wake would leave it asleep for ever.
        while posted.load(Ordering::SeqCst) < 2 * WAKES {
            rig.park(Park::Forever);
        }
        for other in others {
            other.join().unwrap();
        }
    }

    fn wakes_that_nobody_saw_cost_one_write(rig = options()) {
        let unparker = rig.driver().unparker();
        for _ in 0..1000 {
            unparker.unpark();
        }
        let before = rig.driver().counters().completed;
        rig.park(Park::Forever);
        assert_eq!(rig.driver().counters().completed, before + 1);
        rig.settle();
        assert_eq!(rig.driver().counters().completed, before + 1);
    }

    fn a_signal_ends_the_wait_without_an_error(rig = options()) {
        let _storm = Storm::begin();
        // Both with and without something submitted (the kernel answers differently: trap T14).
        for round in 0..100 {
            if round % 2 == 0 {
                assert_eq!(rig.park(Park::Forever), 0);
            } else {
                let (_near, far) = tcp_pair().unwrap();
                let key = rig.submit(Op::RecvMulti { fd: fd(far) });
                assert_eq!(rig.park(Park::Forever), 0);
                rig.cancel(key);
                assert_eq!(rig.result(key), -libc::ECANCELED);
            }
        }
    }

    /// Trap T13: a wait with an unpublished head returns at once, for ever.
    fn waiting_does_not_spin(rig = options()) {
        assert_eq!(rig.run(Op::Nop).result, 0);
        rig.settle();
        let before = rig.driver().counters().enters;
        let end = rig.driver().now() + 20_000_000;
        while rig.driver().now() < end {
            rig.park(Park::Until(end));
        }
        // One that waits, and one in case a clock's rounding ends it early.
        assert!(rig.driver().counters().enters - before <= 2);
    }
}
