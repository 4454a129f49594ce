//! Awaiting: several, again, dropped, cancelled, from elsewhere, and by odd wakers.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use ringloop::event_loop::{Future, FutureError};
use ringloop::{EventLoopExt, timeout, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::support::{Counting, lab, poll, turn};

/// Does that when the last clone of its waker goes, or when it wakes.
struct Odd {
    hook: fn(),
    on_drop: bool,
}

thread_local! {
    /// What odd wakers have at hand: they must be `Send`.
    static FUTURE: RefCell<Option<Future<i32>>> = const { RefCell::new(None) };
}

fn with_future(f: impl FnOnce(&Future<i32>)) {
    let future = FUTURE.with_borrow(Clone::clone);
    f(&future.expect("it was put there"));
}

impl Wake for Odd {
    fn wake(self: Arc<Self>) {
        if !self.on_drop {
            (self.hook)();
        }
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        if self.on_drop {
            (self.hook)();
        }
    }
}

fn odd(on_drop: bool, hook: fn()) -> Waker {
    Arc::new(Odd { hook, on_drop }).into()
}

/// A waker whose clones end the future.
fn ends_when_cloned() -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        // Refused the second time.
        with_future(|future| _ = future.set_result(2));
        RawWaker::new(std::ptr::null(), &VTABLE)
    }
    fn nothing(_: *const ()) {}
    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);
    // SAFETY: the functions need no data, and work on any thread.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) }
}

on_both_drivers! {
    fn fut_08_awaiting_twice_gives_the_same_value(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future();
        let setter = future.clone();
        l.event_loop.call_soon(move || setter.set_result("value".to_owned()).unwrap()).unwrap();
        let values = l.run(async move {
            let first = (&future).await.unwrap();
            let second = future.wait().await.unwrap();
            [first, second, future.await.unwrap()]
        });
        assert_eq!(values, ["value"; 3]);
        l.close();
    }

    /// In the order in which they began to wait; who waits only from then on gets it at once.
    fn several_tasks_await_one_future(kind: DriverKind) {
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        let (waits, event_loop) = (future.clone(), l.event_loop.clone());
        let wait = {
            let order = order.clone();
            move |name: u32| {
                let (waiting, order) = (waits.wait(), order.clone());
                let body = async move { order.add((name, waiting.await.unwrap())) };
                drop(event_loop.create_task(body).unwrap());
            }
        };
        (0..5).for_each(&wait);
        turn(&l);
        let callback = move || {
            future.set_result('x').unwrap();
            wait(5);
        };
        l.event_loop.call_soon(callback).unwrap();
        turn(&l);
        assert_eq!(order.take(), []);
        turn(&l);
        assert_eq!(order.take(), [0, 1, 2, 3, 4, 5].map(|name| (name, 'x')));
        l.close();
    }

    /// Contract §2.4: none for a future that is done, two for one that a callback ends.
    fn awaiting_takes_as_many_iterations_as_it_must(kind: DriverKind) {
        let l = lab(kind);
        let core = l.core().clone();
        let event_loop = l.event_loop.clone();
        l.run(async move {
            let ends: [fn(&Future<i32>); 3] = [
                |future| future.set_result(1).unwrap(),
                |future| future.set_exception("broken").unwrap(),
                |future| assert!(future.cancel()),
            ];
            for end in ends {
                let done = event_loop.create_future();
                end(&done);
                let before = core.iterations();
                drop(done.await);
                assert_eq!(core.iterations() - before, 0);
                let future = event_loop.create_future();
                let ended = future.clone();
                event_loop.call_soon(move || end(&ended)).unwrap();
                let before = core.iterations();
                drop(future.await);
                assert_eq!(core.iterations() - before, 2);
            }
        });
        l.close();
    }

    /// Neither wakers nor places stay behind; a million waits would show as memory.
    fn a_dropped_wait_leaves_nothing_behind(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        let (counting, waker) = Counting::new();
        let mut stays = future.wait();
        assert!(poll(&mut stays, Waker::noop()).is_pending());
        let alone = Arc::strong_count(&counting);
        for _ in 0..100 {
            let mut waits: Vec<_> = (0..10).map(|_| future.wait()).collect();
            for wait in &mut waits {
                assert!(poll(wait, &waker).is_pending());
            }
            assert_eq!(Arc::strong_count(&counting), alone + 10);
            // From the front, from the middle, from the end.
            drop(waits.remove(0));
            drop(waits.remove(5));
            waits.truncate(4);
            assert_eq!(Arc::strong_count(&counting), alone + 4);
            drop(waits);
            assert_eq!(Arc::strong_count(&counting), alone);
        }
        assert_eq!(format!("{future:?}"), "<Future pending cb=[wakeup]>");
        future.set_result(1).unwrap();
        assert_eq!(counting.count(), 0);
        assert!(matches!(poll(&mut stays, Waker::noop()), Poll::Ready(Ok(1))));
        l.close();
    }

    /// A combinator polls a branch with one waker now, with another later.
    fn the_last_waker_is_woken_in_the_place_of_the_first(kind: DriverKind) {
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        let (old, first) = Counting::new();
        let (new, second) = Counting::new();
        let mut waiting = future.wait();
        assert!(poll(&mut waiting, &first).is_pending());
        assert!(poll(&mut waiting, &first).is_pending());
        let (after, looked) = (order.clone(), new.clone());
        future.add_done_callback(move |_: &Future<i32>| after.add(looked.count()));
        assert!(poll(&mut waiting, &second).is_pending());
        assert_eq!(Arc::strong_count(&old), 2, "the future's clone is gone");
        future.set_result(1).unwrap();
        assert_eq!((old.count(), new.count()), (0, 1));
        turn(&l);
        assert_eq!(order.take(), [1]);
        l.close();
    }

    /// With the message, and everybody else who waits for it.
    fn cancelling_an_awaiting_task_cancels_the_future(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        let task = l.event_loop.create_task(future.wait()).unwrap();
        let other = l.event_loop.create_task(future.wait()).unwrap();
        turn(&l);
        assert!(task.cancel_with("stop"));
        l.run(async { drop(yield_now().await) });
        assert!(future.cancelled());
        assert_eq!(future.cancel_message().as_deref(), Some("stop"));
        turn(&l);
        for (mut task, requests) in [(task, 1), (other, 0)] {
            assert!(task.cancelled());
            assert_eq!(task.cancelling(), requests);
            let error = task.result().expect("it ended").expect_err("cancelled");
            assert_eq!(error.to_string(), "cancelled: stop");
        }
        l.close();
    }

    /// So does a timeout around the wait; but not one that drops it, nor one around a future that is
    /// done.
    fn a_timeout_around_a_wait_cancels_the_future(kind: DriverKind) {
        let l = lab(kind);
        let (future, dropped) = (l.event_loop.create_future::<i32>(), l.event_loop.create_future());
        let (one, two) = (future.clone(), dropped.clone());
        l.run(async move {
            let moment = Duration::from_nanos(1);
            timeout(moment, one.wait()).await.expect_err("nobody sets it");
            let bare = ringloop::task::bare(two.wait());
            timeout(moment, bare).await.expect_err("nobody sets it");
            two.set_result(4).unwrap();
            assert_eq!(timeout(Duration::ZERO, two.wait()).await.unwrap().unwrap(), 4);
        });
        assert!(future.cancelled());
        assert_eq!(dropped.result().unwrap(), 4);
        l.close();
    }

    /// Nothing would wake the task there.
    fn a_pending_future_of_another_loop_is_refused(kind: DriverKind) {
        let (l, other) = (lab(kind), lab(kind));
        let future = other.event_loop.create_future();
        let error = l.run(future.wait()).unwrap_err();
        assert!(matches!(error, FutureError::DifferentLoop), "{error}");
        assert_eq!(format!("{future:?}"), "<Future pending>");
        // One that is done can be read everywhere.
        future.set_result(6).unwrap();
        assert_eq!(l.run(future.wait()).unwrap(), 6);
        l.close();
        other.close();
    }

    /// Outside any loop whoever has a waker may wait.
    fn a_future_may_be_polled_by_hand(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future();
        let (counting, waker) = Counting::new();
        let mut waiting = future.take();
        assert!(waiting.future() == &future);
        assert!(poll(&mut waiting, &waker).is_pending());
        future.set_result(Box::new(2)).unwrap();
        assert_eq!(counting.count(), 1);
        assert!(matches!(poll(&mut waiting, &waker), Poll::Ready(Ok(value)) if *value == 2));
        assert!(matches!(poll(&mut waiting, &waker), Poll::Ready(Err(FutureError::InvalidState(_)))));
        l.close();
    }

    /// A waker that ends the future while it is dropped, and one that awaits it while it wakes.
    fn wakers_may_use_the_future(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        FUTURE.set(Some(future.clone()));
        let mut waiting = future.wait();
        let ends = odd(true, || with_future(|future| future.set_result(1).unwrap()));
        assert!(poll(&mut waiting, &ends).is_pending());
        drop(ends);
        assert!(!future.done());
        // Its waker is replaced, and its drop ends the future.
        let (counting, waker) = Counting::new();
        assert!(poll(&mut waiting, &waker).is_pending());
        assert_eq!(counting.count(), 1, "told at once");
        assert!(matches!(poll(&mut waiting, &waker), Poll::Ready(Ok(1))));
        // While it is cloned: nothing would wake it any more.
        let future = l.event_loop.create_future::<i32>();
        FUTURE.set(Some(future.clone()));
        let mut waiting = future.wait();
        assert!(matches!(poll(&mut waiting, &ends_when_cloned()), Poll::Ready(Ok(2))));
        // Dropped with the wait.
        let future = l.event_loop.create_future::<i32>();
        FUTURE.set(Some(future.clone()));
        let mut waiting = future.wait();
        let ends = odd(true, || with_future(|future| assert!(future.cancel_with("by a waker"))));
        assert!(poll(&mut waiting, &ends).is_pending());
        drop(ends);
        drop(waiting);
        assert_eq!(future.cancel_message().as_deref(), Some("by a waker"));
        // While it wakes.
        let future = l.event_loop.create_future::<i32>();
        FUTURE.set(Some(future.clone()));
        let mut waiting = future.wait();
        let looks = odd(false, || with_future(|future| {
            future.add_done_callback(|_| ());
            assert!(!future.cancel());
            assert!(matches!(poll(&mut future.wait(), Waker::noop()), Poll::Ready(Ok(3))));
        }));
        assert!(poll(&mut waiting, &looks).is_pending());
        future.set_result(3).unwrap();
        FUTURE.take();
        turn(&l);
        drop((future, waiting));
        l.close();
    }

    fn a_waker_that_panics_keeps_nobody_from_being_told(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future();
        let (counting, waker) = Counting::new();
        let called = Rc::new(Cell::new(false));
        let mut waits = [future.wait(), future.wait(), future.wait()];
        let panics = odd(false, || panic!("this waker panics"));
        for (wait, waker) in waits.iter_mut().zip([&waker, &panics, &waker]) {
            assert!(poll(wait, waker).is_pending());
        }
        let calls = called.clone();
        future.add_done_callback(move |_| calls.set(true));
        let set = catch_unwind(AssertUnwindSafe(|| future.set_result(1)));
        assert!(set.is_err(), "who sets it hears of the panic");
        assert_eq!(counting.count(), 2);
        turn(&l);
        assert!(called.get() && future.result().unwrap() == 1);
        l.close();
    }
}
