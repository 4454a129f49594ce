//! The end of the driver, and what a forked child may not do.
//!
//! Not on both drivers: it is about one.

use std::io::Write;

use ringloop::driver::epoll::{EpollDriver, EpollOptions};
use ringloop::driver::{Completions, Driver, Op, OpTable, Park};
use uring_tests::drive::{Rig, fd, tcp_pair};
use uring_tests::{forked, isolated, on_one_driver, open_fds};

on_one_driver! { Epoll:
    fn a_driver_that_was_shut_down_holds_no_epoll_instance() {
        isolated(|| {
            let before = open_fds();
            let mut driver = EpollDriver::new(EpollOptions::default()).unwrap();
            // The instance, and the eventfd, which whoever may end a park holds too.
            assert_eq!(open_fds(), before + 2);
            driver.shut_down(0);
            assert_eq!(open_fds(), before + 1);
            let parked = driver.park(&mut OpTable::new(), Park::Forever, &mut Completions::new());
            assert_eq!(parked.unwrap_err().raw_os_error(), Some(libc::ESHUTDOWN));
            drop(driver);
            assert_eq!(open_fds(), before);
        });
    }

    /// In a forked child neither a park nor a drop takes an edge of the parent's.
    fn a_forked_child_leaves_the_instance_alone() {
        isolated(|| {
            let mut ours = Rig::from(EpollOptions::default());
            let (mut near, far) = tcp_pair().unwrap();
            let key = ours.submit(Op::RecvMulti { fd: fd(far) });
            ours.poll();
            near.write_all(b"before the fork").unwrap();
            forked(|| in_the_child(&mut ours));
            assert_eq!(ours.receive(key, 15), b"before the fork");
            ours.close();
        });
    }
}

/// What a loop of the parent would do when the child ends it.
fn in_the_child(rig: &mut Rig) {
    rig.submit(Op::Nop);
    assert!(!rig.driver().wants_poll());
    assert!(rig.engine.turn(Park::Forever).is_err());
    assert_eq!(rig.engine.close(1_000_000_000).len(), 2);
}
