//! The running loop, jobs in threads, tasks on a closed loop.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use ringloop::task::{TaskOptions, current, current_task};
use ringloop::{
    Builder, EventLoopExt, LoopError, block_on, create_task, get_running_loop, try_get_running_loop,
};
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{me, panic_of};
use uring_tests::watch::Watch;
use uring_tests::{forked, isolated, on_both_drivers};

use crate::tasks::cancelled;

on_both_drivers! {
    fn cur_01_the_running_loop_is_known_inside_and_only_there(kind: DriverKind) {
        let l = Watch::new(kind);
        assert_eq!(try_get_running_loop().err(), Some(LoopError::NoRunningLoop));
        assert_eq!(panic_of(get_running_loop), "no running event loop");
        let order = Order::default();
        let (note, own) = (order.clone(), l.event_loop());
        let same = move || note.add(Rc::ptr_eq(&get_running_loop(), &own));
        let (in_task, in_callback) = (same.clone(), same);
        l.call_soon(in_callback).unwrap();
        l.run(async move {
            in_task();
            ringloop::yield_now().await.unwrap();
            in_task();
            // Another thread has none.
            let thread = std::thread::spawn(|| try_get_running_loop().err());
            assert_eq!(thread.join().unwrap(), Some(LoopError::NoRunningLoop));
        });
        assert_eq!(order.take(), [true; 3]);
        assert_eq!(try_get_running_loop().err(), Some(LoopError::NoRunningLoop));
    }

    /// Whose tasks are entered, without a run, makes none.
    fn cur_01_a_loop_whose_tasks_are_entered_does_not_run(kind: DriverKind) {
        let l = Builder::new().driver(kind).debug(false).build().unwrap();
        for _before_and_after_a_run in 0..2 {
            let entered = l.core().unwrap().tasks().enter().unwrap();
            assert_eq!(panic_of(|| create_task(async {})), "no running event loop");
            drop(entered);
            assert_eq!(panic_of(|| create_task(async {})), "no running event loop");
            l.run_until_complete(async { create_task(async {}).await.unwrap() }).unwrap();
        }
        l.close().unwrap();
    }

    /// It can run a loop of its own, and the parent's goes on as if nothing had happened.
    fn cur_03_a_forked_child_sees_neither_loop_nor_task(kind: DriverKind) {
        isolated(|| {
            let l = Watch::new(kind);
            let (id, handle) = (l.id(), l.handle());
            l.run(async move {
                assert!(current_task(None).unwrap().is_some());
                forked(|| {
                    assert_eq!(try_get_running_loop().err(), Some(LoopError::NoRunningLoop));
                    assert!(current_task(None).is_err() && current().is_none());
                    assert_eq!(current_task(Some(id)).unwrap(), None);
                    let own = Builder::new().driver(kind).build().unwrap();
                    let nap = ringloop::sleep(Duration::from_nanos(1));
                    block_on(&own, nap).unwrap().unwrap();
                });
                assert!(current_task(None).unwrap().is_some());
                ringloop::sleep(Duration::from_nanos(1)).await.unwrap();
                let future = get_running_loop().create_future();
                let (send, receive) = channel();
                let far = std::thread::spawn(move || {
                    handle.call_soon_threadsafe(move || send.send(()).unwrap()).unwrap();
                });
                far.join().unwrap();
                let set = future.clone();
                get_running_loop().call_soon(move || set.set_result(()).unwrap()).unwrap();
                future.wait().await.unwrap();
                receive.try_recv().expect("what the thread sent came before");
            });
        });
    }

    fn exe_01_a_job_runs_in_another_thread_and_its_value_comes_back(kind: DriverKind) {
        let l = Watch::new(kind);
        let here = std::thread::current().id();
        let job = || {
            let thread = std::thread::current();
            (thread.id(), thread.name().map(str::to_owned))
        };
        // Through the loop as programs hold it.
        let (there, name) = l.run(l.event_loop().run_in_executor(job)).unwrap();
        assert_ne!(there, here);
        assert!(name.is_some_and(|name| name.starts_with("ringloop")));
        let failed = l.run(l.run_in_executor(|| panic!("in a job"))).map(|(): ()| ());
        assert!(failed.unwrap_err().to_string().contains("in a job"));
    }

    /// And one that has not begun goes with its thread's turn; its value goes nowhere.
    fn exe_02_a_job_whose_waiter_is_gone_ends_on_its_own(kind: DriverKind) {
        let l = Watch::new(kind);
        let (begin, begun) = channel();
        let (release, released) = channel::<()>();
        let (end, ended) = channel();
        let job = l.run_in_executor(move || {
            begin.send(()).unwrap();
            released.recv().unwrap();
            end.send(()).unwrap();
            "nobody's"
        });
        let mut task = l.create_task(job).unwrap();
        l.turn();
        begun.recv().unwrap();
        task.cancel();
        l.turn();
        drop(cancelled(&mut task));
        l.close().unwrap();
        release.send(()).unwrap();
        ended.recv().unwrap();
        assert!(l.told().is_empty());
    }

    fn exe_04_a_shutdown_gives_up_on_jobs_that_hang_and_says_so(kind: DriverKind) {
        let l = Watch::new(kind);
        let (release, released) = channel::<()>();
        let (end, ended) = channel();
        let hangs = l.run_in_executor(move || {
            released.recv().unwrap();
            end.send(()).unwrap();
        });
        let limit = Some(Duration::from_millis(1));
        l.run(l.shutdown_default_executor(limit)).unwrap();
        let said = "The executor did not finish joining its threads within 0.001 seconds.";
        assert_eq!(l.messages(), [said]);
        release.send(()).unwrap();
        l.run(hangs).unwrap();
        ended.recv().unwrap();
    }

    /// What was taken runs to its end before the shutdown is over.
    fn exe_05_after_its_shutdown_the_executor_takes_nothing(kind: DriverKind) {
        let l = Watch::new(kind);
        let (release, released) = channel::<()>();
        let job = l.run_in_executor(move || released.recv().is_ok());
        let ending = l.create_task(l.shutdown_default_executor(None)).unwrap();
        l.turns(3);
        assert!(!ending.done());
        assert!(l.run(l.run_in_executor(|| ())).is_err());
        release.send(()).unwrap();
        assert!(l.run(job).unwrap());
        l.run(ending).unwrap().unwrap();
        // Once more, with nothing left to wait for.
        l.run(l.shutdown_default_executor(None)).unwrap();
    }

    fn tfc_03_a_task_on_a_closed_loop_is_dropped_unpolled(kind: DriverKind) {
        let l = Watch::new(kind);
        l.close().unwrap();
        let order = Order::default();
        let (ran, dropped) = (order.clone(), Dropped(order.clone(), "dropped"));
        let refused = l.create_task(async move {
            let _dropped = dropped;
            ran.add("ran");
        });
        assert_eq!(refused.unwrap_err(), LoopError::Closed);
        assert_eq!(order.take(), ["dropped"]);
        // Nor is a factory asked.
        let asked = order.clone();
        l.set_task_factory(Some(Rc::new(move |l, body, options| {
            asked.add("asked");
            l.new_task_dyn(body, options)
        })));
        assert_eq!(l.create_task(async {}).unwrap_err(), LoopError::Closed);
        assert_eq!(order.take(), [""; 0]);
        assert!(l.told().is_empty());
    }

    fn tsk_05_names_rise_and_can_be_chosen(kind: DriverKind) {
        let l = Watch::new(kind);
        let number = |name: String| -> u64 { name.strip_prefix("Task-").unwrap().parse().unwrap() };
        let numbers: Vec<_> = (0..200)
            .map(|_| number(l.create_task(async {}).unwrap().get_name()))
            .collect();
        assert!(numbers.is_sorted_by(|one, other| one < other));
        let named = l
            .create_task_with(async { me().as_ref().name() }, TaskOptions::named("chosen"))
            .unwrap();
        assert_eq!(named.get_name(), "chosen");
        assert!(format!("{named:?}").contains("name='chosen'"));
        let seen = named.as_ref();
        named.set_name(format!("{} {}", 1, 2.5));
        assert_eq!(seen.name(), "1 2.5");
        assert_eq!(l.run(named).unwrap(), "1 2.5");
        // A name is forgotten with its task.
        let name: Arc<str> = "forgotten".into();
        drop(l.create_task_with(async {}, TaskOptions::named(name.clone())));
        assert_eq!(Arc::strong_count(&name), 2);
        l.turn();
        assert_eq!(Arc::strong_count(&name), 1);
    }
}
