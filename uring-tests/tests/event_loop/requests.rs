//! Requests to cancel: their number, taking them back, and what they win against.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringloop::driver::Op;
use ringloop::event_loop::Operation;
use ringloop::task::{TaskState, exit_loop};
use ringloop::{Cancelled, EventLoopExt, JoinError, get_running_loop, sleep, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, exited, me};
use uring_tests::watch::Watch;

use crate::tasks::{cancelled, message, sleeper, waiter};

on_both_drivers! {
    fn can_12_every_request_is_counted_and_shows(kind: DriverKind) {
        let l = Watch::new(kind);
        let task = sleeper(&l);
        assert_eq!(task.cancelling(), 0);
        assert_eq!(task.as_ref().state(), TaskState::Pending);
        for count in 1..=3 {
            assert!(task.cancel());
            assert_eq!(task.cancelling(), count);
        }
        assert_eq!(task.as_ref().state(), TaskState::Cancelling);
        assert!(format!("{task:?}").contains("cancelling"), "{task:?}");
        l.turn();
        // It survives the end.
        assert_eq!(task.cancelling(), 3);
        assert!(!format!("{task:?}").contains("cancelling"), "{task:?}");
    }

    fn can_13_uncancel_lets_the_task_go_on_and_a_second_cancel_works(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let inner = order.clone();
        let mut task = l
            .create_task(async move {
                drop(sleep(HOUR).await.unwrap_err());
                inner.add(me().cancelling());
                inner.add(me().uncancel());
                sleep(HOUR).await
            })
            .unwrap();
        l.turn();
        task.cancel();
        l.turn();
        assert_eq!(order.take(), [1, 0]);
        assert!(!task.done());
        task.cancel_with("second");
        l.turn();
        assert_eq!(message(&mut task).as_deref(), Some("second"));
        assert_eq!(task.uncancel(), 0);
        assert_eq!(task.uncancel(), 0);
        assert!(task.cancelled());
    }

    /// A timeout as a program could write it: cancel, then take exactly that request back.
    fn can_14_a_timeout_of_cancel_and_uncancel_works(kind: DriverKind) {
        /// Whether the time was over, and what the body gave.
        async fn within<T>(
            seconds: u64,
            body: impl Future<Output = Result<T, Cancelled>>,
        ) -> (bool, Result<T, Cancelled>) {
            let (task, fired) = (me(), Rc::new(Cell::new(false)));
            let (target, note) = (task.clone(), fired.clone());
            let ring = move || {
                note.set(true);
                target.cancel();
            };
            let timer = get_running_loop()
                .call_later(Duration::from_secs(seconds), ring)
                .unwrap();
            let result = body.await;
            timer.cancel();
            // Nobody else asked for it: it is ours to take back.
            let over = fired.get() && task.uncancel() == 0 && result.is_err();
            (over, result)
        }
        let l = Watch::by_hand(kind);
        l.run(async {
            let (over, result) = within(1, sleep(HOUR)).await;
            assert!(over && result.is_err());
            drop(result);
            let (over, result) = within(5, sleep(Duration::from_secs(1))).await;
            assert!(!over && result.is_ok());
            assert_eq!(me().cancelling(), 0);
            // Both of two nested ones in turn.
            let (over, result) = within(3, async {
                let (inner, result) = within(1, sleep(HOUR)).await;
                assert!(inner);
                drop(result);
                sleep(HOUR).await
            })
            .await;
            assert!(over);
            drop(result);
            sleep(Duration::from_secs(1)).await.expect("nothing is left of them");
        });
    }

    fn can_15_uncancel_to_zero_withdraws_what_is_undelivered(kind: DriverKind) {
        let l = Watch::new(kind);
        // Before the first step, while it waits, and while it runs.
        let fresh = l.create_task(async { 1 }).unwrap();
        assert!(fresh.cancel());
        assert_eq!(fresh.uncancel(), 0);
        assert_eq!(l.run(fresh).unwrap(), 1);
        let (waiting, future) = waiter(&l);
        assert!(waiting.cancel() && waiting.cancel());
        assert_eq!(waiting.uncancel(), 1);
        assert_eq!(waiting.uncancel(), 0);
        future.set_result(2).unwrap();
        assert_eq!(l.run(waiting).unwrap().unwrap(), 2);
        let running = async {
            assert!(me().cancel());
            assert_eq!(me().uncancel(), 0);
            yield_now().await.map(|()| 3)
        };
        assert_eq!(l.run(running).unwrap(), 3);
        // One of two requests stays.
        let mut task = sleeper(&l);
        task.cancel_with("stays");
        task.cancel();
        assert_eq!(task.uncancel(), 1);
        l.turn();
        assert_eq!(message(&mut task).as_deref(), Some("stays"));
    }

    fn can_17_a_cancel_beats_a_result_that_is_there(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        // A value: it stays in the future.
        let (mut task, future) = waiter(&l);
        future.set_result(1).unwrap();
        assert!(task.cancel());
        l.turn();
        drop(cancelled(&mut task));
        assert_eq!(l.run(future.wait()).unwrap(), 1);
        // A time.
        let mut task = l.create_task(sleep(Duration::from_secs(1))).unwrap();
        l.turn();
        l.seen.advance(1_000_000_000);
        l.turn();
        assert!(!task.done() && task.cancel());
        l.turn();
        drop(cancelled(&mut task));
        // A completion.
        let core = l.core().clone();
        let mut task = l.create_task(Operation::new(core, Op::Nop)).unwrap();
        let other = task.local();
        l.turn();
        l.call_soon(move || assert!(other.cancel())).unwrap();
        l.turn();
        drop(cancelled(&mut task));
        assert_eq!(l.stats().live_operations, 0);
        // The end of a task, and a failure of it: that is reported, for nobody hears of it.
        for fails in [false, true] {
            let ends = async move {
                yield_now().await.unwrap();
                assert!(!fails, "inner");
            };
            let inner = l.create_task(ends).unwrap();
            let ended = inner.local();
            let mut outer = l.create_task(inner).unwrap();
            l.turns(2);
            // The awaiter was woken by the end of the inner one.
            assert!(ended.done() && outer.cancel());
            l.turn();
            drop(cancelled(&mut outer));
        }
        assert_eq!(l.messages(), ["Task exception was never retrieved"]);
    }

    fn can_18_of_two_cancels_the_first_message_is_delivered_once(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let inner = order.clone();
        let task = l
            .create_task(async move {
                let value = sleep(HOUR).await.unwrap_err();
                inner.add(value.message().map(str::to_owned));
                drop(value);
                yield_now().await.expect("delivered once");
            })
            .unwrap();
        l.turn();
        assert!(task.cancel_with("first") && task.cancel_with("second"));
        assert_eq!(task.cancelling(), 2);
        l.turns(2);
        assert_eq!(order.take(), [Some("first".to_owned())]);
        l.run(task).unwrap();
    }

    fn can_19_unprompted_cancellation_and_errors_under_a_request(kind: DriverKind) {
        let l = Watch::new(kind);
        let mut task = l
            .create_task(async { Err::<(), _>(Cancelled::with_message("own idea")) })
            .unwrap();
        l.turn();
        assert_eq!(task.cancelling(), 0);
        assert_eq!(message(&mut task).as_deref(), Some("own idea"));
        let mut task = l
            .create_task(async {
                me().cancel();
                panic!("own failure");
            })
            .unwrap();
        l.turn();
        let result: Option<Result<(), _>> = task.result();
        assert!(matches!(result, Some(Err(JoinError::Panicked(_)))));
        assert!(!task.cancelled());
        assert_eq!(task.cancelling(), 1);
    }

    fn abort_drops_the_body_without_polling_it(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        for waits in [true, false] {
            let held = Dropped(order.clone(), "dropped");
            let inner = order.clone();
            let mut task = l
                .create_task(async move {
                    let _held = held;
                    drop(sleep(HOUR).await);
                    inner.add("polled");
                })
                .unwrap();
            if waits {
                l.turn();
            }
            task.abort();
            task.abort();
            assert!(!task.done());
            l.turn();
            assert_eq!(order.take(), ["dropped"]);
            drop(cancelled(&mut task));
            task.abort();
            assert_eq!(task.cancelling(), 0);
        }
        l.turn();
        assert_eq!(l.stats().timers, 0);
    }

    /// The exit of a task that was asked to stop leaves the run; the task keeps its end.
    fn tsk_17_a_loop_exit_while_cleaning_up_leaves_the_loop(kind: DriverKind) {
        let l = Watch::new(kind);
        let mut task = l
            .create_task(async {
                drop(sleep(HOUR).await.unwrap_err());
                exit_loop("during clean-up")
            })
            .unwrap();
        l.turn();
        task.cancel();
        let left: &str = exited(|| l.turn());
        assert_eq!(left, "during clean-up");
        let kept: Option<Result<(), _>> = task.result();
        let Some(Err(JoinError::Panicked(payload))) = kept else {
            panic!("the exit is not kept");
        };
        assert!(ringloop::task::is_loop_exit(&*payload));
    }
}
