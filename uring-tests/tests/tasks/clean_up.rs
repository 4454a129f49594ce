//! Code that runs after a cancellation, and cancellations that meet what has arrived.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringloop::stream::StreamReader;
use ringloop::{Cancelled, EventLoopExt, create_task, sleep, timeout, yield_now};
use uring_tests::lab::lab;
use uring_tests::on_both_drivers;
use uring_tests::order::Order;
use uring_tests::tasks::{HOUR, me};

const SOON: Duration = Duration::from_nanos(1);

on_both_drivers! {
    fn clean_up_with_awaits_runs_to_its_end(kind: DriverKind) {
        lab(kind, |l| async move {
            let order = Order::default();
            let note = order.clone();
            let task = create_task(async move {
                let cancelled = sleep(HOUR).await.unwrap_err();
                note.add("asked");
                sleep(SOON).await?;
                let helper = create_task(async { yield_now().await });
                helper.await.expect("it is a task of its own")?;
                note.add("clean");
                Err::<(), Cancelled>(cancelled)
            });
            l.turns(1).await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(order.take(), ["asked", "clean"]);
        });
    }

    fn a_timeout_around_clean_up_works(kind: DriverKind) {
        lab(kind, |l| async move {
            let order = Order::default();
            let note = order.clone();
            let task = create_task(async move {
                let cancelled = sleep(HOUR).await.unwrap_err();
                assert!(timeout(SOON, sleep(HOUR)).await.is_err(), "too slow a clean-up");
                note.add("gave up");
                assert!(timeout(HOUR, sleep(SOON)).await.is_ok(), "a quick one");
                note.add("clean");
                assert_eq!(me().cancelling(), 1);
                Err::<(), Cancelled>(cancelled)
            });
            l.turns(1).await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(order.take(), ["gave up", "clean"]);
        });
    }

    fn a_second_request_reaches_clean_up(kind: DriverKind) {
        lab(kind, |l| async move {
            let task = create_task(async {
                let first = sleep(HOUR).await.unwrap_err();
                let second = sleep(HOUR).await.unwrap_err();
                let message = |cancelled: &Cancelled| cancelled.message().map(str::to_owned);
                (message(&first), message(&second), { drop((first, second)); me().cancelling() })
            });
            l.turns(1).await;
            task.cancel_with("first");
            l.turns(2).await;
            task.cancel_with("second");
            let heard = task.await.unwrap();
            assert_eq!(heard, (Some("first".into()), Some("second".into()), 2));
        });
    }

    /// Fed and cancelled in one iteration, in both orders.
    fn a_cancellation_loses_neither_itself_nor_the_data_that_came(kind: DriverKind) {
        lab(kind, |l| async move {
            for cancel_first in [false, true] {
                let reader = StreamReader::new(ringloop::stream::DEFAULT_LIMIT).unwrap();
                let feeder = reader.protocol();
                let shared = Rc::new(RefCell::new(Some(reader)));
                let held = shared.clone();
                let task = create_task(async move {
                    let mut reader = held.take().expect("it is there");
                    let read = reader.readexactly(4).await;
                    held.replace(Some(reader));
                    read
                });
                l.turns(1).await;
                if cancel_first {
                    task.cancel();
                    feeder.feed_data(b"data".to_vec());
                } else {
                    feeder.feed_data(b"data".to_vec());
                    task.cancel();
                }
                assert!(task.await.unwrap_err().is_cancelled());
                let mut reader = shared.take().expect("the task put it back");
                let data = reader.readexactly(4).await.unwrap();
                assert_eq!(&data[..], b"data");
            }
        });
    }

    fn a_request_during_the_last_await_is_heard_at_the_next(kind: DriverKind) {
        lab(kind, |l| async move {
            // Twice asked before it starts to run again: once delivered, counted twice.
            let future = l.event_loop.create_future::<u8>();
            let task = create_task(async move {
                let first = future.wait().await;
                let heard = first.is_err();
                drop(first);
                yield_now().await.expect("the same request is not delivered again");
                (heard, me().uncancel(), me().uncancel())
            });
            l.turns(1).await;
            task.cancel();
            task.cancel();
            assert_eq!(task.await.unwrap(), (true, 1, 0));
        });
    }
}
