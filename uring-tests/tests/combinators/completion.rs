//! `as_completed`.

use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::future::join;
use ringloop::event_loop::Future as LoopFuture;
use ringloop::task::TaskId;
use ringloop::{
    EventLoopExt, Failure, Task, TimeoutError, as_completed, create_task, sleep, timeout, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::tasks::{HOUR, now, panic_of, seconds};
use uring_tests::watch::Watch;

/// A task that ends after so many seconds, with that number.
fn nap(secs: u64) -> Task<u64> {
    create_task(async move {
        sleep(seconds(secs)).await.unwrap();
        secs
    })
}

/// Four tasks, each of which waits for a future, and as many that wait for whichever ends.
fn waiting(l: &Watch) -> ([LoopFuture<u64>; 4], Vec<Waiting>) {
    let futures = [(); 4].map(|()| l.create_future());
    let tasks = futures.each_ref().map(|future| {
        let wait = future.wait();
        l.create_task(async { wait.await.unwrap() }).unwrap()
    });
    let waits = as_completed(tasks, None).map(|next| l.create_task(next).unwrap());
    let waits = waits.collect();
    l.turns(2);
    (futures, waits)
}

/// A task that waits for another.
type Waiting = Task<Result<u64, Failure<TimeoutError>>>;

/// Brings the tasks of [`waiting`] to their end.
fn finish_all(l: &Watch, futures: [LoopFuture<u64>; 4], waits: Vec<Waiting>) {
    for future in futures {
        // Refused by those that were set before.
        let _ = future.set_result(0);
    }
    l.turns(4);
    assert!(waits.iter().all(|wait| wait.done()));
}

on_both_drivers! {
    fn asc_01_the_order_of_completion(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut order = Vec::new();
            for next in as_completed([3, 1, 2].map(nap), None) {
                order.push(next.await.unwrap());
            }
            assert_eq!((order, now()), (vec![1, 2, 3], 3));
            let mut order = Vec::new();
            let mut tasks = as_completed([3, 1, 2].map(nap), None);
            while let Some(task) = tasks.next_task().await {
                order.push(task.unwrap().result().unwrap().unwrap());
            }
            assert_eq!((order, now()), (vec![1, 2, 3], 6));
            // Of tasks that end in one iteration too, whatever their places are.
            let late = create_task(async {
                yield_now().await.unwrap();
                "late"
            });
            let early = create_task(async { "early" });
            let mut order = Vec::new();
            yield_now().await.unwrap();
            yield_now().await.unwrap();
            for next in as_completed([late, early], None) {
                order.push(next.await.unwrap());
            }
            assert_eq!(order, ["late", "early"], "those that had ended: as they were given");
            let last = create_task(async {
                sleep(seconds(1)).await.unwrap();
                "last"
            });
            let first = create_task(async { "first" });
            let order = as_completed([last, first], None).map(|next| async { next.await.unwrap() });
            let mut seen = Vec::new();
            for next in order {
                seen.push(next.await);
            }
            assert_eq!(seen, ["first", "last"]);
        });
    }

    /// Whichever of the futures is awaited first gets the first result.
    fn asc_01_the_futures_may_be_awaited_in_any_order(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut futures: Vec<_> = as_completed([2, 1].map(nap), None).collect();
            let second = futures.pop().unwrap();
            let first = futures.pop().unwrap();
            assert_eq!(second.await.unwrap(), 1);
            assert_eq!(first.await.unwrap(), 2);
            // Side by side, who began to wait first is served first.
            let mut futures = as_completed([2, 1].map(nap), None);
            let (one, two) = (futures.next().unwrap(), futures.next().unwrap());
            let (one, two) = join(one, two).await;
            assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
        });
    }

    fn asc_01_failures_come_in_their_turn(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let panics = create_task(async { panic!("first") });
            let cancelled = nap(5);
            cancelled.cancel();
            let mut futures = as_completed([nap(1), panics, cancelled], None);
            let first = futures.next().unwrap().await;
            assert!(matches!(first, Err(Failure::Panicked(_))), "{first:?}");
            let second = futures.next().unwrap().await;
            assert!(matches!(second, Err(Failure::Cancelled(_))), "{second:?}");
            drop(second);
            assert_eq!(futures.next().unwrap().await.unwrap(), 1);
            assert!(futures.next().is_none());
        });
    }

    fn asc_02_it_yields_the_tasks_themselves(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let given = [3, 1, 2].map(nap);
            let ids = [0, 1, 2].map(|at: usize| given[at].id());
            let mut tasks = as_completed(given, None);
            let mut seen: Vec<TaskId> = Vec::new();
            while let Some(task) = tasks.next_task().await {
                seen.push(task.unwrap().id());
            }
            assert_eq!(seen, [ids[1], ids[2], ids[0]]);
        });
    }

    fn asc_03_a_timeout_fails_for_the_rest(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let tasks = [1, 5, 6].map(nap);
            let states = [0, 1, 2].map(|at: usize| tasks[at].local());
            let mut results = Vec::new();
            for next in as_completed(tasks, Some(seconds(2))) {
                results.push(next.await.map_err(|failure| failure.into_error()));
            }
            let timed_out = Err(Some(TimeoutError));
            assert_eq!(results, [Ok(1), timed_out, timed_out]);
            assert_eq!(now(), 2);
            assert!(!states[1].done() && states[1].cancelling() == 0, "it runs on");
            sleep(seconds(10)).await.unwrap();
            assert!(states.iter().all(|state| state.done()));
        });
    }

    /// Waits of several tasks, each of which has to be woken.
    fn asc_03_a_timeout_ends_every_wait(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let waits = as_completed([5, 6, 7].map(nap), Some(seconds(2)));
            let mut waits: Vec<_> = waits.map(create_task).collect();
            sleep(seconds(3)).await.unwrap();
            for (at, wait) in waits.iter_mut().enumerate() {
                let ended = wait.result().unwrap_or_else(|| panic!("wait {at} goes on"));
                let failure = ended.unwrap().unwrap_err();
                assert_eq!(failure.into_error(), Some(TimeoutError));
            }
            sleep(seconds(10)).await.unwrap();
        });
    }

    /// What ended in time is handed out later, too; what ended too late never.
    fn asc_03_a_task_that_ends_after_the_timeout_is_not_handed_out(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut tasks = as_completed([1, 5, 6].map(nap), Some(seconds(2)));
            sleep(seconds(3)).await.unwrap();
            assert_eq!(tasks.next().unwrap().await.unwrap(), 1);
            sleep(seconds(10)).await.unwrap();
            let failure = tasks.next().unwrap().await.unwrap_err();
            assert_eq!(failure.into_error(), Some(TimeoutError));
            let failure = tasks.next_task().await.unwrap().unwrap_err();
            assert_eq!(failure.into_error(), Some(TimeoutError));
            assert!(tasks.next().is_none());
        });
    }

    fn asc_03_an_unused_timeout_leaves_no_timer(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            for next in as_completed([1, 2].map(nap), Some(HOUR)) {
                next.await.unwrap();
            }
            yield_now().await.unwrap();
            assert_eq!(core.stats().timers, 0);
            // Nor does one that is given up.
            drop(as_completed([create_task(async {})], Some(HOUR)));
            yield_now().await.unwrap();
            assert_eq!(core.stats().timers, 0);
            // Where nothing can take that long there is none.
            let none: [Task<()>; 0] = [];
            let mut none = as_completed(none, Some(HOUR));
            assert_eq!(core.stats().timers, 0);
            assert!(none.next().is_none());
            let ended = as_completed([1, 2].map(nap), Some(HOUR));
            assert_eq!(core.stats().timers, 1);
            sleep(seconds(3)).await.unwrap();
            assert_eq!(core.stats().timers, 0);
            for (next, secs) in ended.zip([1, 2]) {
                assert_eq!(next.await.unwrap(), secs);
            }
        });
    }

    /// (Duplicates can not be: a handle is owned by one place.)
    fn asc_04_it_can_be_stopped_and_taken_up_again(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut tasks = as_completed([1, 2, 3, 4].map(nap), None);
            let mut seen = Vec::new();
            for next in &mut tasks {
                seen.push(next.await.unwrap());
                if seen.len() == 2 {
                    break;
                }
            }
            let third = tasks.next_task().await.unwrap();
            seen.push(third.unwrap().result().unwrap().unwrap());
            for next in tasks {
                seen.push(next.await.unwrap());
            }
            assert_eq!(seen, [1, 2, 3, 4]);
        });
    }

    /// A wait that is cancelled, or dropped when it had been woken, loses no task.
    fn asc_04_a_wait_given_up_loses_no_task(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut tasks = as_completed([2, 3].map(nap), None);
            let limited = timeout(seconds(1), tasks.next_task()).await;
            assert_eq!(limited.err(), Some(TimeoutError));
            let mut cx = Context::from_waker(Waker::noop());
            let (mut one, mut two) = (tasks.next().unwrap(), tasks.next().unwrap());
            assert!(tasks.next().is_none(), "as many as there are tasks");
            assert!(Pin::new(&mut one).poll(&mut cx).is_pending());
            let other = async {
                sleep(seconds(5)).await.unwrap();
                // Woken for the first task, and dropped: the other wait gets it.
                drop(one);
            };
            let ((), second) = join(other, &mut two).await;
            assert_eq!(second.unwrap(), 2);
            assert_eq!(tasks.next().unwrap().await.unwrap(), 3);
            assert!(tasks.next().is_none());
        });
    }

    /// Given up right after it was woken, it wakes the next one.
    fn asc_04_a_wait_given_up_passes_its_wake_on(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for abort in [true, false] {
            let (futures, mut waits) = waiting(&l);
            futures[0].set_result(1).unwrap();
            l.turns(2);
            assert!(waits.iter().all(|wait| !wait.done()));
            if abort {
                waits[0].abort();
            } else {
                waits[0].cancel();
            }
            l.turns(2);
            assert!(waits[0].cancelled());
            assert_eq!(waits[1].result().unwrap().unwrap().unwrap(), 1);
            finish_all(&l, futures, waits);
        }
    }

    /// A wait that gives up when it was not woken wakes nobody, who would lose its place by that.
    fn asc_04_a_wait_given_up_leaves_the_others_in_order(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let (futures, mut waits) = waiting(&l);
        futures[0].set_result(1).unwrap();
        l.turn();
        // It ends in the turn in which the first wait is woken.
        waits[1].abort();
        l.turns(2);
        assert_eq!(waits[0].result().unwrap().unwrap().unwrap(), 1);
        assert!(waits[1].cancelled());
        futures[1].set_result(2).unwrap();
        l.turns(3);
        assert_eq!(waits[2].result().unwrap().unwrap().unwrap(), 2);
        assert!(!waits[3].done());
        finish_all(&l, futures, waits);
    }

    /// It wakes the task that polled it last.
    fn asc_04_a_wait_that_has_begun_may_move_to_another_task(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut next = as_completed([nap(1)], None).next().unwrap();
            let begun = poll_fn(|cx| Poll::Ready(Pin::new(&mut next).poll(cx).is_pending()));
            assert!(begun.await);
            let moved = timeout(seconds(60), create_task(next)).await;
            assert_eq!(moved.expect("it is woken").unwrap().unwrap(), 1);
        });
    }

    fn asc_05_the_loop_is_the_tasks_loop(kind: DriverKind) {
        let (one, two) = (Watch::by_hand(kind), Watch::by_hand(kind));
        let tasks = [one.create_task(ready(1)).unwrap()];
        let next = as_completed(tasks, None).next().unwrap();
        assert_eq!(one.run(next).unwrap(), 1);
        let pending = one.create_task(yield_now()).unwrap();
        let mut next = as_completed([pending], None).next().unwrap();
        let text = two.run(async move {
            panic_of(|| {
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(&mut next).poll(&mut cx).is_pending()
            })
        });
        assert_eq!(text, "the awaited task is attached to a different loop");
        let task = one.create_task(async {}).unwrap();
        let outside = panic_of(|| as_completed([task], Some(HOUR)));
        assert_eq!(outside, "no running event loop");
        one.turns(3);
    }
}
