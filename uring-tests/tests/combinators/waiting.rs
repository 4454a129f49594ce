//! `wait`, `wait_for` and the staggered race.

use std::cell::Cell;
use std::future::ready;
use std::rc::Rc;

use ringloop::{
    EventLoopExt, Failure, JoinError, ReturnWhen, Task, TimeoutError, create_task, shield, sleep,
    staggered_race, timeout, wait, wait_for, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::tasks::{HOUR, SECOND, me, now, panic_of, seconds, ticks};
use uring_tests::watch::Watch;

use crate::common::finish;

/// A task that ends after so many seconds, with that number.
fn nap(secs: u64) -> Task<u64> {
    create_task(async move {
        sleep(seconds(secs)).await.unwrap();
        secs
    })
}

fn numbers(tasks: Vec<Task<u64>>) -> Vec<u64> {
    let results = tasks.into_iter().map(|mut task| task.result());
    results.map(|result| result.unwrap().unwrap()).collect()
}

/// Goes on for so many seconds when it is cancelled, and then ends with that value.
async fn reluctant<T>(secs: u64, value: T) -> T {
    drop(sleep(HOUR).await.expect_err("it is cancelled"));
    sleep(seconds(secs)).await.expect("it is cancelled once");
    value
}

on_both_drivers! {
    fn wai_01_for_all_for_the_first_and_for_the_first_failure(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut tasks = vec![nap(2), nap(1)];
            let done = wait(&mut tasks, None, ReturnWhen::AllCompleted).await.unwrap();
            assert_eq!(numbers(done), [2, 1]);
            assert!(tasks.is_empty());
            assert_eq!(now(), 2);

            let mut tasks = vec![nap(3), nap(1), nap(2)];
            let mut order = Vec::new();
            while !tasks.is_empty() {
                let done = wait(&mut tasks, None, ReturnWhen::FirstCompleted).await.unwrap();
                order.extend(numbers(done));
            }
            assert_eq!(order, [1, 2, 3]);
            assert_eq!(now(), 5);

            let fails = create_task(async {
                sleep(seconds(2)).await.unwrap();
                panic!("first")
            });
            let cancelled = nap(3);
            cancelled.cancel();
            let mut tasks = vec![nap(1), fails, nap(5), cancelled];
            let done = wait(&mut tasks, None, ReturnWhen::FirstException).await.unwrap();
            assert_eq!(now(), 7, "a cancelled one is none");
            assert_eq!((done.len(), tasks.len()), (3, 1));
            let panics = done.into_iter().filter_map(|mut task| task.result()?.err());
            assert_eq!(panics.filter(JoinError::is_panic).count(), 1);
            // Without one it waits for all.
            let done = wait(&mut tasks, None, ReturnWhen::FirstException).await.unwrap();
            assert_eq!(numbers(done), [5]);
        });
    }

    /// The sets are made when the waiter runs on, not when it was woken.
    fn wai_02_the_sets_are_as_of_the_resumption(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let late = create_task(async {
                // Ends in the iteration in which the waiter resumes, before it.
                for _ in 0..2 {
                    yield_now().await.unwrap();
                }
            });
            let mut tasks = vec![create_task(async {}), late];
            let done = wait(&mut tasks, None, ReturnWhen::FirstCompleted).await.unwrap();
            assert_eq!((done.len(), tasks.len()), (2, 0));
        });
    }

    fn wai_03_a_timeout_is_no_error(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut tasks = vec![nap(1), nap(10)];
            let limit = Some(seconds(3));
            let done = wait(&mut tasks, limit, ReturnWhen::AllCompleted).await.unwrap();
            assert_eq!(numbers(done), [1]);
            assert_eq!(now(), 3);
            let limit = Some(seconds(0));
            assert!(wait(&mut tasks, limit, ReturnWhen::AllCompleted).await.unwrap().is_empty());
            assert_eq!(tasks.len(), 1);
            assert!(!tasks[0].done(), "not cancelled");
            // One that is not reached leaves no timer.
            let done = wait(&mut tasks, Some(HOUR), ReturnWhen::AllCompleted).await.unwrap();
            assert_eq!(numbers(done), [10]);
        });
        l.turn();
        assert_eq!(l.stats().timers, 0);
    }

    /// (Duplicates can not be: a handle is owned by one place.)
    fn wai_04_tasks_from_any_iterator_and_of_any_type(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut tasks: Vec<_> = (1..=3).filter(|n| n % 2 == 1).map(nap).collect();
            let done = wait(&mut tasks, None, ReturnWhen::AllCompleted).await.unwrap();
            assert_eq!(numbers(done), [1, 3]);
            let (one, mut two) = (create_task(sleep(HOUR)), create_task(async { "two" }));
            let done = wait(&mut vec![&*one, &*two], None, ReturnWhen::FirstCompleted).await;
            assert_eq!(done.unwrap().len(), 1);
            assert_eq!(two.result().unwrap().unwrap(), "two");
            one.cancel();
            yield_now().await.unwrap();
        });
    }

    fn wai_05_nothing_to_wait_for_is_refused(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let task = l
            .create_task(async {
                let mut none: Vec<Task<()>> = Vec::new();
                drop(wait(&mut none, None, ReturnWhen::AllCompleted).await);
            })
            .unwrap();
        let mut task = task;
        finish(&l, &task);
        let Some(Err(JoinError::Panicked(payload))) = task.result() else {
            panic!("not refused");
        };
        assert_eq!(ringloop::task::panic_message(&*payload), "Set of Tasks/Futures is empty.");
    }

    fn wai_06_cancelling_who_waits_cancels_no_member(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut tasks = vec![nap(5), nap(6)];
            let limited = timeout(
                seconds(1),
                wait(&mut tasks, None, ReturnWhen::AllCompleted),
            );
            assert_eq!(limited.await.err(), Some(TimeoutError));
            assert_eq!(tasks.len(), 2, "none is lost");
            assert!(tasks.iter().all(|task| !task.done() && task.cancelling() == 0));
            let done = wait(&mut tasks, None, ReturnWhen::AllCompleted).await.unwrap();
            assert_eq!(numbers(done), [5, 6]);
        });
    }

    /// Each is told, and who leaves takes nobody else's turn.
    fn wai_01_several_may_wait_for_one_task(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let slow = Rc::new(nap(1));
            let waiting = || {
                let slow = slow.clone();
                create_task(async move {
                    let done = wait(&mut vec![&**slow], None, ReturnWhen::AllCompleted).await;
                    (done.map(|done| done.len()), now())
                })
            };
            let (first, leaves, last) = (waiting(), waiting(), waiting());
            yield_now().await.unwrap();
            leaves.cancel();
            assert!(leaves.await.unwrap_err().is_cancelled());
            for waiting in [first, last] {
                let (done, at) = waiting.await.unwrap();
                assert_eq!((done.unwrap(), at), (1, 1));
            }
        });
    }

    fn wai_01_immediate_tasks_cost_three_iterations(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            let mut tasks = [(); 3].map(|()| create_task(async {})).into();
            let waiting = wait(&mut tasks, None, ReturnWhen::AllCompleted);
            assert_eq!(ticks(&core, waiting).await, 3);
            let mut done = vec![create_task(async {})];
            yield_now().await.unwrap();
            let waiting = wait(&mut done, None, ReturnWhen::AllCompleted);
            assert_eq!(ticks(&core, waiting).await, 2, "what is done is noticed one later");
        });
    }

    fn wfr_01_without_a_limit_it_is_a_plain_await(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            let value = wait_for(async { Ok::<_, ()>(sleep(HOUR).await.is_ok()) }, None);
            assert_eq!(value.await, Ok(Ok(true)));
            let same = me().id();
            let inside = wait_for(async { Ok::<_, ()>(me().id()) }, Some(HOUR)).await;
            assert_eq!(inside, Ok(Ok(same)), "in the calling task");
            assert_eq!(ticks(&core, wait_for(ready(Ok::<_, ()>(())), Some(HOUR))).await, 0);
        });
    }

    fn wfr_02_the_timeout_cancels_the_inner_one_and_waits_for_its_end(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let inner = create_task(async {
                let slept = sleep(HOUR).await;
                drop(sleep(seconds(5)).await);
                slept
            });
            let state = inner.local();
            let limited = wait_for(inner, Some(seconds(1))).await;
            assert_eq!(limited.err(), Some(TimeoutError));
            assert!(state.done());
            assert_eq!(now(), 6, "its clean-up was waited for");
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn wfr_03_a_limit_of_zero(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            // A task that has ended gives its result.
            let done = create_task(async { 1 });
            yield_now().await.unwrap();
            assert_eq!(wait_for(done, Some(seconds(0))).await.unwrap().unwrap(), 1);
            // A plain future is never begun.
            let begun = Cell::new(0);
            let begun = Rc::new(begun);
            let note = begun.clone();
            let future = async move {
                note.set(1);
                Ok::<_, ()>(())
            };
            assert_eq!(wait_for(future, Some(seconds(0))).await, Err(TimeoutError));
            assert_eq!(begun.get(), 0);
            // A task that runs is cancelled and waited for.
            let inner = create_task(async {
                let slept = sleep(HOUR).await;
                drop(sleep(seconds(5)).await);
                slept
            });
            let state = inner.local();
            yield_now().await.unwrap();
            assert_eq!(wait_for(inner, Some(seconds(0))).await.err(), Some(TimeoutError));
            assert!(state.done());
            assert_eq!(now(), 5);
        });
    }

    fn wfr_04_a_result_in_time_counts(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let seen = l.seen.clone();
        l.run(async move {
            assert_eq!(wait_for(nap(1), Some(seconds(2))).await.unwrap().unwrap(), 1);
            // Also in the same moment: the task has ended when the alarm is due.
            let inner = create_task(async move {
                sleep(seconds(1)).await.unwrap();
                seen.advance(SECOND);
                2
            });
            assert_eq!(wait_for(inner, Some(seconds(2))).await.unwrap().unwrap(), 2);
            assert_eq!(now(), 3);
        });
    }

    fn wfr_05_an_inner_one_that_goes_on_decides(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let value = wait_for(create_task(reluctant(1, "value")), Some(seconds(1))).await;
            assert_eq!(value.unwrap().unwrap(), "value");
            let inline = async { reluctant(1, Err::<(), _>("own error")).await };
            let error = wait_for(inline, Some(seconds(1))).await;
            assert_eq!(error, Ok(Err("own error")));
            let panics = create_task(async {
                reluctant(1, ()).await;
                panic!("during the cancellation")
            });
            let panics = wait_for(panics, Some(seconds(1))).await.unwrap();
            assert!(matches!(panics, Err(JoinError::Panicked(_))));
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn wfr_06_cancelling_who_waits_cancels_the_inner_one_and_waits(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let inner = l
            .create_task(async {
                let slept = sleep(HOUR).await;
                drop(sleep(seconds(5)).await);
                slept
            })
            .unwrap();
        let state = inner.local();
        let outer = l.create_task(wait_for(inner, Some(HOUR))).unwrap();
        l.turns(2);
        outer.cancel();
        l.turns(3);
        assert!(!state.done() && !outer.done());
        assert_eq!(state.cancelling(), 1);
        l.seen.advance(5 * SECOND);
        finish(&l, &outer);
        assert!(state.done());
        assert!(outer.cancelled());
    }

    /// Cancelled while the inner one cleans up after the expiry, it is not a timeout any more.
    fn wfr_06_a_cancellation_after_the_expiry_wins(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let inner = async {
            let slept = sleep(HOUR).await;
            drop(sleep(HOUR).await);
            slept
        };
        let outer = l.create_task(wait_for(inner, Some(seconds(1)))).unwrap();
        l.run(sleep(seconds(2))).unwrap();
        assert!(!outer.done(), "it cleans up");
        outer.cancel();
        l.turn();
        assert!(outer.cancelled());
    }

    fn wfr_07_done_and_cancelled_in_the_same_moment_the_cancellation_wins(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let inner = l.create_task(async {
            yield_now().await.unwrap();
            1
        });
        let inner = inner.unwrap();
        let state = inner.local();
        let outer = l.create_task(wait_for(inner, Some(HOUR))).unwrap();
        l.turns(2);
        assert!(state.done() && !outer.done(), "its step is queued");
        outer.cancel();
        l.turn();
        assert!(outer.cancelled());
    }

    fn wfr_08_a_shielded_inner_one_survives(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            for limit in [0, 1] {
                let inner = nap(10);
                let state = inner.local();
                let limited = wait_for(shield(inner), Some(seconds(limit))).await;
                assert_eq!(limited.err(), Some(TimeoutError));
                assert!(!state.done());
                assert_eq!(state.cancelling(), 0);
                sleep(seconds(20)).await.unwrap();
                assert!(state.done());
            }
        });
    }

    fn heb_01_one_after_the_other(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            type Attempt = fn() -> std::future::Ready<Result<u32, &'static str>>;
            let none: [Attempt; 0] = [];
            let race = staggered_race(none, None).await.unwrap();
            assert_eq!(race.winner, None);
            assert!(race.exceptions.is_empty());
            // The first succeeds: the second does not begin.
            let begun = Rc::new(Cell::new(0));
            let attempt = |secs: u64, result: Result<u32, &'static str>| {
                let begun = begun.clone();
                move || async move {
                    begun.set(begun.get() + 1);
                    sleep(seconds(secs)).await.map_err(|_| "cancelled")?;
                    result
                }
            };
            let race = staggered_race([attempt(0, Ok(1)), attempt(0, Ok(2))], None).await.unwrap();
            assert_eq!(race.winner, Some((1, 0)));
            assert_eq!((race.exceptions.len(), begun.take()), (1, 1));
            // A failure begins the next one.
            let attempts = [attempt(1, Err("no")), attempt(1, Ok(2)), attempt(0, Ok(3))];
            let race = staggered_race(attempts, None).await.unwrap();
            assert_eq!(race.winner, Some((2, 1)));
            assert_eq!(race.exceptions[0].as_ref().unwrap().error(), Some(&"no"));
            assert!(race.exceptions[1].is_none());
            assert_eq!((now(), begun.take()), (2, 2));
            // So does the delay.
            let attempts = [attempt(60, Ok(1)), attempt(1, Ok(2))];
            let race = staggered_race(attempts, Some(seconds(3))).await.unwrap();
            assert_eq!(race.winner, Some((2, 1)));
            assert_eq!(race.exceptions[0].as_ref().unwrap().error(), Some(&"cancelled"));
            assert_eq!(now(), 6);
            // None succeeds. A failure counts from where it happened.
            let attempts = [attempt(5, Err("a")), attempt(1, Err("b")), attempt(9, Err("c"))];
            let race = staggered_race(attempts, Some(seconds(3))).await.unwrap();
            assert_eq!(race.winner, None);
            let errors = race.exceptions.iter().map(|one| *one.as_ref().unwrap().error().unwrap());
            assert_eq!(errors.collect::<Vec<_>>(), ["a", "b", "c"]);
            assert_eq!(now(), 6 + 4 + 9);
        });
        l.turn();
        assert_eq!(l.stats().timers, 0);
    }

    fn heb_02_of_winners_at_the_same_time_one_wins(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let task = l
            .create_task(async {
                let attempts = [3, 2].map(|secs| {
                    move || async move {
                        sleep(seconds(secs)).await.map_err(|_| "cancelled")?;
                        Ok::<_, &str>(secs)
                    }
                });
                staggered_race(attempts, Some(seconds(1))).await
            })
            .unwrap();
        let race = l.run(task).unwrap().unwrap();
        assert_eq!(race.winner, Some((3, 0)));
        assert!(matches!(race.exceptions[1], Some(Failure::Cancelled(_))));
    }

    fn heb_03_repeated_cancellation_reaches_the_runners(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let count = Rc::new(Cell::new(0));
        let runner = count.clone();
        let task = l
            .create_task(staggered_race(
                [move || async move {
                    while runner.get() < 3 {
                        if sleep(HOUR).await.is_err() {
                            runner.set(runner.get() + 1);
                        }
                    }
                    Err::<(), _>("ended")
                }],
                None,
            ))
            .unwrap();
        l.turns(3);
        for round in 1..=3 {
            assert!(!task.done());
            task.cancel();
            l.turns(3);
            assert_eq!(count.get(), round);
        }
        finish(&l, &task);
        assert!(task.cancelled());
        assert_eq!(panic_of(drop_outside), "no running event loop");
    }
}

fn drop_outside() {
    let mut racing = Box::pin(staggered_race([|| ready(Ok::<_, ()>(()))], None));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = std::future::Future::poll(racing.as_mut(), &mut cx);
}
