//! Done callbacks.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use ringloop::task::{DoneTask, Ended, TaskOptions};
use ringloop::{Builder, Context, ContextVar, EventLoopExt, create_task, yield_now};
use uring_tests::lab::{Lab, lab};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

/// A callback that writes down that it was called.
fn note(order: &Order<&'static str>, what: &'static str) -> impl FnOnce(&DoneTask) + use<> {
    let order = order.clone();
    move |_| order.add(what)
}

on_both_drivers! {
    fn done_callbacks_come_in_their_order_and_may_be_removed(kind: DriverKind) {
        lab(kind, |l| async move {
            let order = Order::default();
            let task = create_task(yield_now());
            task.add_done_callback(note(&order, "first"));
            let id = task.add_done_callback(note(&order, "removed"));
            task.add_done_callback(note(&order, "last"));
            assert!(task.remove_done_callback(id));
            assert!(!task.remove_done_callback(id), "it is gone");
            l.turns(2).await;
            assert!(task.done());
            assert_eq!(order.take(), [""; 0], "queued, not called");
            let late = task.add_done_callback(note(&order, "late"));
            assert!(!task.remove_done_callback(late), "what is queued runs");
            l.turns(1).await;
            assert_eq!(order.take(), ["first", "last", "late"]);
        });
    }

    fn an_awaiter_comes_in_its_turn(kind: DriverKind) {
        lab(kind, |l| async move {
            let order = Order::default();
            let future = l.event_loop.create_future::<()>();
            let mut task = create_task(future.wait());
            task.add_done_callback(note(&order, "before"));
            // Polled once by hand, so that it is awaited by this task from now on.
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                let polled = Pin::new(&mut task).poll(cx);
                if polls == 1 {
                    assert!(polled.is_pending());
                    task.add_done_callback(note(&order, "after"));
                    let far = future.clone();
                    l.event_loop.call_soon(move || far.set_result(()).unwrap()).unwrap();
                }
                polled.map(|_| ())
            }).await;
            order.add("awaiter");
            l.turns(1).await;
            assert_eq!(order.take(), ["before", "awaiter", "after"]);
        });
    }

    fn done_callbacks_are_never_called_inline(kind: DriverKind) {
        lab(kind, |l| async move {
            let order = Order::default();
            let task = create_task(async {});
            l.turns(1).await;
            assert_eq!(task.ended(), Some(Ended::Finished));
            task.add_done_callback(note(&order, "late"));
            assert_eq!(order.take(), [""; 0]);
            l.turns(1).await;
            assert_eq!(order.take(), ["late"]);
        });
    }

    fn a_done_callback_is_told_which_task_and_how(kind: DriverKind) {
        lab(kind, |l| async move {
            let told = Rc::new(RefCell::new(Vec::new()));
            let tell = || {
                let told = told.clone();
                move |done: &DoneTask| {
                    told.borrow_mut().push((done.task().name(), done.ended()));
                }
            };
            let named = |name: &str| TaskOptions::named(name);
            let spawn = |name, panics: bool| l.event_loop.create_task_with(async move {
                yield_now().await.unwrap();
                assert!(!panics, "as it was told");
            }, named(name)).unwrap();
            let (good, bad, stopped) = (spawn("good", false), spawn("bad", true), spawn("stopped", false));
            for task in [&good, &bad, &stopped] {
                task.add_done_callback(tell());
            }
            stopped.cancel();
            // The callbacks do not need the handles.
            drop((good, stopped));
            let error = bad.await.unwrap_err();
            assert!(error.is_panic());
            l.turns(1).await;
            let mut told = told.take();
            told.sort_by(|a, b| a.0.cmp(&b.0));
            let expected = [
                ("bad".to_owned(), Ended::Panicked),
                ("good".to_owned(), Ended::Finished),
                ("stopped".to_owned(), Ended::Cancelled),
            ];
            assert_eq!(told, expected);
        });
    }

    fn done_callbacks_have_their_own_context(kind: DriverKind) {
        static VAR: ContextVar<i32> = ContextVar::new("var");
        lab(kind, |l| async move {
            let told = Rc::new(RefCell::new(Vec::new()));
            let tell = |set: i32| {
                let told = told.clone();
                move |_: &DoneTask| {
                    told.borrow_mut().push(VAR.get());
                    VAR.set(set);
                }
            };
            let task = create_task(async { VAR.set(100); });
            let given = Context::new();
            VAR.set(1);
            task.add_done_callback(tell(10));
            task.add_done_callback_in(&given, tell(20));
            VAR.set(2);
            task.await.unwrap();
            l.turns(1).await;
            assert_eq!(told.take(), [Some(1), None]);
            assert_eq!((VAR.get(), VAR.get_in(&given)), (Some(2), Some(20)));
        });
    }

    fn ctx_02_done_callbacks_copy_the_context_they_were_added_in(kind: DriverKind) {
        static VAR: ContextVar<i32> = ContextVar::new("var");
        lab(kind, |l| async move {
            let seen = Rc::new(Cell::new(None));
            let see = seen.clone();
            VAR.set(2);
            let task = create_task(async { VAR.set(3); });
            task.add_done_callback(move |_| {
                VAR.set(VAR.get().unwrap() + 1);
                see.set(VAR.get());
            });
            VAR.set(5);
            task.await.unwrap();
            l.turns(1).await;
            assert_eq!((seen.get(), VAR.get()), (Some(3), Some(5)));
        });
    }

    fn a_done_callback_may_drop_the_handle_and_may_panic(kind: DriverKind) {
        lab(kind, |l| async move {
            let order = Order::default();
            let held = Rc::new(RefCell::new(None));
            let task = create_task(async { String::from("a result nobody takes") });
            let take = held.clone();
            task.add_done_callback(move |_| drop(take.take()));
            task.add_done_callback(|_| panic!("in a callback"));
            task.add_done_callback(note(&order, "last"));
            *held.borrow_mut() = Some(task);
            l.turns(3).await;
            assert!(held.borrow().is_none());
            assert_eq!(order.take(), ["last"]);
            let reports = l.reports();
            assert_eq!(reports.len(), 1);
            assert!(reports[0].message.starts_with("Exception in callback"));
        });
    }

    fn closing_the_loop_drops_done_callbacks(kind: DriverKind) {
        let l = Lab::new(&Builder::new().driver(kind));
        let order = Order::default();
        let quiet = TaskOptions::default().quiet(true);
        let task = l.event_loop.create_task_with(std::future::pending::<()>(), quiet).unwrap();
        task.add_done_callback(note(&order, "called"));
        l.run(async { yield_now().await.unwrap() });
        l.event_loop.close().unwrap();
        assert_eq!((task.ended(), order.take()), (Some(Ended::Cancelled), vec![]));
        task.add_done_callback(note(&order, "called"));
        assert_eq!(order.take(), [""; 0]);
        drop(task);
        l.close();
    }
}
