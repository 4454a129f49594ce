//! What tasks and callbacks begin with, and who sees what they set.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringloop::task::{TaskOptions, current};
use ringloop::{Context, ContextVar, EventLoopExt, copy_context, create_task, yield_now};
use uring_tests::lab::lab;
use uring_tests::on_both_drivers;
use uring_tests::tasks::HOUR;

static VAR: ContextVar<i32> = ContextVar::new("var");

type Seen = Rc<RefCell<Vec<Option<i32>>>>;

/// A callback that writes down what it sees, and changes it.
fn see_and_set(seen: &Seen, value: i32) -> impl FnOnce() + use<> {
    let seen = seen.clone();
    move || {
        seen.borrow_mut().push(VAR.get());
        VAR.set(value);
    }
}

on_both_drivers! {
    /// Made by the loop, and by the function that need not ask it.
    fn ctx_01_a_task_copies_its_makers_context_and_keeps_its_changes(kind: DriverKind) {
        lab(kind, |l| async move {
            for asks in [true, false] {
                VAR.set(1);
                let body = async {
                    let mut seen = vec![VAR.get()];
                    yield_now().await.unwrap();
                    seen.push(VAR.get());
                    VAR.set(10);
                    yield_now().await.unwrap();
                    seen.push(VAR.get());
                    seen
                };
                let child = if asks {
                    l.event_loop.create_task(body).unwrap()
                } else {
                    create_task(body)
                };
                // After the copy was taken, which is when the task was made.
                VAR.set(2);
                yield_now().await.unwrap();
                assert_eq!(VAR.get(), Some(2));
                let seen = child.await.unwrap();
                assert_eq!(seen, [Some(1), Some(1), Some(10)]);
                assert_eq!(VAR.get(), Some(2));
            }
        });
    }

    fn ctx_01_two_tasks_of_one_maker_stay_apart(kind: DriverKind) {
        lab(kind, |l| async move {
            VAR.set(0);
            let counter = |start: i32| async move {
                VAR.set(start);
                for _ in 0..3 {
                    yield_now().await.unwrap();
                    VAR.set(VAR.get().unwrap() + 1);
                }
                VAR.get()
            };
            let first = l.event_loop.create_task(counter(10)).unwrap();
            let second = l.event_loop.create_task(counter(20)).unwrap();
            assert_eq!(first.await.unwrap(), Some(13));
            assert_eq!(second.await.unwrap(), Some(23));
            assert_eq!(VAR.get(), Some(0));
        });
    }

    fn ctx_01_a_task_made_outside_the_run_inherits_the_threads_values(kind: DriverKind) {
        uring_tests::lab::alone(|| {
            let l = uring_tests::lab::Lab::new(&ringloop::Builder::new().driver(kind));
            let old = VAR.set(3);
            assert_eq!(l.run(async { VAR.set(4); VAR.get() }), Some(4));
            assert_eq!(VAR.get(), Some(3));
            VAR.reset(old).unwrap();
            assert_eq!(l.run(async { VAR.get() }), None);
            l.close();
        });
    }

    fn ctx_03_a_task_uses_the_context_it_was_given(kind: DriverKind) {
        lab(kind, |l| async move {
            let context = copy_context();
            let mut seen = vec![VAR.get_in(&context)];
            for value in [1, 2] {
                let body = async move {
                    yield_now().await.unwrap();
                    VAR.set(value);
                };
                let options = TaskOptions::default().context(context.clone());
                let task = l.event_loop.create_task_with(body, options).unwrap();
                task.await.unwrap();
                seen.push(VAR.get_in(&context));
            }
            assert_eq!(seen, [None, Some(1), Some(2)]);
            assert_eq!(VAR.get(), None, "the maker's own is another");
        });
    }

    /// The two run in turns, each step in the one context.
    fn ctx_03_two_tasks_may_share_a_context(kind: DriverKind) {
        lab(kind, |l| async move {
            let context = Context::new();
            context.run(|| VAR.set(0));
            let adder = || async {
                for _ in 0..5 {
                    VAR.set(VAR.get().unwrap() + 1);
                    yield_now().await.unwrap();
                }
            };
            let options = TaskOptions::default().context(context.clone());
            let first = l.event_loop.create_task_with(adder(), options.clone()).unwrap();
            let second = l.event_loop.create_task_with(adder(), options).unwrap();
            first.await.unwrap();
            second.await.unwrap();
            assert_eq!(VAR.get_in(&context), Some(10));
        });
    }

    fn callbacks_run_in_a_copy_or_in_the_context_they_are_given(kind: DriverKind) {
        lab(kind, |lab| async move {
            let l = lab.event_loop.clone();
            let seen = Seen::default();
            VAR.set(1);
            l.call_soon(see_and_set(&seen, 10)).unwrap();
            l.call_at(0, see_and_set(&seen, 10)).unwrap();
            l.call_later(Duration::ZERO, see_and_set(&seen, 10)).unwrap();
            l.call_soon_threadsafe({
                || { VAR.set(10); }
            }).unwrap();
            VAR.set(2);
            lab.until("all ran", || seen.borrow().len() == 3).await;
            assert_eq!(seen.take(), [Some(1); 3], "each copied when it was scheduled");
            assert_eq!(VAR.get(), Some(2), "what they set is theirs");

            let context = Context::new();
            l.call_soon_in(&context, see_and_set(&seen, 5)).unwrap();
            lab.turns(2).await;
            l.call_later_in(&context, Duration::ZERO, see_and_set(&seen, 6)).unwrap();
            lab.until("it ran", || seen.borrow().len() == 2).await;
            l.call_at_in(&context, 0, see_and_set(&seen, 7)).unwrap();
            lab.until("it ran", || seen.borrow().len() == 3).await;
            assert_eq!(seen.take(), [None, Some(5), Some(6)]);
            assert_eq!(VAR.get_in(&context), Some(7));
        });
    }

    fn handles_and_tasks_name_their_context(kind: DriverKind) {
        lab(kind, |lab| async move {
            let l = lab.event_loop.clone();
            VAR.set(1);
            let soon = l.call_soon(|| {}).unwrap();
            let later = l.call_later(HOUR, || {}).unwrap();
            VAR.set(2);
            assert_eq!(VAR.get_in(&soon.get_context().unwrap()), Some(1));
            assert_eq!(VAR.get_in(&later.get_context().unwrap()), Some(1));
            later.cancel();
            assert!(later.get_context().is_none(), "it will not run");

            let task = l.create_task(async {
                VAR.set(20);
                yield_now().await.unwrap();
                let mine = current().unwrap().get_context();
                VAR.set(21);
                assert_eq!(VAR.get_in(&mine), Some(21), "the very context, not a copy");
            }).unwrap();
            let context = task.get_context();
            assert_eq!(VAR.get_in(&context), Some(2));
            yield_now().await.unwrap();
            assert_eq!(VAR.get_in(&context), Some(20));
            assert!(soon.get_context().is_none(), "it ran");
            task.await.unwrap();
            assert_eq!(VAR.get_in(&context), Some(21));
        });
    }

    fn err_07_the_handler_runs_in_the_context_of_what_failed(kind: DriverKind) {
        lab(kind, |lab| async move {
            let l = lab.event_loop.clone();
            let seen = Seen::default();
            let keep = seen.clone();
            l.set_exception_handler(Some(Rc::new(move |_| keep.borrow_mut().push(VAR.get()))));
            VAR.set(1);
            l.call_soon(|| { VAR.set(2); panic!("a callback") }).unwrap();
            let task = async { VAR.set(3); panic!("a task") };
            drop(l.create_task(task).unwrap());
            let options = TaskOptions::default().context(Context::new());
            drop(l.create_task_with(async { panic!("another") }, options).unwrap());
            lab.turns(2).await;
            assert_eq!(seen.take(), [Some(2), Some(3), None]);
        });
    }

    fn a_body_is_dropped_in_its_own_context(kind: DriverKind) {
        struct SeesAtItsEnd(Seen);
        impl Drop for SeesAtItsEnd {
            fn drop(&mut self) {
                self.0.borrow_mut().push(VAR.get());
            }
        }
        let seen = Seen::default();
        let waiting = |seen: &Seen, value: i32| {
            let end = SeesAtItsEnd(seen.clone());
            async move {
                let _end = end;
                VAR.set(value);
                std::future::pending::<()>().await;
            }
        };
        let l = uring_tests::lab::Lab::new(&ringloop::Builder::new().driver(kind));
        let quiet = TaskOptions::default().quiet(true);
        let aborted = l.event_loop.create_task(waiting(&seen, 5)).unwrap();
        let left = l.event_loop.create_task_with(waiting(&seen, 6), quiet).unwrap();
        l.run(async { yield_now().await.unwrap() });
        aborted.abort();
        l.run(async { yield_now().await.unwrap() });
        assert_eq!(seen.take(), [Some(5)]);
        l.event_loop.close().unwrap();
        assert_eq!(seen.take(), [Some(6)], "by the loop's close");
        drop((aborted, left));
        l.close();
    }
}
