//! A host drives the iterations itself.

use std::rc::Rc;

use ringloop::task::exit_loop;
use ringloop::{EventLoopExt, LoopError, get_running_loop, try_get_running_loop};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;
use uring_tests::tasks::exited;
use uring_tests::watch::Watch;

on_both_drivers! {
    fn loop_16_a_host_drives_set_up_iterations_and_clean_up(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        l.call_soon(order.note("first")).unwrap();
        assert!(!l.is_running());
        assert!(try_get_running_loop().is_err());
        {
            let run = l.base.run_forever_setup().unwrap();
            assert!(l.is_running() && !run.is_over());
            assert!(Rc::ptr_eq(&get_running_loop(), &l.event_loop()));
            assert_eq!(l.close().unwrap_err(), LoopError::StillRunning);
            run.run_once().unwrap();
            assert_eq!(order.take(), ["first"]);
            // The host's own work between the iterations.
            let task = l.create_task(async { ringloop::yield_now().await.unwrap() }).unwrap();
            run.run_once().unwrap();
            assert!(!task.done());
            run.run_once().unwrap();
            assert!(task.done());
            l.stop();
            assert!(run.is_over());
            // It does not wait.
            run.run_once().unwrap();
        }
        assert!(!l.is_running());
        assert_eq!(try_get_running_loop().err(), Some(LoopError::NoRunningLoop));
        // The stop ended with that run.
        assert_eq!(l.run(async { 1 }), 1);
    }

    fn loop_16_a_set_up_is_refused_like_a_run(kind: DriverKind) {
        let (l, other) = (Watch::new(kind), Watch::new(kind));
        let run = l.base.run_forever_setup().unwrap();
        assert_eq!(l.base.run_forever_setup().unwrap_err(), LoopError::AlreadyRunning);
        assert_eq!(other.base.run_forever_setup().unwrap_err(), LoopError::AnotherRunning);
        assert!(l.is_running() && !other.is_running());
        drop(run);
        drop(other.base.run_forever_setup().unwrap());
        l.close().unwrap();
        assert_eq!(l.base.run_forever_setup().unwrap_err(), LoopError::Closed);
    }

    /// A loop exit leaves the host's frame; its clean-up is a destructor.
    fn loop_16_a_loop_exit_leaves_the_hosts_run(kind: DriverKind) {
        let l = Watch::new(kind);
        l.call_soon(|| exit_loop(3)).unwrap();
        let left: i32 = exited(|| {
            let run = l.base.run_forever_setup().unwrap();
            run.run_once()
        });
        assert_eq!(left, 3);
        assert!(!l.is_running());
        assert!(try_get_running_loop().is_err());
    }
}
