//! `gather` and `shield`.

use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use ringloop::task::TaskOptions;
use ringloop::{
    EventLoopExt, Failure, JoinError, Task, create_task, gather, get_running_loop, shield, sleep,
    timeout, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, SECOND, me, now, panic_of, seconds, ticks};
use uring_tests::watch::Watch;

use crate::common::finish;

/// Sleeps, then gives the value.
async fn after<T>(secs: u64, value: Result<T, &'static str>) -> Result<T, &'static str> {
    sleep(seconds(secs)).await.map_err(|_| "cancelled")?;
    value
}

/// A task that goes on when it is cancelled, and counts that.
fn stubborn(count: &Rc<Cell<u32>>, secs: u64) -> Task<u64> {
    let count = count.clone();
    create_task(async move {
        if sleep(seconds(secs)).await.is_err() {
            count.set(count.get() + 1);
        }
        secs
    })
}

on_both_drivers! {
    fn gth_01_results_in_the_order_of_the_arguments(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let futures = [(3, 'a'), (1, 'b'), (2, 'c')].map(|(secs, value)| after(secs, Ok(value)));
            assert_eq!(gather(futures).await.unwrap(), ['a', 'b', 'c']);
            assert_eq!(now(), 3, "when all are done");
            let tasks = [3, 1, 2].map(|secs| create_task(async move {
                sleep(seconds(secs)).await.unwrap();
                secs
            }));
            assert_eq!(gather(tasks).await.unwrap(), [3, 1, 2]);
            assert_eq!(now(), 6);
        });
    }

    fn gth_02_the_first_failure_completes_it_and_the_rest_run_on_silently(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        let ran_on = Dropped(order.clone(), "ran on");
        l.run(async move {
            let panics = create_task(async {
                sleep(seconds(2)).await.unwrap();
                panic!("silently")
            });
            let runs_on = create_task(async move {
                sleep(seconds(3)).await.unwrap();
                drop(ran_on);
            });
            let fails = create_task(async {
                sleep(seconds(1)).await.unwrap();
                panic!("first")
            });
            let Err(Failure::Panicked(panic)) = gather([panics, runs_on, fails]).await else {
                panic!("it did not fail");
            };
            assert_eq!(panic.message(), "first");
            assert_eq!(now(), 1);
            sleep(seconds(5)).await.unwrap();
            assert_eq!(order.take(), ["ran on"]);
            // An error of a plain future.
            let failed = gather([after(1, Ok(1)), after(1, Err("two")), after(2, Err("three"))]);
            assert_eq!(failed.await.unwrap_err().error(), Some(&"two"));
            assert_eq!(now(), 7);
            sleep(seconds(2)).await.unwrap();
        });
    }

    fn gth_03_failures_as_values(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let task = l
            .create_task(async {
                let cancelled = create_task(async {
                    sleep(HOUR).await.unwrap();
                    1
                });
                cancelled.cancel_with("one");
                let panicked = create_task(async { panic!("two") });
                let fine = create_task(async { 3 });
                let tasks = [cancelled, panicked, fine];
                let results = gather(tasks).return_exceptions().await.unwrap();
                let [Err(Failure::Cancelled(one)), Err(Failure::Panicked(two)), Ok(3)] = &results[..]
                else {
                    panic!("{results:?}");
                };
                assert_eq!(one.message(), Some("one"));
                assert_eq!(two.message(), "two");
                let failed = gather([ready(Err::<(), _>("no"))]).return_exceptions();
                assert_eq!(failed.await.unwrap()[0].as_ref().unwrap_err().error(), Some(&"no"));
                results
            })
            .unwrap();
        // As a value a cancellation cancels nobody.
        assert_eq!(l.run(task).unwrap().len(), 3);
    }

    fn gth_04_a_cancelled_child_is_a_failure_of_it(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let child = create_task(sleep(HOUR));
            let other = create_task(sleep(HOUR));
            let state = other.local();
            let cancel = child.local();
            let canceller = create_task(async move {
                yield_now().await.unwrap();
                cancel.cancel_with("a child");
            });
            let failed = gather([child, other]).await;
            let Err(Failure::Cancelled(cancelled)) = failed else {
                panic!("not cancelled");
            };
            assert_eq!(cancelled.message(), Some("a child"));
            assert_eq!(me().cancelling(), 0, "it was not cancelled itself");
            assert!(!state.done(), "the rest run on");
            assert!(state.cancel());
            canceller.await.unwrap();
        });
        // Carried up it ends the task, as in asyncio.
        let task = l.create_task(async {
            let child = create_task(sleep(HOUR));
            child.cancel();
            gather([child]).await.map(drop)
        });
        let task = task.unwrap();
        finish(&l, &task);
        assert!(task.cancelled());
    }

    fn gth_05_without_arguments_it_is_done(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            let none: [Task<()>; 0] = [];
            assert_eq!(ticks(&core, gather(none)).await, 0);
        });
        let outside = panic_of(|| gather([ready(Ok::<(), ()>(()))]));
        assert_eq!(outside, "no running event loop");
    }

    /// Tasks belong to their loops: those of another one can not be waited for.
    fn gth_06_tasks_of_another_loop(kind: DriverKind) {
        let (one, two) = (Watch::by_hand(kind), Watch::by_hand(kind));
        let tasks = [1, 2].map(|n| one.create_task(async move { n }).unwrap());
        // All of one loop, which is not the running one when they are gathered.
        assert_eq!(one.run(gather(tasks)).unwrap(), [1, 2]);
        let pending = one.create_task(sleep(HOUR)).unwrap();
        let state = pending.local();
        let mixed = two.run(async move {
            let own = create_task(yield_now());
            panic_of(|| {
                let mut gathering = gather([pending, own]);
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(&mut gathering).poll(&mut cx).is_ready()
            })
        });
        assert_eq!(mixed, "the awaited task is attached to a different loop");
        two.turns(2);
        state.cancel();
        one.turn();
    }

    /// (That equal arguments share a task has no counterpart: a future is owned by one place.)
    fn gth_07_plain_futures_become_tasks_of_the_running_loop(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let outer = me().id();
            let ids = gather([0; 2].map(|_| async { Ok::<_, ()>(me().id()) })).await.unwrap();
            assert_ne!(ids[0], ids[1]);
            assert!(!ids.contains(&outer));
            // At once, not when it is awaited.
            let begun = Rc::new(Cell::new(false));
            let note = begun.clone();
            let gathering = gather([async move {
                note.set(true);
                Ok::<_, ()>(())
            }]);
            yield_now().await.unwrap();
            assert!(begun.get());
            gathering.await.unwrap();
        });
        let outside = panic_of(|| gather([pending::<Result<(), ()>>()]));
        assert_eq!(outside, "no running event loop");
    }

    fn gth_08_cancelling_who_waits_cancels_all_children(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let count = Rc::new(Cell::new(0));
        let note = count.clone();
        let mut task = l
            .create_task(async move {
                let naps = [(); 3].map(|()| {
                    let count = note.clone();
                    async move {
                        let slept = sleep(HOUR).await;
                        count.set(count.get() + u32::from(slept.is_err()));
                        // Cleaning up takes its time.
                        sleep(seconds(1)).await?;
                        slept
                    }
                });
                gather(naps).await.map(drop)
            })
            .unwrap();
        l.turns(3);
        task.cancel_with("outside");
        l.turns(3);
        assert_eq!(count.get(), 3);
        assert!(!task.done(), "it waits for them");
        l.seen.advance(SECOND);
        finish(&l, &task);
        let Some(Err(JoinError::Cancelled(cancelled))) = task.result() else {
            panic!("not cancelled");
        };
        assert_eq!(cancelled.message(), Some("outside"));
    }

    fn gth_09_a_cancel_after_all_are_done_says_false(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut done = gather([ready(Ok::<_, ()>(1))]);
            yield_now().await.unwrap();
            // The tasks have ended, but nobody looked: a gathering looks when it is awaited.
            assert!(!done.cancel());
            assert_eq!(done.await.unwrap(), [1]);
            let mut pending = gather([sleep(HOUR)]);
            yield_now().await.unwrap();
            assert!(pending.cancel());
            assert!(matches!(pending.await, Err(Failure::Cancelled(_))));
        });
    }

    fn gth_10_gth_12_a_cancelled_gathering_is_cancelled_whatever_its_children_do(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for as_values in [false, true] {
            let count = Rc::new(Cell::new(0));
            let children = count.clone();
            let mut task = l
                .create_task(async move {
                    let tasks = [1, 2].map(|secs| stubborn(&children, secs));
                    if as_values {
                        gather(tasks).return_exceptions().await.map(drop)
                    } else {
                        let failed = gather(tasks).await.expect_err("cancelled");
                        let Failure::Cancelled(cancelled) = failed else {
                            panic!("not cancelled");
                        };
                        Err(cancelled)
                    }
                })
                .unwrap();
            l.turns(3);
            task.cancel_with("my message");
            finish(&l, &task);
            assert_eq!(count.get(), 2, "both swallowed it");
            let Some(Err(JoinError::Cancelled(cancelled))) = task.result() else {
                panic!("the task did not end cancelled");
            };
            assert_eq!(cancelled.message(), Some("my message"));
        }
    }

    fn gth_01_immediate_tasks_cost_three_iterations(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            let immediate = || [1, 2, 3].map(|n| ready(Ok::<_, ()>(n)));
            assert_eq!(ticks(&core, gather(immediate())).await, 3);
            assert_eq!(ticks(&core, gather(immediate()).return_exceptions()).await, 3);
            let done = [1, 2].map(|n| create_task(async move { n }));
            yield_now().await.unwrap();
            assert_eq!(ticks(&core, gather(done)).await, 0, "all were done");
        });
    }

    fn shd_01_result_error_and_inner_cancellation_are_passed_on(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            assert_eq!(shield(create_task(after(1, Ok(42)))).await.unwrap(), Ok(42));
            assert_eq!(shield(create_task(after(1, Err::<(), _>("no")))).await.unwrap(), Err("no"));
            let panics = shield(create_task(async { panic!("inner") })).await;
            let Err(JoinError::Panicked(_)) = panics else {
                panic!("no panic");
            };
            let inner = create_task(sleep(HOUR));
            inner.cancel_with("inner");
            let Err(JoinError::Cancelled(cancelled)) = shield(inner).await else {
                panic!("not cancelled");
            };
            assert_eq!(cancelled.message(), Some("inner"));
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn shd_02_cancelling_the_outer_one_leaves_the_inner_one_running(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let inner = l.create_task(sleep(seconds(5))).unwrap();
        let state = inner.local();
        let outer = l.create_task(async move { shield(inner).await.map(drop) }).unwrap();
        l.turns(2);
        outer.cancel();
        l.turn();
        assert!(outer.cancelled());
        assert!(!state.done());
        assert_eq!(state.cancelling(), 0);
        // Whom it wakes at its end is gone.
        l.seen.advance(5 * SECOND);
        l.turns(3);
        assert!(state.done());
        // The inner one cancelled instead, the outer one hears of it.
        let inner = l.create_task(sleep(HOUR)).unwrap();
        let state = inner.local();
        let outer = l.create_task(async move { shield(inner).await.map(drop) }).unwrap();
        l.turns(2);
        state.cancel();
        finish(&l, &outer);
        assert!(outer.cancelled());
    }

    fn shd_03_after_a_cancel_a_result_is_silent_and_a_panic_reported_once(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for panics in [false, true] {
            let inner = l.create_task(async move {
                sleep(seconds(5)).await.unwrap();
                assert!(!panics, "late");
            });
            let inner = inner.unwrap();
            let id = inner.id().to_string();
            let outer = l.create_task(shield(inner)).unwrap();
            l.turns(2);
            outer.cancel();
            l.turn();
            assert!(outer.cancelled());
            drop(outer);
            l.seen.advance(5 * SECOND);
            l.turns(4);
            let told = l.told();
            assert_eq!(told.len(), usize::from(panics));
            for told in told {
                assert_eq!(told.message, "panic exception in shielded future");
                assert_eq!(told.exception.as_deref(), Some("late"));
                assert_eq!(told.task, Some(id.clone()));
            }
        }
        // A loop that is closed meanwhile does not keep the task.
        let order = Order::default();
        let held = Dropped(order.clone(), "dropped");
        let inner = l.create_task_with(
            async move {
                let _held = held;
                pending::<()>().await;
            },
            TaskOptions::default().quiet(true),
        );
        let outer = l.create_task(shield(inner.unwrap())).unwrap();
        l.turns(2);
        outer.cancel();
        l.turn();
        drop(outer);
        l.close().unwrap();
        assert_eq!(order.take(), ["dropped"]);
    }

    fn shd_04_a_finished_inner_one_is_returned_directly(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            let done = create_task(async { 1 });
            yield_now().await.unwrap();
            assert_eq!(ticks(&core, shield(done)).await, 0);
            let immediate = shield(create_task(async {}));
            assert_eq!(ticks(&core, immediate).await, 3);
        });
    }

    fn shd_05_together_with_gather(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        // A gathering of shielded tasks: its cancellation stops at them.
        let inner = [1, 2].map(|secs| l.create_task(sleep(seconds(secs))).unwrap());
        let states = [0, 1].map(|at: usize| inner[at].local());
        let outer = l.create_task(async move { gather(inner.map(shield)).await.map(drop) });
        let outer = outer.unwrap();
        l.turns(3);
        outer.cancel();
        l.turns(4);
        assert!(outer.cancelled());
        assert!(states.iter().all(|state| !state.done()));
        // A shielded gathering: cancelling who waits leaves its children alone.
        let child = l.create_task(sleep(seconds(5))).unwrap();
        let state = child.local();
        let outer = l
            .create_task(async move {
                let gathering = create_task(async { gather([child]).await.map(drop) });
                shield(gathering).await.map(drop)
            })
            .unwrap();
        l.turns(4);
        outer.cancel();
        l.turns(2);
        assert!(outer.cancelled());
        assert!(!state.done());
        l.seen.advance(6 * SECOND);
        l.turns(5);
        assert!(state.done());
    }

    /// A task is shielded, so it is of a loop already: of the running one when it was made there.
    fn shd_06_the_loop_of_a_shield_is_its_tasks(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let task = l.create_task(async { 42 }).unwrap();
        assert_eq!(l.run(shield(task)).unwrap(), 42);
        l.run(async {
            let task = get_running_loop().create_task(async { 43 }).unwrap();
            assert_eq!(shield(task).await.unwrap(), 43);
        });
        assert_eq!(panic_of(|| shield(create_task(async {}))), "no running event loop");
    }

    fn shd_01_a_shield_in_a_timeout(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let inner = create_task(after(5, Ok("whole")));
            let state = inner.local();
            let mut shielded = shield(inner);
            assert!(timeout(seconds(1), &mut shielded).await.is_err());
            assert!(!state.done());
            // And waited for again.
            assert_eq!(shielded.await.unwrap(), Ok("whole"));
            assert_eq!(now(), 5);
        });
    }
}
