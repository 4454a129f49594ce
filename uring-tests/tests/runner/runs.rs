//! Runs without signals.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;

use ringloop::event_loop::LoopError;
use ringloop::{
    Builder, ContextVar, DriverKind, EventLoopExt, RunError, Runner, copy_context,
    get_running_loop, sleep, try_get_running_loop, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::tasks::HOUR;

fn runner(kind: DriverKind) -> Runner {
    Runner::new().loop_factory(move || Builder::new().driver(kind).build())
}

fn said<T>(refused: Result<T, RunError<T>>) -> String {
    match refused {
        Err(RunError::Loop(error)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it ran"),
    }
}

on_both_drivers! {
    fn rnr_02_every_future_is_accepted(kind: DriverKind) {
        let runner = runner(kind);
        assert_eq!(runner.run(async { 1 }).unwrap(), 1);
        assert_eq!(runner.run(std::future::ready(2)).unwrap(), 2);
        assert_eq!(runner.run(Box::pin(async { 3 })).unwrap(), 3);
        let event_loop = runner.get_loop().unwrap();
        let task = event_loop.create_task(async { 4 }).unwrap();
        assert_eq!(runner.run(task).unwrap().unwrap(), 4);
    }

    fn rnr_03_the_debug_argument_overrides_else_it_stays(kind: DriverKind) {
        for was in [false, true] {
            let made = move || {
                let event_loop = Builder::new().driver(kind).build()?;
                event_loop.set_debug(was);
                Ok(event_loop)
            };
            let asked = || async { get_running_loop().get_debug() };
            assert_eq!(Runner::new().loop_factory(made).run(asked()).unwrap(), was);
            for debug in [false, true] {
                let runner = Runner::new().debug(debug).loop_factory(made);
                assert_eq!(runner.run(asked()).unwrap(), debug);
            }
        }
    }

    fn rnr_05_closing_cancels_what_several_runs_left(kind: DriverKind) {
        let runner = runner(kind);
        let told: Rc<RefCell<Vec<String>>> = Rc::default();
        let note = told.clone();
        runner.get_loop().unwrap().set_exception_handler(Some(Rc::new(move |context| {
            note.borrow_mut().push(context.message.clone());
        })));
        let ended = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let ended = ended.clone();
            runner.run(async move {
                let stays = async move {
                    let cancelled = sleep(HOUR).await;
                    yield_now().await.unwrap();
                    ended.set(ended.get() + 1);
                    cancelled
                };
                drop(get_running_loop().create_task(stays).unwrap());
                yield_now().await.unwrap();
            })
            .unwrap();
        }
        // They go on from run to run.
        assert_eq!(ended.get(), 0);
        let core = runner.get_loop().unwrap().core().unwrap().clone();
        assert_eq!(core.stats().tasks, 3);
        runner.close().unwrap();
        assert_eq!(ended.get(), 3);
        assert_eq!(core.stats().tasks, 0);
        assert_eq!(core.stats().live_operations, 0);
        assert!(told.take().is_empty());
    }

    fn rnr_06_the_loop_is_made_once_and_is_the_running_one_during_runs(kind: DriverKind) {
        let made = Rc::new(Cell::new(0));
        let count = made.clone();
        let runner = Runner::new().loop_factory(move || {
            count.set(count.get() + 1);
            Builder::new().driver(kind).build()
        });
        assert_eq!(made.get(), 0);
        for _ in 0..2 {
            let running = runner.run(async { get_running_loop() }).unwrap();
            assert!(Rc::ptr_eq(&running, &runner.get_loop().unwrap()));
            assert!(try_get_running_loop().is_err());
        }
        assert_eq!(made.get(), 1);
        runner.close().unwrap();
        assert!(try_get_running_loop().is_err());
        // A factory that fails may be asked again.
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        let runner = Runner::new().loop_factory(move || {
            count.set(count.get() + 1);
            if count.get() == 1 {
                return Err(io::Error::other("not now"));
            }
            Builder::new().driver(kind).build()
        });
        assert_eq!(said(runner.run(async {})), "not now");
        runner.run(async {}).unwrap();
        assert_eq!(asked.get(), 2);
    }

    fn rnr_07_several_runs_share_loop_and_context(kind: DriverKind) {
        static SEEN: ContextVar<u32> = ContextVar::new("seen");
        SEEN.set(1);
        let runner = runner(kind);
        let add = || async {
            let seen = SEEN.get().unwrap();
            SEEN.set(seen + 1);
            (seen, get_running_loop())
        };
        let (seen, first) = runner.run(add()).unwrap();
        assert_eq!(seen, 1);
        SEEN.set(10);
        let (seen, second) = runner.run(add()).unwrap();
        assert_eq!(seen, 2);
        assert!(Rc::ptr_eq(&first, &second));
        assert_eq!(SEEN.get(), Some(10));
        // In a context of the caller's choice; the shared one stays.
        let context = copy_context();
        assert_eq!(runner.run_in(&context, add()).unwrap().0, 10);
        assert_eq!(SEEN.get_in(&context), Some(11));
        assert_eq!(runner.run(add()).unwrap().0, 3);
    }

    fn rnr_08_a_closed_runner_refuses_every_use(kind: DriverKind) {
        let runner = runner(kind);
        let event_loop = runner.get_loop().unwrap();
        runner.close().unwrap();
        assert!(event_loop.is_closed());
        runner.close().unwrap();
        assert_eq!(said(runner.run(async {})), "Runner is closed");
        let Err(refused) = runner.get_loop() else {
            panic!("a loop");
        };
        assert_eq!(refused.to_string(), "Runner is closed");
        // One that was never used makes no loop to close it.
        let unused = Runner::new().loop_factory(|| panic!("it makes a loop"));
        unused.close().unwrap();
        assert_eq!(said(unused.run(async {})), "Runner is closed");
    }

    fn rnr_08_dropping_the_runner_closes_it(kind: DriverKind) {
        let runner = runner(kind);
        let event_loop = runner.get_loop().unwrap();
        let job = event_loop.run_in_executor(|| 1);
        drop(runner);
        assert!(event_loop.is_closed());
        drop(job);
        // One whose loop was closed by somebody else, too.
        let runner = Runner::new().loop_factory(move || Builder::new().driver(kind).build());
        runner.get_loop().unwrap().close().unwrap();
        assert_eq!(said(runner.run(async {})), LoopError::Closed.to_string());
        runner.close().unwrap();
    }

    /// Nor are its tasks cancelled. A runner whose loop does not run can be closed inside another.
    fn rnr_08_a_running_loop_is_not_closed(kind: DriverKind) {
        let outer = Rc::new(runner(kind));
        let inner = runner(kind);
        let left = inner.get_loop().unwrap();
        let me = outer.clone();
        let lives = outer.run(async move {
            let event_loop = get_running_loop();
            let sibling = event_loop.create_task(async { yield_now().await.is_ok() }).unwrap();
            assert_eq!(me.close(), Err(LoopError::StillRunning));
            assert_eq!(said(me.run(async {})), LoopError::AnotherRunning.to_string());
            assert_eq!(said(inner.run(async {})), LoopError::AnotherRunning.to_string());
            inner.close().unwrap();
            sibling.await.unwrap()
        });
        assert!(lives.unwrap());
        assert!(left.is_closed());
        outer.run(async {}).unwrap();
    }

    fn rnr_12_the_result_is_never_formatted(kind: DriverKind) {
        struct Shy;
        impl fmt::Debug for Shy {
            fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("formatted");
            }
        }
        let runner = runner(kind).debug(true);
        let Shy = runner.run(async { Shy }).unwrap();
        let Shy = runner.run(async {
            yield_now().await.unwrap();
            Shy
        })
        .unwrap();
    }
}
