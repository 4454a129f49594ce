//! Cancellation of tasks: requests, their delivery, their count.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringloop::driver::Op;
use ringloop::event_loop::Operation;
use ringloop::task::WaitsFor;
use ringloop::{Cancelled, EventLoopExt, JoinError, RunError, get_running_loop, sleep, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, me};
use uring_tests::watch::Watch;

use crate::tasks::{cancelled, message, sleeper, waiter};

on_both_drivers! {
    fn can_01_a_sleeping_task_is_cancelled(kind: DriverKind) {
        let l = Watch::new(kind);
        let mut task = sleeper(&l);
        assert!(task.cancel());
        assert!(!task.done() && !task.cancelled());
        l.turn();
        assert!(task.done() && task.cancelled());
        assert!(!task.cancel());
        assert_eq!(task.cancelling(), 1);
        assert_eq!(message(&mut task), None);
    }

    fn can_02_a_task_is_cancelled_at_a_bare_yield(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let inner = order.clone();
        let mut task = l
            .create_task(async move {
                inner.add("before");
                yield_now().await?;
                inner.add("after");
                Ok::<_, Cancelled>(())
            })
            .unwrap();
        l.turn();
        task.cancel();
        l.turns(2);
        drop(cancelled(&mut task));
        assert_eq!(order.take(), ["before"]);
    }

    fn can_03_cancelling_what_is_awaited_cancels_the_task(kind: DriverKind) {
        let l = Watch::new(kind);
        let (mut task, future) = waiter(&l);
        assert!(future.cancel());
        l.turn();
        assert_eq!(task.cancelling(), 0);
        drop(cancelled(&mut task));
        // A task that is awaited, by a third party.
        let inner = sleeper(&l);
        let local = inner.local();
        let mut outer = l.create_task(async move { inner.await.map(drop) }).unwrap();
        l.turn();
        assert!(local.cancel_with("third party"));
        l.turns(2);
        assert_eq!(outer.cancelling(), 0);
        assert_eq!(message(&mut outer).as_deref(), Some("third party"));
        // Both.
        let (mut task, future) = waiter(&l);
        assert!(task.cancel());
        future.cancel();
        l.turn();
        assert_eq!(task.cancelling(), 1);
        drop(cancelled(&mut task));
    }

    fn can_04_a_task_may_catch_it_and_return_or_go_on(kind: DriverKind) {
        let l = Watch::new(kind);
        let (first, second) = (l.create_future::<i32>(), l.create_future::<i32>());
        let (one, two) = (first.wait(), second.wait());
        let catching = l
            .create_task(async move { if one.await.is_err() { 42 } else { 0 } })
            .unwrap();
        let ignoring = l
            .create_task(async move {
                drop(sleep(HOUR).await.expect_err("cancelled"));
                two.await.expect("a request is delivered once")
            })
            .unwrap();
        l.turn();
        assert!(catching.cancel() && ignoring.cancel());
        l.turns(2);
        assert!(catching.done() && !catching.cancelled());
        assert!(!ignoring.done());
        second.set_result(12).unwrap();
        l.turn();
        assert_eq!(l.run(async { (catching.await.unwrap(), ignoring.await.unwrap()) }), (42, 12));
    }

    /// Clean-up on the way out may wait: for time, for a task, for an operation.
    fn can_04_clean_up_may_await(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        let (inner, core) = (order.clone(), l.core().clone());
        let task = l
            .create_task(async move {
                let cancelled = sleep(HOUR).await.unwrap_err();
                inner.add("asked to stop");
                sleep(Duration::from_secs(1)).await.expect("time");
                let child = get_running_loop().create_task(async { 1 }).unwrap();
                assert_eq!(child.await.expect("a task"), 1);
                let done = Operation::new(core, Op::Nop).await.expect("an operation");
                assert_eq!(done.result, 0);
                inner.add("cleaned up");
                Err::<(), _>(cancelled)
            })
            .unwrap();
        l.turn();
        task.cancel_with("shutdown");
        let Err(RunError::Task(JoinError::Cancelled(value))) = l.run_until_complete(task) else {
            panic!("not cancelled");
        };
        assert_eq!(value.message(), Some("shutdown"));
        assert_eq!(order.take(), ["asked to stop", "cleaned up"]);
    }

    fn can_05_a_task_that_cancels_itself_hears_at_its_next_suspension(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let (inner, done) = (order.clone(), l.create_future());
        done.set_result(1).unwrap();
        let mut task = l
            .create_task(async move {
                assert!(me().cancel());
                // What is there already does not suspend.
                inner.add(done.wait().await.expect("no suspension"));
                sleep(HOUR).await?;
                inner.add(2);
                Ok::<_, Cancelled>(())
            })
            .unwrap();
        l.turn();
        drop(cancelled(&mut task));
        assert_eq!(order.take(), [1]);
    }

    fn can_06_a_cancel_during_the_last_step_beats_the_value(kind: DriverKind) {
        let l = Watch::new(kind);
        let mut task = l
            .create_task(async {
                yield_now().await.unwrap();
                me().cancel_with("too late to run on");
                7
            })
            .unwrap();
        l.turns(2);
        assert_eq!(message(&mut task).as_deref(), Some("too late to run on"));
    }

    fn can_07_cancelled_when_about_to_await_a_task_both_end(kind: DriverKind) {
        let l = Watch::new(kind);
        let inner = sleeper(&l);
        let inner_too = inner.local();
        let mut outer = l
            .create_task(async move {
                me().cancel();
                inner.await.map(drop)
            })
            .unwrap();
        l.turns(3);
        assert!(inner_too.done());
        drop(cancelled(&mut outer));
    }

    fn can_08_a_cancel_goes_on_to_what_is_awaited(kind: DriverKind) {
        let l = Watch::new(kind);
        let (mut task, future) = waiter(&l);
        assert_eq!(task.local().waits_for().len(), 1);
        task.cancel();
        l.turn();
        assert!(future.cancelled());
        assert!(task.local().waits_for().is_empty());
        drop(cancelled(&mut task));
        // To a task first: it may refuse, and the outer one goes on with what it returned.
        let stubborn = l
            .create_task(async {
                drop(sleep(HOUR).await.unwrap_err());
                yield_now().await.unwrap();
                "no"
            })
            .unwrap();
        let id = stubborn.id();
        let outer = l.create_task(stubborn).unwrap();
        l.turn();
        assert_eq!(outer.local().waits_for(), [WaitsFor::Task(id)]);
        assert!(outer.cancel());
        assert_eq!(l.run(outer).unwrap().unwrap(), "no");
    }

    fn can_09_cancelled_before_its_first_step_the_body_never_runs(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let dropped = Dropped(order.clone(), "dropped");
        let ran = order.clone();
        let mut task = l
            .create_task(async move {
                ran.add("ran");
                drop(dropped);
            })
            .unwrap();
        assert!(task.cancel_with("early"));
        assert!(!task.done());
        l.turn();
        assert_eq!(message(&mut task).as_deref(), Some("early"));
        assert_eq!(order.take(), ["dropped"]);
    }

    fn can_10_the_message_reaches_every_reader(kind: DriverKind) {
        let l = Watch::new(kind);
        let mut task = sleeper(&l);
        task.cancel_with("by result");
        l.turn();
        assert_eq!(message(&mut task).as_deref(), Some("by result"));
        let task = sleeper(&l);
        task.cancel_with(String::from("by await"));
        let Err(RunError::Task(JoinError::Cancelled(value))) = l.run_until_complete(task) else {
            panic!("not cancelled");
        };
        assert_eq!(value.message(), Some("by await"));
        assert_eq!(value.to_string(), "cancelled: by await");
        // Inside the task, at the await that was cancelled.
        let task = l
            .create_task(async { sleep(HOUR).await.unwrap_err().message().map(str::to_owned) })
            .unwrap();
        l.turn();
        task.cancel_with("inside");
        assert_eq!(l.run(task).unwrap().as_deref(), Some("inside"));
        // No message is none.
        let mut task = sleeper(&l);
        task.cancel();
        l.turn();
        let value = cancelled(&mut task);
        assert_eq!((value.message(), value.to_string().as_str()), (None, "cancelled"));
    }

    /// The value names the task that was asked, and is found in the errors made of it.
    fn can_11_a_cancellation_keeps_its_origin(kind: DriverKind) {
        let l = Watch::new(kind);
        let inner = l
            .create_task(async { sleep(HOUR).await.map_err(io::Error::from) })
            .unwrap();
        let inner_id = inner.id();
        let seen = Order::default();
        let note = seen.clone();
        let mut outer = l
            .create_task(async move {
                let error = inner.await.map_err(io::Error::from).unwrap_err();
                let found = Cancelled::in_error(&error).expect("the cancellation is inside");
                note.add((found.task(), found.message().map(str::to_owned), error.kind()));
                let wrapped = io::Error::other(error);
                assert!(Cancelled::in_error(&wrapped).is_some());
                Err::<(), _>(wrapped)
            })
            .unwrap();
        let outer_id = outer.id();
        l.turn();
        outer.cancel_with("why");
        l.turns(3);
        let value = cancelled(&mut outer);
        assert_eq!(value.message(), Some("why"));
        let (task, message, kind) = seen.take().remove(0);
        assert_eq!(message.as_deref(), Some("why"));
        assert_eq!(task, Some(outer_id));
        assert_ne!(outer_id, inner_id);
        // Never Interrupted, which loops that read retry.
        assert_eq!(kind, io::ErrorKind::Other);
        assert!(Cancelled::in_error(&io::Error::other("something else")).is_none());
    }

    fn can_16_a_cancelled_sleep_leaves_no_timer(kind: DriverKind) {
        let l = Watch::new(kind);
        let timers = || (l.stats().timers, l.stats().cancelled_timers);
        let (mut first, mut second) = (sleeper(&l), sleeper(&l));
        assert_eq!(timers(), (2, 0));
        first.cancel();
        l.turn();
        assert_eq!(timers(), (2, 1), "tidied up by the next iteration");
        l.turn();
        assert_eq!(timers(), (1, 0));
        second.cancel();
        l.turn();
        assert_eq!(timers(), (0, 0), "that which was set last goes at once");
        drop(cancelled(&mut first));
        drop(cancelled(&mut second));
        // So does one that is dropped.
        l.run(async {
            let mut nap = pin!(Some(sleep(HOUR)));
            poll_fn(|cx| {
                let polled = nap.as_mut().as_pin_mut().unwrap().poll(cx);
                assert!(polled.is_pending());
                Poll::Ready(())
            })
            .await;
            nap.set(None);
        });
        l.turn();
        assert_eq!((l.stats().timers, l.stats().cancelled_timers), (0, 0));
    }

    /// A task that waits only for what cannot be told is dropped where it stands.
    fn can_02_a_task_at_foreign_futures_is_dropped(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let held = Dropped(order.clone(), "dropped");
        let mut task = l
            .create_task(async move {
                let _held = held;
                pending::<()>().await;
            })
            .unwrap();
        l.turn();
        task.cancel_with("foreign");
        l.turn();
        assert_eq!(message(&mut task).as_deref(), Some("foreign"));
        assert_eq!(order.take(), ["dropped"]);
    }
}
