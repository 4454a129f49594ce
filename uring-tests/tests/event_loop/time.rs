//! `sleep` and `timeout`, by a clock that is turned by hand.

use std::future::{Future, pending, poll_fn, ready};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join;
use ringloop::{
    Cancelled, EventLoopExt, JoinError, RunError, TimeoutError, create_task, get_running_loop,
    sleep, timeout, timeout_at, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, SECOND, me, now, seconds};
use uring_tests::watch::Watch;

on_both_drivers! {
    fn slp_01_sleep_returns_after_the_delay(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            sleep(seconds(5)).await.unwrap();
            assert_eq!(now(), 5);
            let (one, two) = join(sleep(seconds(2)), sleep(seconds(1))).await;
            assert!(one.is_ok() && two.is_ok());
            assert_eq!(now(), 7);
        });
        // And on the real clock not before.
        let l = Watch::new(kind);
        let start = l.time();
        l.run(sleep(Duration::from_millis(2))).unwrap();
        assert!(l.time() + 1 >= start + 2_000_000);
    }

    /// It wakes the task that polled it last, and no later than was said at first.
    fn slp_01_a_sleep_that_has_begun_may_move_to_another_task(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let mut nap = Box::pin(sleep(seconds(5)));
            let begun = poll_fn(|cx| Poll::Ready(nap.as_mut().poll(cx).is_pending()));
            assert!(begun.await);
            sleep(seconds(2)).await.unwrap();
            let moved = timeout(seconds(60), create_task(nap)).await;
            moved.expect("it is woken").unwrap().unwrap();
            assert_eq!(now(), 5);
        });
        assert_eq!(l.stats().timers, 0);
    }

    fn slp_01_the_longest_sleep_is_for_ever(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let task = l.create_task(sleep(Duration::MAX)).unwrap();
        l.run(sleep(HOUR)).unwrap();
        assert!(!task.done());
        task.abort();
        l.turn();
        assert_eq!(l.stats().timers, 0);
    }

    fn slp_02_a_sleep_of_zero_gives_way_for_one_iteration(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            let before = core.iterations();
            sleep(Duration::ZERO).await.unwrap();
            assert_eq!(core.iterations(), before + 1);
            yield_now().await.unwrap();
            assert_eq!(core.iterations(), before + 2);
            assert_eq!(core.stats().timers, 0);
        });
    }

    fn tmo_02_a_deadline_that_is_not_reached_has_no_effect(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            assert_eq!(timeout(seconds(9), ready(1)).await, Ok(1));
            timeout(seconds(9), sleep(seconds(1))).await.unwrap().unwrap();
            // As good as none.
            timeout(Duration::MAX, sleep(seconds(1))).await.unwrap().unwrap();
            timeout_at(u64::MAX, sleep(seconds(1))).await.unwrap().unwrap();
            assert_eq!(now(), 3);
            assert_eq!(me().cancelling(), 0);
        });
        l.turn();
        assert_eq!(l.stats().timers, 0);
    }

    fn tmo_03_zero_and_past_deadlines_fire_at_the_first_suspension(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let past = get_running_loop().time() - 1;
            for body in [sleep(HOUR), sleep(Duration::ZERO)] {
                assert_eq!(timeout(Duration::ZERO, body).await.err(), Some(TimeoutError));
            }
            for body in [sleep(HOUR), sleep(Duration::ZERO)] {
                assert_eq!(timeout_at(past, body).await.err(), Some(TimeoutError));
            }
            assert_eq!(timeout_at(past, yield_now()).await.err(), Some(TimeoutError));
            // What does not suspend is not ended.
            assert_eq!(timeout(Duration::ZERO, ready(1)).await, Ok(1));
            assert_eq!(timeout_at(past, ready(2)).await, Ok(2));
            // Of futures that cannot be told, the body is dropped.
            let order = Order::default();
            let held = Dropped(order.clone(), "dropped");
            let body = async move {
                let _held = held;
                pending::<()>().await;
            };
            assert_eq!(timeout(Duration::ZERO, body).await, Err(TimeoutError));
            assert_eq!(order.take(), ["dropped"]);
            assert_eq!(now(), 0);
        });
    }

    /// The time runs from the first poll, whatever the body does before it suspends.
    fn tmo_04_nested_on_a_busy_loop(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let seen = l.seen.clone();
        let busy = move |nanos| seen.advance(nanos);
        l.run(async move {
            // Behind the expiry of the inner one comes work that the outer one shall stop.
            let outer = timeout(seconds(10), async {
                let inner = timeout(seconds(1), async {
                    busy(5 * SECOND);
                    sleep(HOUR).await
                })
                .await;
                assert_eq!(inner.err(), Some(TimeoutError));
                busy(20 * SECOND);
                sleep(HOUR).await
            })
            .await;
            assert_eq!(outer.err(), Some(TimeoutError));
            assert_eq!(now(), 25);
        });
    }

    fn tmo_04_nested_with_one_deadline_or_two(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            // Of two that expire together only the topmost says so.
            let deadline = get_running_loop().time() + SECOND;
            let inner_saw = Order::default();
            let note = inner_saw.clone();
            let outer = timeout_at(deadline, async move {
                let inner = timeout_at(deadline, sleep(HOUR)).await;
                note.add(matches!(inner, Ok(Err(_))));
                inner
            })
            .await;
            assert!(matches!(outer, Err(TimeoutError)));
            assert_eq!(inner_saw.take(), [true], "a cancellation, no expiry");
            // The outer one alone.
            let outer = timeout(seconds(1), async {
                timeout(seconds(2), sleep(HOUR)).await.unwrap()
            })
            .await;
            assert_eq!(outer.err(), Some(TimeoutError));
            // The inner one alone.
            let outer = timeout(seconds(2), async {
                let inner = timeout(seconds(1), sleep(HOUR)).await;
                assert_eq!(inner.err(), Some(TimeoutError));
                "went on"
            })
            .await;
            assert_eq!(outer, Ok("went on"));
            assert_eq!(now(), 3);
        });
    }

    fn tmo_04_a_timeout_inside_the_clean_up_of_another(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let outer = timeout(seconds(1), async {
                let cancelled = sleep(HOUR).await.unwrap_err();
                let inner = timeout(seconds(2), sleep(HOUR)).await;
                assert_eq!(inner.err(), Some(TimeoutError));
                Err::<(), _>(cancelled)
            })
            .await;
            assert_eq!(outer.err(), Some(TimeoutError));
            assert_eq!(now(), 3);
        });
    }

    /// One branch of a join that expires leaves the other alone.
    fn tmo_04_a_timeout_in_one_branch_leaves_the_other_alone(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let (one, two) = join(timeout(seconds(1), sleep(HOUR)), sleep(seconds(5))).await;
            assert_eq!(one.err(), Some(TimeoutError));
            two.expect("not cancelled");
            assert_eq!(now(), 5);
            // Two timeouts side by side expire each at its own time.
            let one = async { (timeout(seconds(2), sleep(HOUR)).await.is_err(), now()) };
            let two = async { (timeout(seconds(1), sleep(HOUR)).await.is_err(), now()) };
            assert_eq!(join(one, two).await, ((true, 7), (true, 6)));
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn tmo_06_a_cancellation_from_outside_is_not_converted(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        // Before the deadline.
        let task = l.create_task(timeout(seconds(5), sleep(HOUR))).unwrap();
        l.turn();
        task.cancel_with("outside");
        l.turn();
        assert!(task.cancelled());
        // In the same iteration as the expiry, in both orders.
        for first in ["cancel", "expiry"] {
            let task = l.create_task(timeout(seconds(1), sleep(HOUR))).unwrap();
            l.turn();
            if first == "cancel" {
                task.cancel();
                l.seen.advance(SECOND);
                l.turn();
            } else {
                let other = task.local();
                l.call_at(l.time() + SECOND, move || assert!(other.cancel())).unwrap();
                l.seen.advance(SECOND);
                l.turns(2);
            }
            assert!(task.cancelled(), "{first} first");
            assert_eq!(task.cancelling(), 1);
        }
    }

    /// The body is cleaning up after the expiry and still holds that cancellation.
    fn tmo_06_a_cancellation_behind_the_expiry_counts_too(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let body = async {
            let expired = sleep(HOUR).await.unwrap_err();
            drop(sleep(seconds(5)).await.expect_err("from outside"));
            Err::<(), _>(expired)
        };
        let task = l.create_task(timeout(seconds(1), body)).unwrap();
        let other = task.local();
        l.call_at(l.time() + 3 * SECOND, move || assert!(other.cancel())).unwrap();
        let Err(RunError::Task(JoinError::Cancelled(_))) = l.run_until_complete(task) else {
            panic!("converted");
        };
        assert_eq!(l.time() / SECOND, 4);
    }

    /// One that was caught before, or taken back, belongs to the past.
    fn tmo_06_earlier_cancellations_do_not_confuse_a_timeout(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for taken_back in [false, true] {
            let task = l
                .create_task(async move {
                    drop(sleep(HOUR).await.unwrap_err());
                    if taken_back {
                        me().uncancel();
                    }
                    let expired = timeout(seconds(1), sleep(HOUR)).await;
                    assert_eq!(expired.err(), Some(TimeoutError));
                    timeout(seconds(9), sleep(seconds(1))).await.unwrap().unwrap();
                    me().cancelling()
                })
                .unwrap();
            l.turn();
            task.cancel();
            assert_eq!(l.run(task).unwrap(), u32::from(!taken_back));
        }
        // A second one while the first is being handled is a cancellation from outside.
        let task = l
            .create_task(async {
                drop(sleep(HOUR).await.unwrap_err());
                timeout(seconds(5), sleep(HOUR)).await
            })
            .unwrap();
        l.turn();
        task.cancel();
        l.turn();
        task.cancel();
        l.turn();
        assert!(task.cancelled());
    }

    fn tmo_07_the_task_itself_does_not_end_cancelled(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let task = l.create_task(timeout(seconds(1), sleep(HOUR))).unwrap();
        let state = task.local();
        assert_eq!(l.run(task).unwrap().err(), Some(TimeoutError));
        assert_eq!(state.cancelling(), 0);
        // Nor when a request to it waits to be taken back.
        let count = l.run(async {
            me().cancel();
            me().uncancel();
            let expired = timeout(seconds(1), sleep(HOUR)).await;
            assert_eq!(expired.err(), Some(TimeoutError));
            me().cancelling()
        });
        assert_eq!(count, 0);
    }

    fn tmo_12_no_suspension_no_expiry(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let seen = l.seen.clone();
        l.run(async move {
            let ran_over = timeout(seconds(1), async {
                seen.advance(5 * SECOND);
                "done"
            })
            .await;
            assert_eq!(ran_over, Ok("done"));
            // Swallowed, it is no error; the count is what it was; nothing comes later.
            let swallowed = timeout(seconds(1), async {
                drop(sleep(HOUR).await.unwrap_err());
                sleep(seconds(3)).await.expect("delivered once");
                "went on"
            })
            .await;
            assert_eq!(swallowed, Ok("went on"));
            assert_eq!(me().cancelling(), 0);
            sleep(seconds(1)).await.expect("nothing is left of it");
        });
    }

    /// A body that turns the cancellation into something else decides.
    fn tmo_12_the_body_decides_what_its_cancellation_means(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let own = timeout(seconds(1), async {
                match sleep(HOUR).await {
                    Ok(()) => Ok(()),
                    Err(cancelled) => {
                        drop(cancelled);
                        Err("own error")
                    }
                }
            })
            .await;
            assert_eq!(own, Ok(Err("own error")));
            // Inside an error it is still the cancellation.
            let wrapped = timeout(seconds(1), async {
                sleep(HOUR).await.map_err(std::io::Error::from)
            })
            .await;
            assert!(matches!(wrapped, Err(TimeoutError)));
            let unprompted = timeout(seconds(1), async { Err::<(), _>(Cancelled::new()) }).await;
            assert!(matches!(unprompted, Ok(Err(_))));
            drop(unprompted);
        });
    }
}
