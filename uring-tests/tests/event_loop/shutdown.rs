//! `run` and `block_on`: the main future, and what is left when it is done.

use std::rc::Rc;

use ringloop::task::exit_loop;
use ringloop::{
    AbstractEventLoop, Builder, EventLoopExt, JoinError, RunError, block_on, get_running_loop,
    sleep, try_get_running_loop, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, exited};

/// A loop whose reports are kept.
fn made(kind: ringloop::DriverKind) -> (Rc<dyn AbstractEventLoop>, Order<String>) {
    let event_loop = Builder::new().driver(kind).build().unwrap();
    let told = Order::default();
    let note = told.clone();
    event_loop.set_exception_handler(Some(Rc::new(move |context| {
        note.add(context.message.clone());
    })));
    (event_loop, told)
}

on_both_drivers! {
    fn rnr_01_block_on_gives_the_value_or_the_failure(kind: DriverKind) {
        let (l, told) = made(kind);
        assert_eq!(block_on(&l, async { 1 }).unwrap(), 1);
        assert!(l.is_closed());
        let (l, _) = made(kind);
        let failed = block_on(&l, async { panic!("main") as u8 });
        let Err(RunError::Task(JoinError::Panicked(payload))) = failed else {
            panic!("it returned");
        };
        assert_eq!(ringloop::task::panic_message(&*payload), "main");
        let (l, _) = made(kind);
        let stopped = block_on(&l, async {
            get_running_loop().stop();
            sleep(HOUR).await.is_err()
        });
        assert!(matches!(stopped, Err(RunError::Stopped(_))));
        assert!(matches!(block_on(&l, async {}), Err(RunError::Loop(_))));
        assert!(told.take().is_empty());
        assert!(try_get_running_loop().is_err());
    }

    fn rnr_04_inside_a_running_loop_it_is_refused(kind: DriverKind) {
        let (l, told) = made(kind);
        let (other, _) = made(kind);
        let order = Order::default();
        let note = order.clone();
        let (me, inner) = (l.clone(), other.clone());
        block_on(&l, async move {
            let sibling = me.create_task(async { yield_now().await.is_ok() }).unwrap();
            let ran = note.clone();
            assert!(matches!(block_on(&me, async move { ran.add("ran") }), Err(RunError::Loop(_))));
            let ran = note.clone();
            assert!(matches!(block_on(&inner, async move { ran.add("ran") }), Err(RunError::Loop(_))));
            assert!(sibling.await.unwrap(), "a task of the running loop was cancelled");
        })
        .unwrap();
        assert!(order.take().is_empty() && told.take().is_empty());
        assert!(other.is_closed());
    }

    /// They may clean up with awaits. What they start meanwhile is not waited for, as in asyncio: a
    /// supervisor that restarts its child would never end.
    fn rnr_05_tasks_left_over_are_cancelled_and_waited_for(kind: DriverKind) {
        let (l, told) = made(kind);
        let order = Order::default();
        let note = order.clone();
        block_on(&l, async move {
            let l = get_running_loop();
            for name in ["first", "second"] {
                let note = note.clone();
                let cleans_up = async move {
                    let cancelled = sleep(HOUR).await.unwrap_err();
                    yield_now().await.unwrap();
                    let late = Dropped(note.clone(), "child");
                    let child = async move {
                        let _late = late;
                        drop(sleep(HOUR).await);
                        unreachable!("nobody cancels it");
                    };
                    drop(get_running_loop().create_task(child).unwrap());
                    note.add(name);
                    Err::<(), _>(cancelled)
                };
                drop(l.create_task(cleans_up).unwrap());
            }
            drop(l.create_task(std::future::pending::<()>()).unwrap());
            yield_now().await.unwrap();
            // Never started, it never runs.
            let (ran, held) = (note.clone(), Dropped(note.clone(), "dropped"));
            let unstarted = async move {
                let _held = held;
                ran.add("ran");
            };
            drop(l.create_task(unstarted).unwrap());
            note.add("main");
        })
        .unwrap();
        let seen = order.take();
        assert_eq!(seen[seen.len() - 2..], ["child"; 2], "{seen:?}");
        assert!(["first", "second", "dropped"].iter().all(|what| seen.contains(what)));
        assert!(!seen.contains(&"ran"));
        assert!(l.is_closed());
        assert_eq!(l.core().unwrap().stats().tasks, 0);
        assert_eq!(told.take(), ["Task was destroyed but it is pending!"; 2]);
    }

    fn rnr_05_failures_while_they_clean_up_are_reported(kind: DriverKind) {
        let (l, told) = made(kind);
        block_on(&l, async {
            drop(get_running_loop().create_task(async {
                drop(sleep(HOUR).await.unwrap_err());
                panic!("in clean-up");
            }));
            yield_now().await.unwrap();
        })
        .unwrap();
        assert_eq!(told.take(), ["Task exception was never retrieved"]);
    }

    /// A main future that was stopped early is one of those left over.
    fn rnr_05_a_stopped_main_future_is_cancelled_too(kind: DriverKind) {
        let (l, told) = made(kind);
        let order = Order::default();
        let note = order.clone();
        let stopped = block_on(&l, async move {
            get_running_loop().stop();
            note.add(sleep(HOUR).await.is_err());
        });
        let Err(RunError::Stopped(task)) = stopped else {
            panic!("it was not stopped");
        };
        assert_eq!(order.take(), [true]);
        assert!(task.done());
        assert!(told.take().is_empty());
    }

    /// The loop is closed also when the program leaves it by a loop exit; what is left is cancelled
    /// and may clean up, and a loop exit of its own ends that.
    fn a_loop_exit_leaves_block_on_with_the_loop_closed(kind: DriverKind) {
        let (l, told) = made(kind);
        let order = Order::default();
        let (note, held) = (order.clone(), Dropped(order.clone(), "dropped"));
        let left: i32 = exited(|| {
            block_on(&l, async move {
                let cleans_up = async move {
                    let _held = held;
                    drop(sleep(HOUR).await.unwrap_err());
                    yield_now().await.unwrap();
                    note.add("cleaned up");
                    exit_loop(5)
                };
                drop(get_running_loop().create_task(async move {
                    let () = cleans_up.await;
                }));
                drop(get_running_loop().create_task(std::future::pending::<()>()));
                yield_now().await.unwrap();
                exit_loop(4)
            })
            .map(|(): ()| ())
        });
        assert_eq!(left, 4);
        assert!(l.is_closed());
        assert_eq!(order.take(), ["cleaned up", "dropped"]);
        assert!(told.take().is_empty());
    }
}
