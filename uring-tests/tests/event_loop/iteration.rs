//! One iteration: what it waits for, what runs in it, in which order.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ringloop::driver::{Complete, Event, Fd, Op, Park, Target};
use ringloop::event_loop::TimerHandle;
use ringloop::task::exit_loop;
use ringloop::{Builder, EventLoopExt};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;
use uring_tests::tasks::exited;
use uring_tests::watch::Watch;

const MILLISECOND: u64 = 1_000_000;
const DAY: u64 = 86_400_000_000_000;

/// The target of an operation: each completion is noted.
pub struct Noted(pub Order<&'static str>, pub &'static str);

impl Complete for Noted {
    fn complete(self: Rc<Self>, _event: Event) {
        self.0.add(self.1);
    }
}

/// Gives way until something was noted, and how often.
async fn iterations_until(order: &Order<&'static str>) -> u32 {
    let mut iterations = 0;
    while order.take().is_empty() {
        assert!(iterations < 1000, "nothing was heard");
        ringloop::yield_now().await.unwrap();
        iterations += 1;
    }
    iterations
}

/// A timer that does nothing, so many nanoseconds from now.
fn timer(l: &Watch, after: u64) -> TimerHandle {
    l.call_at(l.time() + after, || ()).unwrap()
}

/// Runs until a timer so many nanoseconds from now stops the loop; how it parked.
fn parks_until(l: &Watch, after: u64) -> Vec<Park> {
    let me = l.event_loop();
    l.call_at(l.time() + after, move || me.stop()).unwrap();
    l.seen.parks();
    l.run_forever().unwrap();
    l.seen.parks()
}

on_both_drivers! {
    fn sch_12_the_park_ends_with_the_first_live_timer(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let start = l.time();
        for after in [5, 6] {
            timer(&l, after).cancel();
        }
        timer(&l, 20 * MILLISECOND);
        timer(&l, 10 * MILLISECOND);
        assert_eq!(l.stats().timers, 4);
        let parks = parks_until(&l, 30 * MILLISECOND);
        assert_eq!(parks, [10, 20, 30].map(|after| Park::Until(start + after * MILLISECOND)));
        let stats = l.stats();
        assert_eq!((stats.timers, stats.cancelled_timers), (0, 0));
    }

    /// Within 50 µs after a timer there is no sleep for another, but what is due is not kept waiting.
    fn sch_12_timers_that_are_close_share_a_sleep(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let start = l.time();
        let me = l.event_loop();
        l.call_at(start + MILLISECOND, move || {
            // One is due by the time this is done, two are not.
            for after in [0, 1, 2] {
                me.call_at(start + MILLISECOND + after, || ()).unwrap();
            }
        })
        .unwrap();
        let parks = parks_until(&l, 2 * MILLISECOND);
        let first = start + MILLISECOND;
        let ends = [first, first, first + 1 + 50_000, start + 2 * MILLISECOND].map(Park::Until);
        assert_eq!(parks, ends);
    }

    fn sch_13_a_due_timer_runs_at_once_and_what_it_schedules_waits(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        let (me, inner) = (l.event_loop(), order.clone());
        l.call_at(l.time(), move || {
            inner.add("timer");
            me.call_soon(inner.note("soon")).unwrap();
            me.call_at(me.time(), inner.note("due at once")).unwrap();
        })
        .unwrap();
        l.turn();
        assert_eq!(order.take(), ["timer"]);
        l.turn();
        assert_eq!(order.take(), ["soon", "due at once"]);
    }

    /// Not at 100 entries however many are cancelled, not at exactly one half; above both at once.
    fn sch_14_cancelled_timers_are_compacted_above_both_thresholds(kind: DriverKind) {
        for (entries, cancelled, compacted) in [
            (100, 99, false),
            (101, 50, false),
            (102, 51, false),
            (101, 51, true),
            (400, 201, true),
        ] {
            let l = Watch::by_hand(kind);
            let timers: Vec<_> = (1..=entries).map(|after| timer(&l, after)).collect();
            // Behind a live head, so that only compaction removes them.
            timers[1..=cancelled].iter().for_each(TimerHandle::cancel);
            let stats = l.stats();
            assert_eq!((stats.timers, stats.cancelled_timers), (entries as usize, cancelled));
            l.turn();
            let stats = l.stats();
            let left = if compacted { (entries as usize - cancelled, 0) } else { (entries as usize, cancelled) };
            assert_eq!((stats.timers, stats.cancelled_timers), left, "{entries} entries");
        }
    }

    fn sch_14_else_only_cancelled_timers_at_the_head_are_removed(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let timers: Vec<_> = (1..=10).map(|after| timer(&l, after)).collect();
        for cancelled in [0, 1, 2, 5, 9] {
            timers[cancelled].cancel();
            timers[cancelled].cancel();
        }
        l.turn();
        let stats = l.stats();
        assert_eq!((stats.timers, stats.cancelled_timers), (7, 2));
    }

    /// asyncio's count drifts when cancelled timers come due behind live ones; this one does not.
    fn sch_14_the_count_stays_exact_when_cancelled_timers_come_due(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let timers: Vec<_> = (1..=6).map(|after| timer(&l, after)).collect();
        timers[1].cancel();
        timers[2].cancel();
        timers[5].cancel();
        l.seen.advance(4);
        l.turn();
        let stats = l.stats();
        assert_eq!((stats.timers, stats.cancelled_timers), (2, 1));
        // One that is cancelled after it fired, or while it waits in the ready queue, is no entry.
        timers[0].cancel();
        assert_eq!(l.stats().cancelled_timers, 1);
        l.call_soon(|| exit_loop(())).unwrap();
        l.seen.advance(1);
        exited::<(), _>(|| l.turn());
        timers[4].cancel();
        let stats = l.stats();
        assert_eq!((stats.timers, stats.cancelled_timers), (1, 1));
        l.seen.advance(1);
        l.turn();
        let stats = l.stats();
        assert_eq!((stats.timers, stats.cancelled_timers), (0, 0));
    }

    /// An entry in the queue would give the next run an iteration that does not wait.
    fn sch_15_a_cancelled_timer_is_not_added_to_the_ready_queue(kind: DriverKind) {
        for (cancelled, iterations) in [(true, 1), (false, 2)] {
            let l = Watch::by_hand(kind);
            l.call_at(l.time() + 1, || exit_loop(())).unwrap();
            let behind = timer(&l, 1);
            if cancelled {
                behind.cancel();
            }
            exited::<(), _>(|| l.run_forever());
            let before = l.iterations();
            parks_until(&l, 5);
            assert_eq!(l.iterations() - before, iterations);
        }
    }

    /// Created in the opposite order.
    fn sch_16_carried_over_then_io_then_timers_and_their_work_waits(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        let (me, inner) = (l.event_loop(), order.clone());
        l.call_soon(move || {
            for (ago, name) in [(1, "later timer"), (2, "earlier timer")] {
                let (me, inner) = (me.clone(), inner.clone());
                let again = me.clone();
                me.call_at(me.time() - ago, move || {
                    inner.add(name);
                    again.call_soon(inner.note("from a timer")).unwrap();
                })
                .unwrap();
            }
            let core = me.core().unwrap();
            for name in ["first operation", "second operation"] {
                core.submit(Op::Nop, Target::Callback(Rc::new(Noted(inner.clone(), name))));
            }
            let (again, late) = (me.clone(), inner.clone());
            me.call_soon(move || {
                late.add("carried over");
                again.call_soon(late.note("from a callback")).unwrap();
            })
            .unwrap();
        })
        .unwrap();
        l.turn();
        assert!(order.take().is_empty());
        l.turn();
        assert_eq!(
            order.take(),
            ["carried over", "first operation", "second operation", "earlier timer", "later timer"]
        );
        l.turn();
        assert_eq!(order.take(), ["from a callback", "from a timer", "from a timer"]);
    }

    /// What threads sent before the park stands before what the park brings.
    fn calls_of_threads_run_before_what_the_driver_brings(kind: DriverKind) {
        struct Tells(Sender<&'static str>);
        impl Complete for Tells {
            fn complete(self: Rc<Self>, _event: Event) {
                self.0.send("completion").unwrap();
            }
        }
        let l = Watch::new(kind);
        l.turn();
        let (tell, hear) = channel();
        l.core().submit(Op::Nop, Target::Callback(Rc::new(Tells(tell.clone()))));
        let handle = l.handle();
        let call = move || tell.send("call").unwrap();
        std::thread::spawn(move || handle.call_soon_threadsafe(call).unwrap()).join().unwrap();
        l.turn();
        assert!(hear.try_iter().eq(["call", "completion"]));
    }

    /// However much is ready, what other threads and the kernel bring is taken in between.
    fn sch_16_a_busy_loop_still_polls(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let (near, mut far) = UnixStream::pair().unwrap();
        let fd = Fd::new(OwnedFd::from(near));
        let poll = Op::Poll { fd, events: libc::POLLIN as u32 };
        l.core().submit(poll, Target::Callback(Rc::new(Noted(order.clone(), "readable"))));
        l.turn();
        far.write_all(b"x").unwrap();
        let me = l.event_loop();
        let busy = l
            .create_task(async move {
                let mut iterations = 0;
                while order.take().is_empty() {
                    ringloop::yield_now().await.unwrap();
                    iterations += 1;
                    assert!(iterations < 1000, "the descriptor was never looked at");
                }
                me.stop();
            })
            .unwrap();
        l.run_forever().unwrap();
        assert!(busy.done());
    }

    /// Also one that looks at nothing but the kernel's flags between two polls. On epoll only a call
    /// tells, and there is one in every 16th iteration.
    fn sch_16_a_busy_loop_hears_soon(kind: DriverKind) {
        let l = Builder::new().driver(kind).build().unwrap();
        let order = Order::default();
        let (near, mut far) = UnixStream::pair().unwrap();
        let fd = Fd::new(OwnedFd::from(near));
        let me = l.clone();
        let heard = l.run_until_complete(async move {
            let core = me.core().unwrap();
            let poll = Op::Poll { fd, events: libc::POLLIN as u32 };
            core.submit(poll, Target::Callback(Rc::new(Noted(order.clone(), "readable"))));
            for _ in 0..20 {
                ringloop::yield_now().await.unwrap();
            }
            assert!(order.take().is_empty());
            far.write_all(b"x").unwrap();
            let io = iterations_until(&order).await;
            // What the loop's own thread begins is seen in the next iteration, behind this task.
            let told = order.clone();
            me.call_at(me.time(), move || told.add("timer")).unwrap();
            let timer = iterations_until(&order).await;
            let told = order.clone();
            drop(ringloop::create_task(async move {
                ringloop::sleep(Duration::from_nanos(1)).await.unwrap();
                told.add("sleep");
            }));
            let sleep = iterations_until(&order).await;
            core.submit(Op::Nop, Target::Callback(Rc::new(Noted(order.clone(), "operation"))));
            (io, timer, sleep, iterations_until(&order).await)
        });
        let (io, timer, sleep, operation) = heard.unwrap();
        assert!(io <= if kind == DriverKind::Uring { 3 } else { 17 }, "{io} iterations");
        assert_eq!(timer, 2);
        assert!(sleep <= 5, "{sleep} iterations");
        assert!(operation <= 3, "{operation} iterations");
        l.close().unwrap();
    }

    fn sch_17_a_panic_does_not_stop_the_batch(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        l.call_soon(order.note(1)).unwrap();
        l.call_soon(|| panic!("one of three")).unwrap();
        l.call_soon(order.note(2)).unwrap();
        l.turn();
        assert_eq!(order.take(), [1, 2]);
        let told = l.told().remove(0);
        assert!(told.message.starts_with("Exception in callback"), "{told:?}");
        assert_eq!(told.exception.as_deref(), Some("one of three"));
    }

    /// Callbacks, completions, timers and steps of tasks: all that was queued behind it.
    fn sch_17_a_loop_exit_leaves_the_rest_queued(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        l.call_soon(order.note("before")).unwrap();
        l.call_soon(|| exit_loop(9)).unwrap();
        l.call_soon(order.note("callback")).unwrap();
        let step = order.clone();
        drop(l.create_task(async move { step.add("task") }).unwrap());
        l.core().submit(Op::Nop, Target::Callback(Rc::new(Noted(order.clone(), "operation"))));
        l.call_at(l.time(), order.note("timer")).unwrap();
        assert_eq!(exited::<i32, _>(|| l.run_forever()), 9);
        assert_eq!(order.take(), ["before"]);
        l.turn();
        assert_eq!(order.take(), ["callback", "task", "operation", "timer"]);
    }

    /// The step of a task that exits is its last one.
    fn sch_17_a_loop_exit_out_of_a_task_leaves_the_rest_queued(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let task = l.create_task(async { exit_loop(()) as u8 }).unwrap();
        l.call_soon(order.note("rest")).unwrap();
        exited::<(), _>(|| l.run_forever());
        assert!(task.done());
        assert!(order.take().is_empty());
        l.turn();
        assert_eq!(order.take(), ["rest"]);
    }

    fn sch_18_cancelled_callbacks_are_skipped_without_a_word(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let handles: Vec<_> =
            (0..6).map(|number| l.call_soon(order.note(number)).unwrap()).collect();
        handles[0].cancel();
        handles[5].cancel();
        // Also one that is in the batch already.
        let rest = order.clone();
        let mut handles = handles;
        let (third, second) = (handles.remove(3), handles.remove(2));
        l.turn();
        assert_eq!(order.take(), [1, 2, 3, 4]);
        second.cancel();
        let late = l.call_soon(rest.note(7)).unwrap();
        third.cancel();
        drop(late);
        let victim = Rc::new(std::cell::RefCell::new(None));
        let kill = victim.clone();
        l.call_soon(move || {
            let victim: ringloop::event_loop::Handle = kill.take().unwrap();
            assert!(victim.is_waiting());
            victim.cancel();
        })
        .unwrap();
        *victim.borrow_mut() = Some(l.call_soon(rest.note(8)).unwrap());
        l.call_soon(rest.note(9)).unwrap();
        let before = l.iterations();
        l.turn();
        assert_eq!(order.take(), [7, 9]);
        assert_eq!(l.iterations(), before + 1);
    }

    fn sch_19_the_park_is_clamped_to_a_day(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let start = l.time();
        let parks = parks_until(&l, 3 * DAY - 5);
        let ends = [DAY, 2 * DAY, 3 * DAY - 5].map(|after| Park::Until(start + after));
        assert_eq!(parks, ends);
        let far = l.call_later(Duration::MAX, || ()).unwrap();
        assert_eq!(far.when(), u64::MAX);
    }

    /// Ready work and a stop: no wait. A timer: until then, and not before now. Nothing: for ever.
    fn sch_19_the_loop_waits_for_ever_only_when_there_is_nothing(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let run = l.base.run_forever_setup().unwrap();
        l.call_at(l.time() - 5, || ()).unwrap();
        run.run_once().unwrap();
        assert!(matches!(l.seen.parks()[..], [Park::Until(when)] if when <= l.time()));
        timer(&l, 3);
        l.stop();
        run.run_once().unwrap();
        assert_eq!(l.seen.parks(), [Park::Poll]);
        drop(run);
        let run = l.base.run_forever_setup().unwrap();
        // A cancelled timer and a cancelled callback are nothing to wait for.
        run.run_once().unwrap();
        l.seen.parks();
        timer(&l, 3).cancel();
        // Sent before the park, so the wait that is for ever ends.
        let handle = l.handle();
        std::thread::spawn(move || handle.call_soon_threadsafe(|| ()).unwrap()).join().unwrap();
        run.run_once().unwrap();
        // What a thread sent is ready work.
        assert_eq!(l.seen.parks(), [Park::Poll]);
        let (handle, mut sleeps) = (l.handle(), l.sleeps());
        let thread = std::thread::spawn(move || {
            sleeps.wait();
            handle.call_soon_threadsafe(|| ()).unwrap();
        });
        run.run_once().unwrap();
        assert_eq!(l.seen.parks(), [Park::Forever]);
        thread.join().unwrap();
    }

    /// Polled in the iteration that stops, run in that same iteration, and not once more.
    fn loop_09_an_event_of_the_stopping_iteration_is_delivered_once(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let (near, mut far) = UnixStream::pair().unwrap();
        let fd = Fd::new(OwnedFd::from(near));
        let poll = Op::Poll { fd, events: libc::POLLIN as u32 };
        l.core().submit(poll, Target::Callback(Rc::new(Noted(order.clone(), "readable"))));
        l.turn();
        assert!(order.take().is_empty());
        far.write_all(b"x").unwrap();
        l.turn();
        assert_eq!(order.take(), ["readable"]);
        l.turns(3);
        assert!(order.take().is_empty());
        assert_eq!(l.stats().live_operations, 0);
    }

    /// The batch was left before its turn: it is delivered by the next run, once.
    fn loop_09_an_event_left_behind_by_a_loop_exit_is_delivered_once(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        l.core().submit(Op::Nop, Target::Callback(Rc::new(Noted(order.clone(), "done"))));
        l.call_soon(|| exit_loop(())).unwrap();
        exited::<(), _>(|| l.turn());
        assert!(order.take().is_empty());
        l.turns(3);
        assert_eq!(order.take(), ["done"]);
    }
}
