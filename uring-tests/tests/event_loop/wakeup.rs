//! How a loop that sleeps is woken, and that it does sleep.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

use ringloop::driver::{Op, Park};
use ringloop::event_loop::Operation;
use ringloop::{EventLoopExt, sleep};
use uring_tests::on_both_drivers;
use uring_tests::watch::Watch;

on_both_drivers! {
    fn loop_19_very_short_sleeps_do_not_spin(kind: DriverKind) {
        let l = Watch::new(kind);
        l.run(async {
            // The last one stands for 0.1 ns: the shortest that the type can say.
            for nanos in [10_000_000, 100_000, 1_000, 10, 1] {
                sleep(Duration::from_nanos(nanos)).await.unwrap();
            }
        });
        assert!(l.iterations() <= 20, "{} iterations", l.iterations());
    }

    /// The thread calls only when the loop has gone to sleep once more, so every wake needs an armed
    /// wake-up: without one the loop hangs. (A park may also end for nothing.)
    fn loop_22_the_wake_up_is_armed_again_after_each_one(kind: DriverKind) {
        const ROUNDS: usize = 200;
        let l = Watch::new(kind);
        let (handle, mut sleeps) = (l.handle(), l.sleeps());
        let (tell, hear) = channel();
        let thread = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                sleeps.wait();
                let tell = tell.clone();
                handle.call_soon_threadsafe(move || tell.send(()).unwrap()).unwrap();
            }
        });
        let run = l.base.run_forever_setup().unwrap();
        for _ in 0..ROUNDS {
            while hear.try_recv().is_err() {
                run.run_once().unwrap();
            }
        }
        let parks = l.seen.parks();
        let slept = parks.iter().filter(|park| **park == Park::Forever);
        assert!(slept.count() >= ROUNDS);
        drop(run);
        thread.join().unwrap();
    }

    /// There is no step that processes events: a completion that a park brings resumes the task in
    /// the same iteration.
    fn loop_22_a_completion_resumes_its_task_in_the_iteration_that_reaps_it(kind: DriverKind) {
        let l = Watch::new(kind);
        let core = l.core().clone();
        let iterations = Rc::new(Cell::new(0));
        let counted = iterations.clone();
        l.run(async move {
            let before = core.iterations();
            Operation::new(core.clone(), Op::Nop).await.unwrap();
            counted.set(core.iterations() - before);
        });
        assert_eq!(iterations.get(), 1);
    }

    /// A loop with nothing to do sleeps in one park until its timer is due.
    fn sch_19_an_idle_loop_parks_once_for_a_timer(kind: DriverKind) {
        let l = Watch::new(kind);
        let me = l.event_loop();
        let timer = l.call_later(Duration::from_millis(20), move || me.stop()).unwrap();
        l.run_forever().unwrap();
        let parks = l.seen.parks();
        // More than one only where the kernel ended a wait early.
        assert!(parks.len() <= 3, "{parks:?}");
        assert!(parks.iter().all(|park| *park == Park::Until(timer.when())), "{parks:?}");
    }
}
