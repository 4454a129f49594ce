//! Tasks on loops that are not ours, and loops that make tasks their own way.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ringloop::task::{
    Ended, RawTask, TaskBody, TaskOptions, all_tasks, current_task, running_loop_id,
};
use ringloop::transport::DefaultTransports;
use ringloop::{
    AbstractEventLoop, BaseEventLoop, Builder, ContextVar, EventLoopExt, LoopError, create_task,
    create_task_with, get_running_loop, sleep, timeout, yield_now,
};
use uring_tests::lab::Lab;
use uring_tests::order::Order;
use uring_tests::tasks::{HOUR, me};
use uring_tests::{isolated_saying, on_both_drivers};

use crate::own_loop::OwnLoop;

on_both_drivers! {
    /// Tasks, futures, timers, timeouts, cancellation, the registry and wakes from threads work on a
    /// loop of another make, the one of the book, beside one of ours.
    fn a_loop_of_another_make_drives_tasks(kind: DriverKind) {
        let said = isolated_saying(|| {
            static VAR: ContextVar<u8> = ContextVar::new("var");
            let ours = Lab::new(&Builder::new().driver(kind));
            let waiting = ours.event_loop.create_task(sleep(HOUR)).unwrap();
            ours.run(async { yield_now().await.unwrap() });

            let l = OwnLoop::new();
            let id = l.future_loop().unwrap().loop_id().unwrap();
            VAR.set(4);
            let value = l.run_until_complete(async move {
                assert_eq!(running_loop_id(), Some(id));
                assert_eq!(me().as_ref().loop_id(), id);
                sleep(Duration::from_nanos(1)).await.unwrap();
                assert!(timeout(Duration::from_nanos(1), sleep(HOUR)).await.is_err());

                let order = Order::default();
                let future = get_running_loop().create_future::<u8>();
                let (set, note) = (future.clone(), order.clone());
                let child = create_task_with(async move {
                    assert_eq!(all_tasks(None).unwrap().len(), 2, "those of this loop");
                    note.add("child");
                    set.set_result(VAR.get().unwrap()).unwrap();
                    sleep(HOUR).await
                }, TaskOptions::named("child"));
                let note = order.clone();
                child.add_done_callback(move |done| {
                    assert_eq!((done.task().name(), done.ended()), ("child".into(), Ended::Cancelled));
                    assert_eq!(current_task(None).unwrap(), None);
                    note.add("done");
                });
                let value = future.wait().await.unwrap();
                child.cancel_with("enough");
                assert!(child.await.unwrap_err().is_cancelled());
                yield_now().await.unwrap();
                assert_eq!(order.take(), ["child", "done"]);

                // A wake from a thread ends the loop's sleep.
                let future = get_running_loop().create_future::<()>();
                let (send, told) = std::sync::mpsc::channel::<std::task::Waker>();
                let thread = std::thread::spawn(move || told.recv().unwrap().wake());
                let mut sent = false;
                std::future::poll_fn(move |cx| {
                    if std::mem::replace(&mut sent, true) {
                        return std::task::Poll::Ready(());
                    }
                    send.send(cx.waker().clone()).unwrap();
                    std::task::Poll::Pending
                }).await;
                thread.join().unwrap();
                drop(future);
                let eager = create_task_with(async { 1 }, TaskOptions::default().eager_start(true));
                value + eager.await.unwrap()
            });
            assert_eq!(value.unwrap(), 5);
            drop(l.create_task(sleep(HOUR)).unwrap());
            l.close().unwrap();
            assert_eq!(l.create_task(async {}).unwrap_err(), LoopError::Closed);

            assert_eq!(all_tasks(Some(waiting.as_ref().loop_id())).unwrap(), [waiting.as_ref()]);
            waiting.cancel();
            ours.run(async { yield_now().await.unwrap() });
            drop(waiting);
            ours.close();
        });
        if let Some(said) = said {
            // What that loop reports: nothing but this.
            let [report] = said.lines().collect::<Vec<_>>()[..] else {
                panic!("{said}");
            };
            assert!(report.contains("Task was destroyed but it is pending!"), "{said}");
        }
    }

    fn tfc_02_a_loop_that_makes_tasks_its_own_way_is_asked(kind: DriverKind) {
        /// Names every task, and runs it on the base loop.
        struct Naming(BaseEventLoop);
        impl AbstractEventLoop for Naming {
            fn base(&self) -> Option<&dyn AbstractEventLoop> {
                Some(&self.0)
            }

            fn create_task_dyn(
                &self,
                body: &mut dyn TaskBody,
                options: TaskOptions,
            ) -> Result<RawTask, LoopError> {
                let task = self.0.create_task_dyn(body, options)?;
                task.set_name("of the outer loop");
                Ok(task)
            }
        }
        let driver = Builder::new().driver(kind).build_driver().expect("the driver is there");
        let l = Rc::new_cyclic(|me: &Weak<Naming>| {
            Naming(BaseEventLoop::new(driver, Rc::new(DefaultTransports), me.clone()))
        });
        let names = l.run_until_complete(async {
            let task = create_task(async { me().as_ref().name() });
            let looked = get_running_loop().create_task(async {}).unwrap().get_name();
            yield_now().await.unwrap();
            (task.await.unwrap(), looked)
        });
        let name = "of the outer loop".to_owned();
        assert_eq!(names.unwrap(), (name.clone(), name));
        // A factory is given this loop, too, and not the one inside.
        let given = Rc::new(Cell::new(0));
        let count = given.clone();
        l.set_task_factory(Some(Rc::new(move |event_loop, body, options| {
            assert!(event_loop.base().is_some());
            count.set(count.get() + 1);
            event_loop.new_task_dyn(body, options)
        })));
        let task = l.create_task(async {}).unwrap();
        assert_eq!((given.get(), task.get_name().as_str()), (1, "of the outer loop"));
        l.set_task_factory(None);
        l.run_until_complete(task).unwrap().unwrap();
        l.close().unwrap();
    }
}
