//! How many iterations pass from a call to the resumption of who awaits it (contract §2.4).

use std::time::Duration;

use ringloop::driver::Op;
use ringloop::event_loop::{Future as LoopFuture, Operation};
use ringloop::{EventLoopExt, get_running_loop, timeout, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::tasks::ticks;
use uring_tests::watch::Watch;

on_both_drivers! {
    fn every_hop_costs_one_iteration_and_what_is_there_none(kind: DriverKind) {
        let l = Watch::new(kind);
        let core = l.core().clone();
        l.run(async move {
            let l = get_running_loop();
            assert_eq!(ticks(&core, yield_now()).await, 1, "a yield");
            let finished: LoopFuture<()> = l.create_future();
            finished.set_result(()).unwrap();
            assert_eq!(ticks(&core, finished.wait()).await, 0, "a finished future");
            let cancelled: LoopFuture<()> = l.create_future();
            cancelled.cancel();
            assert_eq!(ticks(&core, cancelled.wait()).await, 0, "a cancelled future");
            let task = l.create_task(async {}).unwrap();
            assert_eq!(ticks(&core, task).await, 2, "a new task that returns at once");
            let task = l.create_task(async {}).unwrap();
            yield_now().await.unwrap();
            assert_eq!(ticks(&core, task).await, 0, "a finished task");
            let future = l.create_future();
            let far = future.clone();
            l.call_soon(move || far.set_result(()).unwrap()).unwrap();
            assert_eq!(ticks(&core, future.wait()).await, 2, "a future that call_soon resolves");
            let block = timeout(Duration::from_secs(1), async {});
            assert_eq!(ticks(&core, block).await, 0, "a timeout around nothing");
            let operation = Operation::new(core.clone(), Op::Nop);
            assert_eq!(ticks(&core, operation).await, 1, "an operation");
        });
    }

    /// A timer's callback runs in the iteration in which it is due, who it wakes in the next.
    fn a_timer_resumes_its_task_one_iteration_later(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        let count = l.run(async move {
            let nap = ringloop::sleep(Duration::from_nanos(1));
            ticks(&core, nap).await
        });
        assert_eq!(count, 2);
    }
}
