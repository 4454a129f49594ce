//! Timeouts that can be asked and moved. What they have in common with `timeout` is tested with the
//! event loop's time.

use std::future::{Future, pending};
use std::io;
use std::rc::Rc;
use std::task::{Context, Waker};

use futures_util::future::join;
use ringloop::task::bare;
use ringloop::{
    Deadline, EventLoopExt, TimeoutError, TimeoutStateError, get_running_loop, sleep, timeout,
    timeout_at, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, SECOND, me, now, panic_of, seconds};
use uring_tests::watch::Watch;

use crate::common::error;

/// A time of the clock that stands at one second when the test begins.
fn at(seconds: u64) -> u64 {
    (seconds + 1) * SECOND
}

on_both_drivers! {
    fn tmo_01_relative_and_absolute_deadlines(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let deadline = Deadline::after(seconds(1));
            assert_eq!(deadline.when(), Some(at(1)));
            assert!(!deadline.expired());
            let body = async {
                let cancelled = sleep(HOUR).await.unwrap_err();
                assert!(deadline.expired(), "from the cancellation on");
                Err::<(), _>(cancelled)
            };
            assert!(matches!(deadline.run(body).await, Err(TimeoutError)));
            assert!(deadline.expired());
            assert_eq!(deadline.when(), Some(at(1)));

            let deadline = Deadline::at(at(3));
            assert!(matches!(deadline.run(sleep(HOUR)).await, Err(TimeoutError)));
            assert!(deadline.expired());
            assert_eq!(now(), 3);
            // A wait of another task's making is cancelled like any.
            let task = get_running_loop().create_task(sleep(HOUR)).unwrap();
            assert!(timeout(seconds(1), task).await.is_err());
            assert_eq!(now(), 4);
            let text = io::Error::from(TimeoutError);
            assert_eq!(text.kind(), io::ErrorKind::TimedOut);
            assert_eq!(text.to_string(), "timed out");
        });
    }

    fn tmo_02_a_disabled_deadline_has_no_effect(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let deadline = Deadline::never();
            assert_eq!(deadline.when(), None);
            deadline.run(sleep(HOUR)).await.unwrap().unwrap();
            assert!(!deadline.expired());
            assert_eq!(now(), 3600);
        });
    }

    /// Other errors pass, before and after the expiry; the deadline tells which it was.
    fn tmo_05_errors_of_the_body_pass(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            for late in [false, true] {
                let deadline = Deadline::after(seconds(1));
                let body = async {
                    if late {
                        drop(sleep(HOUR).await.unwrap_err());
                    }
                    Err::<(), _>(error("own"))
                };
                let own = deadline.run(body).await.expect("no timeout").unwrap_err();
                assert_eq!(own.to_string(), "own");
                assert_eq!(deadline.expired(), late);
                assert_eq!(me().cancelling(), 0);
            }
        });
    }

    fn tmo_08_a_deadline_is_moved_later_earlier_and_to_never(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            // Later, from inside the body.
            let deadline = Deadline::after(seconds(1));
            let body = async {
                sleep(seconds(0)).await?;
                deadline.reschedule(Some(at(5))).unwrap();
                assert_eq!(deadline.when(), Some(at(5)));
                sleep(HOUR).await
            };
            assert!(matches!(deadline.run(body).await, Err(TimeoutError)));
            assert_eq!(now(), 5);
            // Never, before the first suspension and behind it.
            for first in [true, false] {
                let deadline = Deadline::after(seconds(1));
                let body = async {
                    if !first {
                        yield_now().await?;
                    }
                    deadline.reschedule(None).unwrap();
                    sleep(seconds(10)).await
                };
                deadline.run(body).await.unwrap().unwrap();
                assert!(!deadline.expired());
            }
            assert_eq!(now(), 25);
            // From a deadline that was never, to a time, to one that is over.
            let deadline = Deadline::never();
            let body = async {
                deadline.reschedule(Some(at(30))).unwrap();
                yield_now().await?;
                deadline.reschedule(Some(at(20))).unwrap();
                sleep(HOUR).await
            };
            assert!(matches!(deadline.run(body).await, Err(TimeoutError)));
            assert_eq!(now(), 25);
            // One that was over from the start is moved before the body suspends.
            let deadline = Deadline::after(seconds(0));
            let body = async {
                deadline.reschedule(Some(at(30))).unwrap();
                sleep(seconds(1)).await
            };
            deadline.run(body).await.unwrap().unwrap();
            yield_now().await.unwrap();
            assert_eq!(core.stats().timers, 0);
        });
    }

    fn tmo_08_a_deadline_is_moved_by_somebody_else(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            // Another branch of the task.
            let deadline = Deadline::after(seconds(1));
            let mover = async {
                sleep(seconds(0)).await.unwrap();
                deadline.reschedule(Some(at(3))).unwrap();
            };
            let (limited, ()) = join(deadline.run(sleep(HOUR)), mover).await;
            assert!(matches!(limited, Err(TimeoutError)));
            assert_eq!(now(), 3);
            // Another task.
            let deadline = Rc::new(Deadline::never());
            let far = deadline.clone();
            let task = get_running_loop()
                .create_task(async move { far.run(sleep(HOUR)).await.is_err() })
                .unwrap();
            yield_now().await.unwrap();
            deadline.reschedule(Some(at(4))).unwrap();
            assert!(task.await.unwrap());
            assert_eq!(now(), 4);
        });
    }

    fn tmo_08_wrong_states_are_errors(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let deadline = Deadline::after(seconds(1));
            let not_yet = deadline.reschedule(None).unwrap_err();
            assert_eq!(not_yet, TimeoutStateError::NotEntered);
            assert_eq!(not_yet.to_string(), "Timeout has not been entered");
            let body = async {
                let cancelled = sleep(HOUR).await.unwrap_err();
                let expiring = deadline.reschedule(None).unwrap_err();
                assert_eq!(expiring, TimeoutStateError::Expiring);
                Err::<(), _>(cancelled)
            };
            assert!(deadline.run(body).await.is_err());
            let expired = deadline.reschedule(None).unwrap_err();
            assert_eq!(expired.to_string(), "Cannot change state of expired Timeout");
            let deadline = Deadline::after(seconds(1));
            deadline.run(async {}).await.unwrap();
            let finished = deadline.reschedule(None).unwrap_err();
            assert_eq!(finished, TimeoutStateError::Finished);
            // Dropped half-way it has ended too, and its timer is gone.
            let deadline = Deadline::after(HOUR);
            let mut running = Box::pin(deadline.run(pending::<()>()));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(running.as_mut().poll(&mut cx).is_pending());
            drop(running);
            assert_eq!(deadline.reschedule(None), Err(TimeoutStateError::Finished));
            // One that was only made has not begun.
            let deadline = Deadline::after(HOUR);
            drop(deadline.run(pending::<()>()));
            assert_eq!(deadline.reschedule(None), Err(TimeoutStateError::NotEntered));
        });
        l.turn();
        assert_eq!(l.stats().timers, 0);
    }

    fn tmo_09_entered_twice_or_outside_a_task_it_is_an_error(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let again = |deadline: &Deadline| {
                let mut running = Box::pin(deadline.run(async {}));
                let mut cx = Context::from_waker(Waker::noop());
                panic_of(move || running.as_mut().poll(&mut cx))
            };
            let deadline = Deadline::after(seconds(1));
            let inside = deadline.run(async { again(&deadline) }).await.unwrap();
            assert_eq!(inside, "Timeout has already been entered");
            assert_eq!(again(&deadline), "Timeout has already been entered");
        });
        let told = Order::default();
        let note = told.clone();
        l.call_soon(move || {
            let mut cx = Context::from_waker(Waker::noop());
            let mut limited = Box::pin(timeout(seconds(1), async {}));
            note.add(panic_of(move || limited.as_mut().poll(&mut cx)));
        })
        .unwrap();
        l.turn();
        assert_eq!(told.take(), ["Timeout should be used inside a task"]);
    }

    fn tmo_10_debug_shows_the_state(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let show = |deadline: &Deadline| format!("{deadline:?}");
            let deadline = Deadline::at(at(10));
            assert_eq!(show(&deadline), "<Timeout [created]>");
            let body = async {
                assert_eq!(show(&deadline), "<Timeout [active] when=11000000000ns>");
                drop(sleep(HOUR).await);
                assert_eq!(show(&deadline), "<Timeout [expiring] when=11000000000ns>");
            };
            deadline.run(body).await.unwrap();
            assert_eq!(show(&deadline), "<Timeout [expired]>");
            let deadline = Deadline::never();
            let inside = deadline.run(async { show(&deadline) }).await.unwrap();
            assert_eq!(inside, "<Timeout [active] when=None>");
            assert_eq!(show(&deadline), "<Timeout [finished]>");
            assert_eq!(format!("{:?}", timeout(HOUR, async {})), "<Timeout [created]>");
        });
    }

    /// Where nothing can be cancelled by a value, the body is dropped in time.
    fn tmo_01_inside_bare_the_body_is_dropped(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let order = Order::default();
            for _ in 0..2 {
                let held = Dropped(order.clone(), "dropped");
                let body = async move {
                    let _held = held;
                    sleep(HOUR).await
                };
                let limited = bare(timeout_at(at(1), body)).await;
                assert_eq!(limited.err(), Some(TimeoutError));
                assert_eq!(order.take(), ["dropped"]);
            }
            assert_eq!(now(), 1);
            bare(timeout(seconds(5), sleep(seconds(1)))).await.unwrap().unwrap();
            assert_eq!(now(), 2);
        });
    }
}
