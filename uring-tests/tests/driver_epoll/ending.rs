//! The end of the driver, and what a forked child may not do.
//!
//! Not on both drivers: it is about one.

use std::io::Write;

use ringloop::driver::epoll::{EpollDriver, EpollOptions};
use ringloop::driver::{Completions, Driver, Op, OpTable, Park};
use uring_tests::drive::{Rig, fd, tcp_pair};
use uring_tests::{isolated, on_one_driver, open_fds};

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
            // SAFETY: the child runs only what follows, up to `_exit`; of the threads of this
            // process, which runs one test, none holds a lock that is needed here.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child == 0 {
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    in_the_child(&mut ours);
                }));
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(i32::from(ended.is_err())) };
            }
            let mut status = 0;
            // SAFETY: `status` is live.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child ended badly");
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
