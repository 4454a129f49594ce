//! What a task is to its creator.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ringloop::event_loop::Future as LoopFuture;
use ringloop::task::{Ended, TaskOptions, WaitsFor, all_tasks};
use ringloop::{
    Builder, EventLoopExt, LoopError, Task, create_task, create_task_with, sleep,
    try_get_running_loop, yield_now,
};
use uring_tests::lab::{Lab, lab};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;
use uring_tests::tasks::{HOUR, me, panic_of};

/// A future made by hand: ready at the second poll.
struct ByHand(u32);

impl Future for ByHand {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        self.0 += 1;
        if self.0 == 2 {
            return Poll::Ready(self.0);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn is_future<F: Future>(_: &F) {}

on_both_drivers! {
    fn tsk_01_a_tasks_result_is_its_bodys(kind: DriverKind) {
        lab(kind, |l| async move {
            let text = String::from("owned");
            let mut task = create_task(async move { text });
            assert!(!task.done() && task.result().is_none() && task.ended().is_none());
            assert_eq!(task.as_ref().loop_id(), l.core().tasks().loop_id());
            yield_now().await.unwrap();
            assert_eq!(task.ended(), Some(Ended::Finished));
            assert_eq!(task.exception(), None);
            assert_eq!(task.result().unwrap().unwrap(), "owned");
            assert!(task.result().is_none(), "it was taken");
            // What nobody takes goes with the handle, or at once where there is none.
            let held = Rc::new(());
            let (kept, detached) = (held.clone(), held.clone());
            let task = create_task(async { kept });
            drop(create_task(async { detached }));
            yield_now().await.unwrap();
            assert_eq!((task.done(), Rc::strong_count(&held)), (true, 2));
            drop(task);
            assert_eq!(Rc::strong_count(&held), 1);
        });
    }

    fn tsk_03_a_future_made_by_hand_is_a_body(kind: DriverKind) {
        lab(kind, |_| async move {
            assert_eq!(create_task(ByHand(0)).await.unwrap(), 2);
            let boxed: Pin<Box<dyn Future<Output = u32>>> = Box::pin(ByHand(0));
            assert_eq!(create_task(boxed).await.unwrap(), 2);
        });
    }

    fn tsk_04_the_free_create_task_uses_the_running_loop(kind: DriverKind) {
        lab(kind, |l| async move {
            let task = create_task_with(async { me().as_ref().name() }, TaskOptions::named("mine"));
            assert_eq!(task.as_ref().loop_id(), l.core().tasks().loop_id());
            assert_eq!(task.get_name(), "mine");
            assert_eq!(task.await.unwrap(), "mine");
            // Without one it panics.
            let text = std::thread::spawn(|| {
                assert!(try_get_running_loop().is_err());
                panic_of(|| create_task(async {}))
            });
            assert_eq!(text.join().unwrap(), "no running event loop");
        });
    }

    fn tsk_06_the_text_has_state_name_body_wait_and_callbacks(kind: DriverKind) {
        lab(kind, |l| async move {
            let task = create_task_with(sleep(HOUR), TaskOptions::named("napper"));
            l.turns(1).await;
            task.add_done_callback(|_| {});
            let text = format!("{task:?}");
            assert!(text.starts_with("<Task pending name='napper' Task-"), "{text}");
            for part in [" body=ringloop::event_loop::time::Sleep", " wait_for=[Sleep]", " cb=1>"] {
                assert!(text.contains(part), "{text}");
            }
            task.cancel();
            assert!(format!("{task:?}").starts_with("<Task cancelling name='napper'"));
            l.turns(1).await;
            assert!(format!("{task:?}").starts_with("<Task cancelled name='napper'"));

            let ended = create_task(async { me().cancel(); });
            l.turns(1).await;
            assert!(format!("{ended:?}").starts_with("<Task cancelled name='Task-"));
            let failed = create_task(async { panic!("on purpose") });
            l.turns(1).await;
            assert!(format!("{failed:?}").contains(" panicked"));
            assert_eq!(failed.exception().as_deref(), Some("on purpose"));
            let awaiter = create_task(create_task(sleep(HOUR)));
            l.turns(1).await;
            let text = format!("{awaiter:?}");
            assert!(text.contains(" wait_for=[Task(Task-"), "{text}");
            awaiter.cancel();
            l.turns(3).await;
        });
    }

    fn tsk_08_a_future_of_another_loop_is_an_error_inside_the_task(kind: DriverKind) {
        let other = Lab::new(&Builder::new().driver(kind));
        let foreign: LoopFuture<()> = other.event_loop.create_future();
        let elsewhere = other.event_loop.create_task(std::future::ready(())).unwrap();
        lab_here(kind, |_| async move {
            let error = create_task(foreign.wait()).await.unwrap().unwrap_err();
            assert!(error.to_string().contains("attached to a different loop"), "{error}");
            let error = create_task(elsewhere).await.unwrap_err();
            assert!(error.to_string().contains("attached to a different loop"), "{error}");
        });
        other.run(async {});
        other.close();
    }

    fn tsk_09_a_task_that_awaits_itself_gets_an_error(kind: DriverKind) {
        lab(kind, |l| async move {
            let own = Rc::new(std::cell::RefCell::new(None::<Task<()>>));
            let handle = own.clone();
            let task = create_task(async move {
                let myself = handle.take().expect("it is there");
                let _ = myself.await;
            });
            let watched = task.as_ref();
            *own.borrow_mut() = Some(task);
            l.turns(1).await;
            assert!(watched.is_done());
            let reports = l.reports();
            let text = reports[0].exception.as_ref().unwrap().to_string();
            assert!(text.starts_with("Task cannot await on itself"), "{text}");
        });
    }

    fn tsk_10_a_returned_future_is_not_awaited(kind: DriverKind) {
        lab(kind, |l| async move {
            let future = l.event_loop.create_future::<i32>();
            let inner = future.clone();
            let returned = create_task(async move { inner }).await.unwrap();
            assert!(!returned.done());
            future.set_result(4).unwrap();
            assert_eq!(returned.wait().await.unwrap(), 4);
        });
    }

    fn tsk_11_an_await_registers_once_and_gets_the_value_after_it_was_set(kind: DriverKind) {
        lab(kind, |l| async move {
            let future = l.event_loop.create_future::<i32>();
            let mut task = create_task(future.wait());
            assert_eq!(task.waits_for(), []);
            l.turns(1).await;
            assert_eq!(task.waits_for(), [WaitsFor::Other("future")]);
            l.turns(1).await;
            assert_eq!(task.waits_for().len(), 1);
            future.set_result(6).unwrap();
            assert!(!task.done());
            l.turns(1).await;
            assert_eq!(task.result().unwrap().unwrap().unwrap(), 6);
            assert_eq!(task.waits_for(), []);
        });
    }

    fn tsk_12_a_body_is_awaited_once(kind: DriverKind) {
        lab(kind, |_| async move {
            let mut task = create_task(async { 1 });
            assert_eq!((&mut task).await.unwrap(), 1);
            let again = create_task(task);
            let error = again.await.unwrap_err();
            assert!(error.to_string().contains("was taken already"), "{error}");
        });
    }

    fn tsk_14_a_task_that_cannot_be_scheduled_is_reported_and_not_listed(kind: DriverKind) {
        let l = Lab::new(&Builder::new().driver(kind));
        let order = Order::default();
        let body = |order: &Order<&'static str>| {
            let order = order.clone();
            async move { order.add("ran") }
        };
        l.event_loop.close().unwrap();
        assert_eq!(l.event_loop.create_task(body(&order)).unwrap_err(), LoopError::Closed);
        assert_eq!(l.messages(), [""; 0], "refused before there was a task");
        // A loop whose tasks are closed and that does not look.
        let task = l.core().tasks().create_task(body(&order), TaskOptions::default());
        assert_eq!(task.ended(), Some(Ended::Cancelled));
        assert_eq!(l.messages(), ["Task was destroyed but it is pending!"]);
        assert_eq!(all_tasks(Some(l.core().tasks().loop_id())).unwrap(), []);
        assert_eq!(order.take(), [""; 0]);
        drop(task);
        l.close();
    }

    fn tsk_15_a_task_destroyed_while_pending_is_reported(kind: DriverKind) {
        for debug in [false, true] {
            let l = Lab::new(&Builder::new().driver(kind));
            l.event_loop.set_debug(debug);
            let told = Rc::new(std::cell::RefCell::new(Vec::new()));
            let tell = told.clone();
            l.event_loop.set_exception_handler(Some(Rc::new(move |context| {
                let task = context.task.as_ref().expect("a task");
                tell.borrow_mut().push((context.message.clone(), task.name(), context.created));
            })));
            let options = TaskOptions::named("stuck");
            let line = line!() + 1;
            let task = l.event_loop.create_task_with(std::future::pending::<()>(), options).unwrap();
            let text = format!("{task:?}");
            assert_eq!(text.contains(" created at "), debug, "{text}");
            l.run(async { yield_now().await.unwrap() });
            assert_eq!(all_tasks(Some(task.as_ref().loop_id())).unwrap().len(), 1);
            // As its handle goes, the task stays: the loop keeps it.
            drop(task);
            assert_eq!(l.stats().tasks, 1);
            l.event_loop.close().unwrap();
            let told = told.take();
            assert_eq!(told.len(), 1);
            let (message, name, created) = &told[0];
            assert_eq!((message.as_str(), name.as_str()), ("Task was destroyed but it is pending!", "stuck"));
            let place = created.map(|place| (place.file(), place.line()));
            assert_eq!(place, debug.then_some((file!(), line)));
            assert_eq!(all_tasks(Some(l.core().tasks().loop_id())).unwrap(), []);
            l.close();
        }
    }

    fn tsk_16_a_cancel_forgives_a_failure_nobody_read(kind: DriverKind) {
        lab(kind, |l| async move {
            let task = create_task(async { panic!("unread") });
            l.turns(1).await;
            assert!(!task.cancel(), "it has ended");
            drop(task);
            assert_eq!(l.messages(), [""; 0]);
            let task = create_task(async { panic!("unread") });
            l.turns(1).await;
            drop(task);
            assert_eq!(l.messages(), ["Task exception was never retrieved"]);
            // Reading the text is enough; taking the result too.
            let task = create_task(async { panic!("read") });
            l.turns(1).await;
            assert_eq!(task.exception().as_deref(), Some("read"));
            // As often as one likes, and the panic stays for who takes it.
            assert_eq!(task.exception().as_deref(), Some("read"));
            let error = task.await.unwrap_err();
            assert_eq!(error.to_string(), "task panicked: read");
            let task = create_task(async { panic!("only read") });
            l.turns(1).await;
            assert_eq!(task.exception().as_deref(), Some("only read"));
            drop(task);
            let task = create_task(async { panic!("taken") });
            let error = task.await.unwrap_err();
            assert_eq!(error.to_string(), "task panicked: taken");
            assert_eq!(l.messages(), [""; 0]);
        });
    }

    fn tsk_19_what_a_task_waits_for_can_be_inspected(kind: DriverKind) {
        lab(kind, |l| async move {
            let inner = create_task(sleep(HOUR));
            let inner_id = inner.id();
            let outer = create_task(async move {
                assert_eq!(me().waits_for(), [], "it runs");
                inner.await
            });
            assert_eq!(outer.waits_for(), []);
            l.turns(2).await;
            assert_eq!(outer.waits_for(), [WaitsFor::Task(inner_id)]);
            let inner = l.core().tasks().local(
                all_tasks(None).unwrap().iter().find(|task| task.id() == inner_id).unwrap(),
            );
            assert_eq!(inner.unwrap().waits_for(), [WaitsFor::Sleep]);
            outer.cancel();
            l.turns(3).await;
            assert_eq!((outer.done(), outer.waits_for()), (true, vec![]));
        });
    }

    fn tsk_20_body_context_and_place_can_be_asked_for(kind: DriverKind) {
        static VAR: ringloop::ContextVar<u8> = ringloop::ContextVar::new("var");
        lab(kind, |l| async move {
            VAR.set(1);
            let task = create_task(ByHand(0));
            assert!(task.get_body().unwrap().ends_with("ByHand"));
            assert_eq!(VAR.get_in(&task.get_context()), Some(1));
            assert_eq!(task.created(), None);
            l.event_loop.set_debug(true);
            let line = line!() + 1;
            let placed = create_task(ByHand(0));
            l.event_loop.set_debug(false);
            assert_eq!(placed.created().map(|place| (place.file(), place.line())), Some((file!(), line)));
            l.turns(3).await;
            assert_eq!((task.get_body(), placed.get_body()), (None, None));
            assert_eq!(VAR.get_in(&task.get_context()), Some(1), "also when it has ended");
        });
    }

    fn tsk_21_a_task_is_a_future(kind: DriverKind) {
        lab(kind, |_| async move {
            let task = create_task(async { 2 });
            is_future(&task);
            // So a task may be the body of a task.
            assert_eq!(create_task(task).await.unwrap().unwrap(), 2);
        });
    }
}

/// As `lab`, in this thread.
fn lab_here<F: Future<Output = ()> + 'static>(
    kind: uring_tests::DriverKind,
    test: impl FnOnce(Lab) -> F,
) {
    let l = Lab::new(&Builder::new().driver(kind));
    let body = test(l.clone());
    l.run(body);
    l.close();
}
