//! Eager start and task factories.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ringloop::event_loop::{TaskFactory, create_eager_task_factory, eager_task_factory};
use ringloop::task::{
    Ended, FutureBody, LoopExit, TaskOptions, all_tasks, current, current_task, exit_loop,
};
use ringloop::{
    Builder, Cancelled, Context, ContextVar, EventLoopExt, JoinError, Task, create_task,
    create_task_with, gather, get_running_loop, sleep, staggered_race, task_group,
    try_get_running_loop, yield_now,
};
use uring_tests::lab::{Lab, lab};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;
use uring_tests::tasks::{HOUR, me, panic_of, ticks};

static VAR: ContextVar<i32> = ContextVar::new("var");

fn eager() -> TaskOptions {
    TaskOptions::default().eager_start(true)
}

/// Makes the running loop's tasks eager.
fn all_eager() {
    get_running_loop().set_task_factory(Some(eager_task_factory()));
}

on_both_drivers! {
    fn tfc_01_eag_01_the_factory_installs_and_tasks_keep_their_type(kind: DriverKind) {
        lab(kind, |l| async move {
            let l = &l.event_loop;
            assert!(l.get_task_factory().is_none());
            let made = Rc::new(RefCell::new(Vec::new()));
            let told = made.clone();
            let factory: TaskFactory = Rc::new(move |l, body, mut options| {
                told.borrow_mut().push((options.name.clone(), options.eager_start));
                options.name = Some("of the factory".into());
                l.new_task_dyn(body, options)
            });
            l.set_task_factory(Some(factory.clone()));
            assert!(Rc::ptr_eq(&l.get_task_factory().unwrap(), &factory));
            let task: Task<i32> = create_task_with(async { 5 }, TaskOptions::named("given"));
            assert_eq!(task.get_name(), "of the factory");
            assert_eq!(task.await.unwrap(), 5);
            l.set_task_factory(Some(create_eager_task_factory(factory)));
            assert!(create_task(async {}).done());
            l.set_task_factory(None);
            assert!(l.get_task_factory().is_none());
            assert!(create_task(async {}).get_name().starts_with("Task-"));
            yield_now().await.unwrap();
            let given: Option<std::sync::Arc<str>> = Some("given".into());
            assert_eq!(made.take(), [(given, None), (None, Some(true))], "all options come");
        });
    }

    /// Its output would be read as what it is not.
    fn tfc_01_the_task_of_another_body_is_refused(kind: DriverKind) {
        lab(kind, |l| async move {
            l.event_loop.set_task_factory(Some(Rc::new(|l, _, options| {
                l.new_task_dyn(&mut FutureBody::new(async { "another" }), options)
            })));
            let text = panic_of(|| create_task(async { 5 }));
            assert!(text.starts_with("the loop returns the task of the body it was given"), "{text}");
            l.event_loop.set_task_factory(None);
            l.turns(1).await;
            let raw = Task::<u32>::from_raw(create_task(async { 5_i32 }).into_raw());
            let task = Task::<i32>::from_raw(raw.unwrap_err()).unwrap();
            assert_eq!(task.await.unwrap(), 5);
        });
    }

    /// Nothing is borrowed while it is called, nor while it is dropped.
    fn tfc_01_a_factory_may_replace_itself(kind: DriverKind) {
        struct Asks(Order<&'static str>);
        impl Drop for Asks {
            fn drop(&mut self) {
                let l = try_get_running_loop();
                let gone = l.is_ok_and(|l| l.get_task_factory().is_none());
                self.0.add(if gone { "dropped" } else { "dropped in its place" });
            }
        }
        lab(kind, |l| async move {
            let order = Order::default();
            for called in [true, false] {
                let asks = Asks(order.clone());
                l.event_loop.set_task_factory(Some(Rc::new(move |l, body, options| {
                    asks.0.add("called");
                    l.set_task_factory(None);
                    l.new_task_dyn(body, options)
                })));
                if called {
                    create_task(async {}).await.unwrap();
                    assert_eq!(order.take(), ["called", "dropped"]);
                } else {
                    l.event_loop.set_task_factory(None);
                    assert_eq!(order.take(), ["dropped"]);
                }
            }
        });
    }

    /// Whatever debug mode does meanwhile, which has tasks made another way, too.
    fn tfc_01_the_factory_is_asked_from_when_it_is_set_until_it_goes(kind: DriverKind) {
        lab(kind, |l| async move {
            let asked = Rc::new(Cell::new(0));
            for factory in [true, false, true] {
                let count = asked.clone();
                let counting: TaskFactory = Rc::new(move |l, body, options| {
                    count.set(count.get() + 1);
                    l.new_task_dyn(body, options)
                });
                l.event_loop.set_task_factory(factory.then_some(counting));
                create_task(async {}).await.unwrap();
                l.event_loop.set_debug(true);
                l.event_loop.set_debug(false);
                create_task(async {}).await.unwrap();
                let expected = if factory { 2 } else { 0 };
                assert_eq!(asked.take(), expected);
            }
            l.event_loop.set_task_factory(None);
        });
    }

    fn tfc_04_the_name_is_given_with_and_without_a_factory(kind: DriverKind) {
        lab(kind, |l| async move {
            let named = || create_task_with(async {}, TaskOptions::named("given"));
            assert_eq!(named().get_name(), "given");
            let seen = Rc::new(Cell::new(false));
            let see = seen.clone();
            l.event_loop.set_task_factory(Some(Rc::new(move |l, body, options| {
                see.set(options.name.as_deref() == Some("given"));
                l.new_task_dyn(body, options)
            })));
            assert_eq!(named().get_name(), "given");
            assert!(seen.get());
            l.event_loop.set_task_factory(None);
            l.turns(1).await;
        });
    }

    fn eag_01_a_factory_may_refuse(kind: DriverKind) {
        lab(kind, |l| async move {
            let l = &l.event_loop;
            l.set_task_factory(Some(Rc::new(|_, _, _| Err(ringloop::LoopError::WrongThread))));
            let dropped = Order::default();
            struct Note(Order<&'static str>);
            impl Drop for Note {
                fn drop(&mut self) {
                    self.0.add("dropped");
                }
            }
            let note = Note(dropped.clone());
            let refused = l.create_task(async move { drop(note) });
            assert_eq!(refused.unwrap_err(), ringloop::LoopError::WrongThread);
            assert_eq!(dropped.take(), ["dropped"]);
            l.set_task_factory(None);
        });
    }

    fn eag_02_a_body_that_ends_at_once_is_done_on_return(kind: DriverKind) {
        lab(kind, |l| async move {
            let effect = Rc::new(Cell::new(false));
            let seen = effect.clone();
            let mut task = create_task_with(async move {
                seen.set(true);
                "value"
            }, eager());
            assert!(effect.get() && task.done());
            assert_eq!(task.result().unwrap().unwrap(), "value");
            let order = Order::default();
            let note = order.clone();
            let task = create_task_with(async {}, eager());
            task.add_done_callback(move |_| note.add("called"));
            assert_eq!(order.take(), [""; 0], "callbacks go through the queue");
            l.turns(1).await;
            assert_eq!(order.take(), ["called"]);
            // What is finished does not suspend, so that an eager body may await it.
            let inner = create_task_with(async { 3 }, eager());
            let outer = create_task_with(async { inner.await.unwrap() + 1 }, eager());
            assert!(outer.done());
            assert_eq!(ticks(l.core(), outer).await, 0);
        });
    }

    fn eag_03_a_body_that_blocks_goes_on_as_any_other(kind: DriverKind) {
        lab(kind, |l| async move {
            let future = l.event_loop.create_future::<i32>();
            let mut task = create_task_with(future.wait(), eager());
            assert!(!task.done());
            assert_eq!(task.waits_for().len(), 1);
            future.set_result(9).unwrap();
            assert!(!task.done());
            l.turns(1).await;
            assert_eq!(task.result().unwrap().unwrap().unwrap(), 9);
        });
    }

    fn eag_04_cancel_after_an_eager_end_does_nothing_and_else_is_delivered(kind: DriverKind) {
        lab(kind, |l| async move {
            let mut done = create_task_with(async { 1 }, eager());
            assert!(!done.cancel());
            assert!(!done.cancelled());
            assert_eq!(done.result().unwrap().unwrap(), 1);
            let future = l.event_loop.create_future::<()>();
            let blocked = create_task_with(future.wait(), eager());
            assert!(blocked.cancel_with("enough"));
            match blocked.await {
                Err(JoinError::Cancelled(cancelled)) => assert_eq!(cancelled.message(), Some("enough")),
                other => panic!("{other:?}"),
            }
        });
    }

    fn eag_05_the_current_task_is_the_new_one_and_is_put_back(kind: DriverKind) {
        lab(kind, |l| async move {
            let maker = me().id();
            let task = create_task_with(async {
                let mine = me().id();
                let inner = create_task_with(async { me().id() }, eager());
                assert_eq!(me().id(), mine);
                let theirs = inner.await.unwrap();
                assert_ne!(theirs, mine);
                mine
            }, eager());
            assert_eq!(me().id(), maker);
            assert_eq!(task.id(), task.await.unwrap());
            // From a plain callback, and a body that panics.
            l.event_loop.call_soon(|| {
                drop(create_task_with(async { me(); }, eager()));
                assert!(current().is_none() && current_task(None).unwrap().is_none());
            }).unwrap();
            l.turns(1).await;
            let failed = create_task_with(async { panic!("at once") }, eager());
            assert_eq!(me().id(), maker);
            assert_eq!(failed.exception().as_deref(), Some("at once"));
        });
    }

    fn eag_06_all_tasks_has_it_during_the_step_and_after_it_if_it_blocked(kind: DriverKind) {
        lab(kind, |_| async move {
            let seen = || all_tasks(None).unwrap().iter().any(|task| task.name() == "eager");
            let named = || TaskOptions::named("eager").eager_start(true);
            let done = create_task_with(async move { seen() }, named());
            assert!(!seen());
            assert!(done.await.unwrap());
            let blocked = create_task_with(async move {
                assert!(seen());
                yield_now().await.unwrap();
            }, named());
            assert!(seen());
            blocked.await.unwrap();
            assert!(!seen());
        });
    }

    fn eag_07_contexts_stay_apart_in_the_eager_step(kind: DriverKind) {
        lab(kind, |_| async move {
            VAR.set(1);
            let task = create_task_with(async {
                let before = VAR.get();
                VAR.set(2);
                yield_now().await.unwrap();
                (before, VAR.get())
            }, eager());
            assert_eq!(VAR.get(), Some(1));
            VAR.set(3);
            assert_eq!(task.await.unwrap(), (Some(1), Some(2)));
            let context = Context::new();
            let options = eager().context(context.clone());
            let task = create_task_with(async { VAR.set(4); }, options);
            assert_eq!((VAR.get(), VAR.get_in(&context)), (Some(3), Some(4)));
            task.await.unwrap();
        });
    }

    fn eag_08_eager_start_may_be_refused_and_asked_for(kind: DriverKind) {
        lab(kind, |l| async move {
            assert!(!create_task(async {}).done());
            assert!(create_task_with(async {}, eager()).done());
            all_eager();
            assert!(create_task(async {}).done());
            assert!(!create_task_with(async {}, TaskOptions::default().eager_start(false)).done());
            l.event_loop.set_task_factory(None);
            l.turns(1).await;
        });
    }

    /// Only while the loop runs; before, the first step is scheduled.
    fn eag_08_without_a_running_loop_there_is_no_eager_start(kind: DriverKind) {
        let l = Lab::new(&Builder::new().driver(kind));
        let task = l.event_loop.create_task_with(async { 1 }, eager()).unwrap();
        assert!(!task.done());
        assert_eq!(l.run(task).unwrap(), 1);
        l.close();
    }

    /// Nor while another loop runs in the thread: its own run makes the first step.
    fn eag_08_while_another_loop_runs_there_is_no_eager_start(kind: DriverKind) {
        let [l, other] = [(); 2].map(|()| Lab::new(&Builder::new().driver(kind)));
        let maker = l.event_loop.clone();
        let task = other.run(async move {
            let body = async { me().as_ref().loop_id() };
            let task = maker.create_task_with(body, eager()).unwrap();
            assert!(!task.done());
            Some(task)
        });
        assert_eq!(l.run(task.unwrap()).unwrap(), l.core().tasks().loop_id());
        other.close();
        l.close();
    }

    fn eag_09_the_name_is_there_in_the_eager_step(kind: DriverKind) {
        lab(kind, |_| async move {
            let options = TaskOptions::named("known").eager_start(true);
            let task = create_task_with(async { me().as_ref().name() }, options);
            assert_eq!(task.await.unwrap(), "known");
        });
    }

    fn eag_10_after_an_eager_end_the_body_is_gone(kind: DriverKind) {
        lab(kind, |_| async move {
            let held = Rc::new(());
            let body = held.clone();
            let task = create_task_with(async move { drop(body) }, eager());
            assert_eq!(Rc::strong_count(&held), 1);
            assert_eq!(task.get_body(), None);
            let waiting = create_task_with(async { yield_now().await.unwrap() }, eager());
            assert!(waiting.get_body().is_some());
            waiting.await.unwrap();
        });
    }

    fn eag_11_eager_chains_schedule_nothing(kind: DriverKind) {
        async fn chain(depth: usize) -> usize {
            match depth {
                0 => 0,
                depth => 1 + create_task(Box::pin(chain(depth - 1))).await.unwrap(),
            }
        }
        async fn blocked_chain(depth: usize) {
            match depth {
                0 => yield_now().await.unwrap(),
                depth => create_task(Box::pin(blocked_chain(depth - 1))).await.unwrap(),
            }
        }
        lab(kind, |l| async move {
            assert_eq!(ticks(l.core(), chain(5)).await, 10, "down and up, a task at a time");
            assert_eq!(ticks(l.core(), blocked_chain(3)).await, 7);
            all_eager();
            assert_eq!(ticks(l.core(), chain(5)).await, 0);
            assert_eq!(ticks(l.core(), blocked_chain(3)).await, 4, "up only");
            l.event_loop.set_task_factory(None);
        });
    }

    fn eag_11_through_gather_and_groups_too(kind: DriverKind) {
        async fn gathered(depth: usize) -> Result<usize, Cancelled> {
            let Some(depth) = depth.checked_sub(1) else {
                return Ok(1);
            };
            let children = (0..2).map(|_| Box::pin(gathered(depth)));
            Ok(gather(children).await.unwrap().into_iter().sum())
        }
        async fn grouped(depth: usize) -> Result<usize, Cancelled> {
            let Some(depth) = depth.checked_sub(1) else {
                return Ok(1);
            };
            let sum = task_group(async |group| {
                let one = group.create_task(Box::pin(grouped(depth)))?;
                let two = group.create_task(Box::pin(grouped(depth)))?;
                Ok::<_, Cancelled>(one.await? + two.await?)
            });
            Ok(sum.await.expect("nothing fails"))
        }
        lab(kind, |l| async move {
            let lazy = (ticks(l.core(), gathered(3)).await, ticks(l.core(), grouped(3)).await);
            all_eager();
            let eager = (ticks(l.core(), gathered(3)).await, ticks(l.core(), grouped(3)).await);
            assert_eq!((lazy, eager), ((9, 9), (0, 6)), "a group notices an end one iteration later");
            assert_eq!(gathered(3).await.unwrap(), 8);
            assert_eq!(grouped(3).await.unwrap(), 8);
            l.event_loop.set_task_factory(None);
        });
    }

    fn eag_12_the_staggered_race_works_with_eager_tasks(kind: DriverKind) {
        async fn attempt(number: u32) -> Result<u32, &'static str> {
            match number {
                // Fails after a turn, fails at once, takes too long, has it at once.
                0 => yield_now().await.map_err(|_| "cancelled").and(Err("refused")),
                1 => Err("refused at once"),
                2 => sleep(HOUR).await.map_err(|_| "cancelled").and(Ok(2)),
                _ => Ok(number),
            }
        }
        lab(kind, |l| async move {
            all_eager();
            for delay in [Some(Duration::from_millis(1)), Some(Duration::ZERO)] {
                let attempts = (0..5).map(|number| move || attempt(number));
                let race = staggered_race(attempts, delay).await.unwrap();
                assert_eq!(race.winner, Some((3, 3)), "the fifth does not begin");
                assert_eq!(race.exceptions.len(), 4);
                assert_eq!(race.exceptions[1].as_ref().unwrap().error(), Some(&"refused at once"));
            }
            // Without a delay each waits for the one before it to fail.
            let attempts = [0, 1, 3].map(|number| move || attempt(number));
            let race = staggered_race(attempts, None).await.unwrap();
            assert_eq!(race.winner, Some((3, 2)));
            l.event_loop.set_task_factory(None);
        });
    }

    fn eag_13_a_loop_exit_in_the_eager_step_leaves_create_task(kind: DriverKind) {
        lab(kind, |_| async move {
            let maker = me().id();
            let left = catch_unwind(AssertUnwindSafe(|| {
                create_task_with(async { exit_loop(7_i32) }, eager())
            }));
            let exit = left.unwrap_err().downcast::<LoopExit>().unwrap();
            assert_eq!(*exit.0.downcast::<i32>().unwrap(), 7);
            assert_eq!(me().id(), maker);
            yield_now().await.unwrap();

            let kept = create_task_with(async { panic!("kept") }, eager());
            assert_eq!(kept.ended(), Some(Ended::Panicked));
            assert!(kept.await.unwrap_err().is_panic());
        });
    }

    fn a_request_in_the_eager_step_reaches_the_right_task(kind: DriverKind) {
        lab(kind, |_| async move {
            // The new task cancels its maker, which is in the middle of its own step.
            let maker = me();
            let child = create_task_with(async move {
                maker.cancel_with("from the child");
                yield_now().await
            }, eager());
            let heard: Result<(), Cancelled> = yield_now().await;
            assert_eq!(heard.unwrap_err().message(), Some("from the child"));
            me().uncancel();
            child.await.unwrap().unwrap();
            // And itself.
            let mut child = create_task_with(async {
                me().cancel();
                yield_now().await
            }, eager());
            assert!(child.cancelled());
            assert!(child.result().unwrap().unwrap_err().is_cancelled());
            yield_now().await.unwrap();
        });
    }
}
