//! Parking: until when, and who ends it.

use ringloop::driver::{Op, Park};
use uring_tests::drive::Rig;
use uring_tests::on_both_drivers;

on_both_drivers! {
    fn an_unpark_before_the_park_ends_it(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let unparker = rig.driver().unparker();
        for _ in 0..10 {
            unparker.unpark();
            unparker.unpark();
            assert_eq!(rig.park(Park::Forever), 0);
        }
    }

    fn an_unpark_from_another_thread_ends_the_park(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for _ in 0..100 {
            let unparker = rig.driver().unparker();
            let other = std::thread::spawn(move || unparker.unpark());
            rig.park(Park::Forever);
            other.join().unwrap();
        }
    }

    fn an_unpark_after_the_end_is_harmless(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let unparker = rig.driver().unparker();
        rig.close();
        unparker.unpark();
        drop(rig);
        unparker.unpark();
    }

    fn a_deadline_ends_the_park_and_not_before(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for wait in [0, 1, 1000, 1_000_000, 10_000_000] {
            let end = rig.driver().now() + wait;
            // Nothing else happens, so that a park which ends early would have to be repeated.
            let mut parks = 0;
            while rig.driver().now() < end {
                assert_eq!(rig.park(Park::Until(end)), 0);
                parks += 1;
            }
            assert!(parks <= 2, "{parks} parks for {wait} ns");
        }
        // In the past.
        let past = rig.driver().now().saturating_sub(1_000_000_000);
        assert_eq!(rig.park(Park::Until(past)), 0);
        assert_eq!(rig.park(Park::Until(0)), 0);
        // Beyond what a timespec holds, but something ends it.
        rig.driver().unparker().unpark();
        assert_eq!(rig.park(Park::Until(u64::MAX)), 0);
    }

    fn completions_of_many_operations_come_in_order(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let keys: Vec<_> = (0..1000).map(|_| rig.submit(Op::Nop)).collect();
        let mut seen = Vec::new();
        while seen.len() < keys.len() {
            rig.park(Park::Forever);
            seen.extend(rig.take_all().into_iter().map(|event| event.key));
        }
        assert_eq!(seen, keys);
        rig.settle();
        assert!(!rig.driver().wants_poll());
    }
}
