//! Running, stopping, closing.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringloop::driver::{Complete, Event, Op, Park, Target};
use ringloop::event_loop::{Future as LoopFuture, FutureError};
use ringloop::task::exit_loop;
use ringloop::{
    Builder, EventLoopExt, JoinError, LoopError, RunError, get_running_loop, sleep,
    try_get_running_loop,
};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, exited};
use uring_tests::watch::{Seen, Watch};

/// The misuse that a run was refused for.
#[track_caller]
fn refused<T>(result: Result<T, RunError<T>>) -> LoopError {
    match result {
        Err(RunError::Loop(error)) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            *inner.expect("a misuse of the loop")
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it ran"),
    }
}

fn misuse(error: std::io::Error) -> LoopError {
    refused::<()>(Err(RunError::Loop(error)))
}

/// Takes an hour to go, by the loop's clock.
struct Slow(Rc<Seen>);

impl Complete for Slow {
    fn complete(self: Rc<Self>, _event: Event) {}
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.advance(3_600_000_000_000);
    }
}

on_both_drivers! {
    /// What the kernel has given back is not taken for lost because the thread was slow.
    fn a_late_close_takes_in_what_came_back(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.core().submit(Op::Nop, Target::Callback(Rc::new(Slow(l.seen.clone()))));
        l.close().unwrap();
        assert_eq!(l.stats().live_operations, 0);
        assert_eq!(l.stats().leaked_operations, 0);
        assert_eq!(l.messages(), [] as [String; 0]);
    }

    /// A plain future, a task, a future of the loop; and again after a run.
    fn loop_01_run_until_complete_gives_the_result(kind: DriverKind) {
        let l = Watch::new(kind);
        assert_eq!(l.run(async { 1 }), 1);
        let task = l.create_task(async { 2 }).unwrap();
        assert_eq!(l.run(task).unwrap(), 2);
        let future = l.create_future();
        let far = future.clone();
        l.call_soon(move || far.set_result(3).unwrap()).unwrap();
        assert_eq!(l.run(future.wait()).unwrap(), 3);
        let slow = async {
            sleep(Duration::from_nanos(1)).await.unwrap();
            "slow"
        };
        assert_eq!(l.run(slow), "slow");
        assert!(!l.is_running());
    }

    /// The refused future does not run, not even later.
    fn loop_02_a_running_loop_can_not_be_run_again(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let (inner, inside, gone) = (l.event_loop(), order.clone(), Dropped(order.clone(), "gone"));
        l.run(async move {
            assert_eq!(misuse(inner.run_forever().unwrap_err()), LoopError::AlreadyRunning);
            let never = async move {
                let _gone = gone;
                inside.add("ran");
            };
            let error = refused(inner.run_until_complete(never));
            assert_eq!(error, LoopError::AlreadyRunning);
            assert_eq!(error.to_string(), "This event loop is already running");
            assert!(inner.is_running());
        });
        l.turns(3);
        assert_eq!(order.take(), ["gone"]);
        assert_eq!(l.stats().tasks, 0);
    }

    fn loop_03_stopped_early_the_task_can_be_driven_on(kind: DriverKind) {
        let l = Watch::new(kind);
        let (future, stopper) = (l.create_future(), l.event_loop());
        let waiting = future.wait();
        l.call_soon(move || stopper.stop()).unwrap();
        let Err(error) = l.run_until_complete(async move { waiting.await.unwrap() }) else {
            panic!("it did not wait");
        };
        assert_eq!(error.to_string(), "Event loop stopped before Future completed.");
        let RunError::Stopped(task) = error else {
            panic!("{error}");
        };
        assert!(!task.done());
        future.set_result(5).unwrap();
        assert_eq!(l.run(task).unwrap(), 5);
    }

    /// Also when it is closed before that: asyncio does not report its own wrapper.
    fn loop_03_a_stopped_future_that_is_never_driven_on_is_not_reported(kind: DriverKind) {
        let l = Watch::new(kind);
        l.stop();
        let stopped = l.run_until_complete(std::future::pending::<()>());
        assert!(matches!(stopped, Err(RunError::Stopped(_))));
        l.close().unwrap();
        assert!(l.told().is_empty());
    }

    fn loop_05_a_future_of_another_loop_is_refused(kind: DriverKind) {
        let (l, other) = (Watch::new(kind), Watch::new(kind));
        let future: LoopFuture<()> = other.create_future();
        let task = other.create_task(async {}).unwrap();
        let refused = l.run(future.wait()).unwrap_err();
        assert!(matches!(refused, FutureError::DifferentLoop));
        assert!(refused.to_string().contains("attached to a different loop"));
        let Err(RunError::Task(JoinError::Panicked(payload))) = l.run_until_complete(task) else {
            panic!("it was awaited");
        };
        let text = ringloop::task::panic_message(&*payload);
        assert!(text.contains("attached to a different loop"), "{text}");
        assert!(!future.done());
        other.turn();
    }

    fn loop_06_after_a_loop_exit_the_loop_is_usable(kind: DriverKind) {
        let l = Watch::new(kind);
        let future = l.create_future();
        let waiting = future.wait();
        l.call_soon(|| exit_loop(7)).unwrap();
        let left: i32 = exited(|| l.run_until_complete(waiting));
        assert_eq!(left, 7);
        assert!(!l.is_running());
        assert_eq!(try_get_running_loop().err(), Some(LoopError::NoRunningLoop));
        // The abandoned future ends in the next run, which goes on.
        future.set_result(()).unwrap();
        l.run(async { ringloop::yield_now().await.unwrap() });
        l.call_soon(|| ()).unwrap();
        let order = Order::default();
        let (late, me) = (order.clone(), l.event_loop());
        l.call_later(Duration::from_nanos(1), move || {
            late.add("late");
            me.stop();
        })
        .unwrap();
        l.run_forever().unwrap();
        assert_eq!(order.take(), ["late"]);
    }

    /// The abandoned future alone must not stop a run: here nothing else would end at once.
    fn loop_06_an_abandoned_future_does_not_stop_a_later_run(kind: DriverKind) {
        let l = Watch::new(kind);
        let future = l.create_future();
        let waiting = future.wait();
        l.call_soon(|| exit_loop(())).unwrap();
        exited::<(), _>(|| l.run_until_complete(waiting));
        future.set_result(()).unwrap();
        let (turns, me) = (Rc::new(Cell::new(0)), l.event_loop());
        let count = turns.clone();
        l.create_task(async move {
            for _ in 0..5 {
                ringloop::yield_now().await.unwrap();
                count.set(count.get() + 1);
            }
            me.stop();
        })
        .unwrap();
        l.run_forever().unwrap();
        assert_eq!(turns.get(), 5);
    }

    fn loop_07_a_loop_exit_of_the_main_future_is_not_reported(kind: DriverKind) {
        let l = Watch::new(kind);
        let left: String = exited(|| {
            l.run_until_complete(async {
                ringloop::yield_now().await.unwrap();
                exit_loop("bye".to_owned());
            })
        });
        assert_eq!(left, "bye");
        l.turns(2);
        assert_eq!(l.stats().tasks, 0);
        assert!(l.told().is_empty());
    }

    fn loop_08_a_stop_before_the_run_gives_one_iteration_that_does_not_wait(kind: DriverKind) {
        let l = Watch::new(kind);
        l.stop();
        l.run_forever().unwrap();
        assert_eq!(l.seen.parks(), [Park::Poll]);
        assert_eq!(l.iterations(), 1);
        // The request ended with that run: this one waits for its timer.
        let order = Order::default();
        let (fired, me) = (order.clone(), l.event_loop());
        l.call_later(Duration::from_millis(1), move || {
            fired.add("fired");
            me.stop();
        })
        .unwrap();
        l.run_forever().unwrap();
        assert_eq!(order.take(), ["fired"]);
    }

    fn loop_10_a_second_loop_in_the_thread_is_refused(kind: DriverKind) {
        let l = Watch::new(kind);
        let other = Builder::new().driver(kind).build().unwrap();
        let me = l.event_loop();
        l.run(async move {
            assert_eq!(misuse(other.run_forever().unwrap_err()), LoopError::AnotherRunning);
            let error = refused(other.run_until_complete(async {}));
            assert_eq!(error, LoopError::AnotherRunning);
            assert!(!other.is_running());
            assert!(Rc::ptr_eq(&get_running_loop(), &me));
            other.close().unwrap();
            // A whole program inside: refused too, and this loop's tasks are left alone.
            assert!(matches!(ringloop::run(async {}), Err(RunError::Loop(_))));
            assert!(matches!(ringloop::block_on(&me, async {}), Err(RunError::Loop(_))));
            assert!(Rc::ptr_eq(&get_running_loop(), &me));
            ringloop::yield_now().await.expect("not cancelled");
        });
        assert_eq!(try_get_running_loop().err(), Some(LoopError::NoRunningLoop));
    }

    fn loop_11_close_is_idempotent_and_final(kind: DriverKind) {
        let l = Watch::new(kind);
        assert!(!l.is_closed());
        l.close().unwrap();
        l.close().unwrap();
        assert!(l.is_closed());
        assert_eq!(misuse(l.run_forever().unwrap_err()), LoopError::Closed);
        let order = Order::default();
        let gone = Dropped(order.clone(), "gone");
        assert_eq!(refused(l.run_until_complete(async move { drop(gone) })), LoopError::Closed);
        assert_eq!(order.take(), ["gone"]);
    }

    fn loop_13_a_running_loop_can_not_be_closed(kind: DriverKind) {
        let l = Watch::new(kind);
        let me = l.event_loop();
        l.run(async move {
            let error = me.close().unwrap_err();
            assert_eq!(error, LoopError::StillRunning);
            assert_eq!(error.to_string(), "Cannot close a running event loop");
        });
        assert!(!l.is_closed());
    }

    fn loop_15_one_callback_is_run_by_one_iteration(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        l.call_soon(order.note("ran")).unwrap();
        let before = l.iterations();
        l.turn();
        assert_eq!(order.take(), ["ran"]);
        assert_eq!(l.iterations(), before + 1);
        l.turn();
        assert!(order.take().is_empty());
    }

    fn loop_23_stop_is_legal_at_any_time_and_lets_the_iteration_finish(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let (me, late) = (l.event_loop(), order.clone());
        l.call_soon(move || {
            me.stop();
            me.call_soon(late.note("next run")).unwrap();
            late.add("stopped");
        })
        .unwrap();
        l.call_soon(order.note("same iteration")).unwrap();
        l.run_forever().unwrap();
        assert_eq!(order.take(), ["stopped", "same iteration"]);
        l.turn();
        assert_eq!(order.take(), ["next run"]);
        l.stop();
        l.close().unwrap();
        l.stop();
    }

    fn loop_24_a_loop_dropped_unclosed_says_so_and_is_closed(kind: DriverKind) {
        let order = Order::default();
        let event_loop = Builder::new().driver(kind).build().unwrap();
        let said = order.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            said.add(context.message.clone());
        })));
        let core = event_loop.core().unwrap().clone();
        let handle = event_loop.handle().unwrap();
        let held = Rc::new(());
        let (in_callback, in_task) = (held.clone(), held.clone());
        event_loop.call_soon(move || drop(in_callback)).unwrap();
        let in_timer = held.clone();
        event_loop.call_later(HOUR, move || drop(in_timer)).unwrap();
        drop(event_loop.create_task(async move { drop(in_task) }).unwrap());
        assert_eq!(Rc::strong_count(&held), 4);
        drop(event_loop);
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(core.is_closed());
        assert!(matches!(handle.call_soon_threadsafe(|| ()), Err(LoopError::Closed)));
        let said = order.take();
        assert!(said[0].contains("dropped without close()"), "{said:?}");
        assert_eq!(said[1..], ["Task was destroyed but it is pending!"]);
    }

    fn loop_24_a_loop_closed_by_hand_is_dropped_without_a_word(kind: DriverKind) {
        let order = Order::default();
        let event_loop = Builder::new().driver(kind).build().unwrap();
        let said = order.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            said.add(context.message.clone());
        })));
        event_loop.call_soon(|| panic!("never runs")).unwrap();
        event_loop.close().unwrap();
        drop(event_loop);
        assert_eq!(order.take(), [""; 0]);
    }
}
