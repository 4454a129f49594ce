//! Code of others that panics, leaves the loop or comes back where it may: handlers, destructors,
//! wakers. What the loop owes to everybody else is done all the same.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringloop::event_loop::ExceptionContext;
use ringloop::sync::Event;
use ringloop::task::{Scope, cancellations_held, exit_loop};
use ringloop::{AbstractEventLoop, EventLoopExt, create_task, sleep, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::watch::Watch;

const HOUR: Duration = Duration::from_secs(3600);

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("bomb");
        }
    }
}

/// Panics when it is woken.
struct Bad;

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        panic!("bad waker");
    }
}

/// Wakes another waker: not one of a task.
struct Relay(Waker);

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

thread_local! {
    static DROPPED: Cell<u32> = const { Cell::new(0) };
}

/// A future of plain words, none of which says whether it was dropped.
struct Body {
    _words: [u64; 4],
}

impl Future for Body {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u64> {
        Poll::Pending
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        DROPPED.set(DROPPED.get() + 1);
    }
}

fn bad() -> Waker {
    Arc::new(Bad).into()
}

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

on_both_drivers! {
    /// The report of a task that is destroyed while pending ends that task, and the place is used again.
    fn a_task_that_is_ended_by_the_report_of_its_end_is_dropped_once(kind: DriverKind) {
        let l = Watch::new(kind);
        drop(l.create_task(Body { _words: [1; 4] }).unwrap());
        l.run(async {});
        let tasks = l.core().tasks().clone();
        let ended = Rc::new(Cell::new(false));
        let ends = ended.clone();
        l.set_exception_handler(Some(Rc::new(move |context: &ExceptionContext| {
            let Some(task) = context.task.as_ref().and_then(|task| tasks.local(task)) else {
                return;
            };
            task.abort();
            let (index, generation) = (0..64)
                .flat_map(|index| (0..64).map(move |generation| (index, generation)))
                .find(|&(index, generation)| tasks.at(index, generation).is_some())
                .expect("it is pending");
            tasks.step(index, generation);
            ends.set(tasks.at(index, generation).is_none());
        })));
        l.close().unwrap();
        assert!(ended.get());
        assert_eq!(DROPPED.get(), 1);
    }

    /// It leaves the close when that is done.
    fn a_close_is_whole_when_the_handler_leaves_the_loop(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        for name in ["one", "two", "three"] {
            let gone = Dropped(order.clone(), name);
            drop(l.create_task(async move { pending::<()>().await; drop(gone); }).unwrap());
        }
        l.run(async {});
        l.set_exception_handler(Some(Rc::new(|_| exit_loop(()))));
        assert!(panics(|| l.close().unwrap()));
        assert_eq!(order.take(), ["one", "two", "three"]);
        assert!(l.is_closed());
    }

    fn a_handler_may_report_when_it_is_dropped(kind: DriverKind) {
        struct Reports(Rc<dyn AbstractEventLoop>);
        impl Drop for Reports {
            fn drop(&mut self) {
                self.0.call_exception_handler(ExceptionContext::new("the handler goes"));
            }
        }
        let l = Watch::new(kind);
        let reports = Reports(l.event_loop());
        l.set_exception_handler(Some(Rc::new(move |_| {
            let _ = &reports;
        })));
        let order = Order::default();
        let heard = order.clone();
        l.set_exception_handler(Some(Rc::new(move |context: &ExceptionContext| {
            heard.add(context.message.clone());
        })));
        assert_eq!(order.take(), ["the handler goes".to_owned()]);
    }

    /// Timers that were cancelled are counted, whatever their captures do.
    fn a_capture_that_panics_in_a_cancel_leaves_the_timers_in_order(kind: DriverKind) {
        let l = Watch::new(kind);
        let bomb = Bomb;
        let timer = l.call_later(Duration::from_millis(1), move || drop(bomb)).unwrap();
        assert!(panics(|| timer.cancel()));
        assert!(timer.cancelled());
        l.run(sleep(Duration::from_millis(2))).unwrap();
        assert_eq!(l.stats().timers, 0);
    }

    fn a_waker_that_panics_keeps_no_other_waiter_from_what_it_was_given(kind: DriverKind) {
        let l = Watch::new(kind);
        l.run(async {
            let event = Rc::new(Event::new());
            let mut foreign = Box::pin(event.wait());
            assert!(foreign.as_mut().poll(&mut Context::from_waker(&bad())).is_pending());
            let waits = event.clone();
            let waits = create_task(async move { waits.wait().await });
            yield_now().await.unwrap();
            assert!(panics(|| event.set()));
            waits.await.unwrap().unwrap();
        });
    }

    fn a_waker_that_panics_keeps_no_other_branch_from_a_cancellation(kind: DriverKind) {
        let l = Watch::new(kind);
        l.run(async {
            let heard = Rc::new(Cell::new(false));
            let hears = heard.clone();
            let task = create_task(async move {
                let (mut first, mut second) = (pin!(sleep(HOUR)), pin!(sleep(HOUR)));
                poll_fn(|cx| {
                    let relay = Waker::from(Arc::new(Relay(cx.waker().clone())));
                    let _ = first.as_mut().poll(&mut Context::from_waker(&bad()));
                    second.as_mut().poll(&mut Context::from_waker(&relay)).map(|slept| {
                        hears.set(slept.is_err());
                    })
                })
                .await;
            });
            yield_now().await.unwrap();
            assert!(panics(|| assert!(task.cancel())));
            drop(task.await);
            assert!(heard.get());
        });
    }

    /// Its failure was forgiven, so nobody is told of it; the payload goes with the handle.
    fn a_payload_that_panics_when_it_goes_is_reported(kind: DriverKind) {
        let l = Watch::new(kind);
        l.run(async {
            let task = create_task(async { panic_any(Bomb) });
            yield_now().await.unwrap();
            task.cancel();
            drop(task);
        });
        assert_eq!(l.told().len(), 1);
    }

    /// Its scope is left when it closes.
    fn a_forgotten_guard_leaves_no_scope_behind(kind: DriverKind) {
        let l = Watch::new(kind);
        l.run(poll_fn(|cx| {
            let scope = Scope::open();
            forget(scope.enter(cx));
            drop(scope);
            let again = Scope::open();
            assert_eq!(cancellations_held(), 0);
            drop(again.enter(cx));
            Poll::Ready(())
        }));
    }
}
