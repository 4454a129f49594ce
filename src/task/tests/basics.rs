//! Spawning, joining, wakes, panics, closing.

use super::*;
use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Waker};

#[test]
fn output_reaches_the_joiner() {
    let l = Loop::new();
    let child = l.spawn(async { String::from("result") });
    let mut parent = l.spawn(async move { child.await.unwrap() + "!" });
    l.run();
    assert_eq!(parent.result().unwrap().unwrap(), "result!");
    assert!(parent.result().is_none(), "a result is taken once");
    assert!(l.tasks.is_empty());
}

#[test]
fn joining_takes_two_turns_and_a_finished_task_none() {
    let l = Loop::new();
    let turns = Rc::new(Cell::new(0));
    let seen = turns.clone();
    let tasks = l.tasks.clone();
    let _parent = l.spawn(async move {
        let before = seen.get();
        let child = tasks.create_task(async {}, TaskOptions::default());
        child.await.unwrap();
        assert_eq!(seen.get() - before, 2);
        let child = tasks.create_task(async {}, TaskOptions::default());
        pause().await.unwrap();
        let before = seen.get();
        child.await.unwrap();
        assert_eq!(seen.get(), before);
    });
    while l.turn() > 0 {
        turns.set(turns.get() + 1);
    }
    assert!(l.told().is_empty());
    assert!(l.tasks.is_empty());
}

#[test]
fn slots_and_bodies_are_used_again() {
    let l = Loop::new();
    let mut first = None;
    for n in 0..1000_u32 {
        let task = l.spawn(async move { n });
        let index = task.as_ref().index_in(&l.tasks.shared).unwrap();
        assert_eq!(*first.get_or_insert(index), index);
        l.run();
        drop(task);
    }
}

#[test]
fn bodies_of_every_size_and_alignment() {
    #[repr(align(64))]
    #[derive(Clone, Copy)]
    struct Aligned([u8; 64]);

    async fn hold<const N: usize>(leaf: Leaf<()>) -> usize {
        let bytes = [N as u8; N];
        leaf.wait().await.unwrap();
        assert!(bytes.iter().all(|&byte| byte == N as u8));
        N
    }
    let l = Loop::new();
    let leaves: Vec<Leaf<()>> = (0..9).map(|_| Leaf::new()).collect();
    let mut tasks = vec![
        l.spawn(hold::<1>(leaves[0].clone())),
        l.spawn(hold::<100>(leaves[1].clone())),
        l.spawn(hold::<600>(leaves[2].clone())),
        l.spawn(hold::<1500>(leaves[3].clone())),
        l.spawn(hold::<3000>(leaves[4].clone())),
        l.spawn(hold::<4000>(leaves[5].clone())),
        l.spawn(hold::<5000>(leaves[6].clone())),
        l.spawn(hold::<100_000>(leaves[7].clone())),
    ];
    let leaf = leaves[8].clone();
    tasks.push(l.spawn(async move {
        let aligned = Aligned([7; 64]);
        leaf.wait().await.unwrap();
        assert_eq!((&raw const aligned).addr() % 64, 0);
        usize::from(aligned.0[63])
    }));
    l.run();
    leaves.iter().for_each(|leaf| leaf.set(()));
    l.run();
    let sizes: Vec<_> = tasks
        .iter_mut()
        .map(|task| task.result().unwrap().unwrap())
        .collect();
    assert_eq!(sizes, [1, 100, 600, 1500, 3000, 4000, 5000, 100_000, 7]);
}

#[test]
fn a_task_is_queued_once_however_often_it_is_woken() {
    let l = Loop::new();
    let polls = Rc::new(Cell::new(0));
    let (count, keep) = (polls.clone(), Leaf::<()>::new());
    let leaf = keep.clone();
    let _task = l.spawn(poll_fn(move |cx| {
        count.set(count.get() + 1);
        leaf.0.borrow_mut().waker = Some(cx.waker().clone());
        Poll::<()>::Pending
    }));
    l.run();
    let waker = keep.0.borrow_mut().waker.take().unwrap();
    for _ in 0..3 {
        let _entered = l.tasks.enter().unwrap();
        waker.wake_by_ref();
    }
    assert_eq!(l.ready.len(), 1);
    l.run();
    assert_eq!(polls.get(), 2);
}

#[test]
fn wakers_outlive_the_task_and_the_loop() {
    let l = Loop::new();
    let kept: Rc<RefCell<Vec<Waker>>> = Rc::default();
    let sink = kept.clone();
    for _ in 0..100 {
        let sink = sink.clone();
        drop(l.spawn(poll_fn(move |cx| {
            sink.borrow_mut().push(cx.waker().clone());
            Poll::Ready(())
        })));
        l.run();
    }
    kept.borrow().iter().for_each(Waker::wake_by_ref);
    l.run();
    drop(l);
    let wakers = kept.take();
    std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake))
        .join()
        .unwrap();
}

#[test]
fn wakes_from_other_threads_arrive_and_unpark_only_a_sleeper() {
    let l = Loop::new();
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let (place, polls) = (waker.clone(), Rc::new(Cell::new(0)));
    let count = polls.clone();
    let _task = l.spawn(poll_fn(move |cx| {
        count.set(count.get() + 1);
        *place.borrow_mut() = Some(cx.waker().clone());
        Poll::<()>::Pending
    }));
    l.run();
    let wake = |waker: Waker| std::thread::spawn(move || waker.wake()).join().unwrap();
    wake(waker.borrow().clone().unwrap());
    assert_eq!(l.unparks.count(), 0, "the loop did not sleep");
    assert!(!l.tasks.prepare_sleep(), "something came");
    l.run();
    assert_eq!(polls.get(), 2);
    assert!(l.tasks.prepare_sleep());
    wake(waker.borrow().clone().unwrap());
    wake(waker.borrow().clone().unwrap());
    l.tasks.finish_sleep();
    assert_eq!(l.unparks.count(), 1);
    l.run();
    assert_eq!(polls.get(), 3);
}

#[test]
fn remote_calls_come_in_order_and_are_refused_after_close() {
    let l = Loop::new();
    let remote = l.tasks.remote();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for n in 0..5 {
            let send = send.clone();
            remote
                .call(Box::new(move || send.send(n).unwrap()))
                .unwrap();
        }
    })
    .join()
    .unwrap();
    l.turn();
    assert_eq!(receive.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    l.tasks.close();
    assert_eq!(remote.call(Box::new(|| unreachable!())), Err(Closed));
    drop(l);
    assert_eq!(remote.call(Box::new(|| unreachable!())), Err(Closed));
}

#[test]
fn a_panic_ends_its_task_alone_and_reaches_the_joiner() {
    let l = Loop::new();
    let mut bad: Task<()> = l.spawn(async { panic!("boom") });
    let mut good = l.spawn(async { 7 });
    l.run();
    assert_eq!(good.result().unwrap().unwrap(), 7);
    let error = bad.result().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "task panicked: boom");
    drop(bad);
    assert!(l.told().is_empty(), "it was retrieved");
}

#[test]
fn an_unread_panic_is_reported_once() {
    let l = Loop::new();
    let never = (
        "Task exception was never retrieved",
        Some("first".to_owned()),
        Some("boom".to_owned()),
    );
    let detached = l
        .tasks
        .create_task(async { panic!("boom") }, TaskOptions::named("first"));
    drop::<Task<()>>(detached);
    l.run();
    assert_eq!(l.told(), std::slice::from_ref(&never));
    let kept = l
        .tasks
        .create_task(async { panic!("boom") }, TaskOptions::named("first"));
    l.run();
    assert!(l.told().is_empty());
    drop::<Task<()>>(kept);
    assert_eq!(l.told(), [never]);
    // TSK-16: a cancel of a failed task suppresses the report.
    let kept: Task<()> = l.spawn(async { panic!("boom") });
    l.run();
    assert!(!kept.cancel());
    drop(kept);
    assert!(l.told().is_empty());
    // And the panic can still be retrieved.
    let mut kept: Task<()> = l.spawn(async { panic!("boom") });
    l.run();
    assert!(!kept.cancel());
    assert!(kept.result().unwrap().unwrap_err().is_panic());
}

#[test]
fn a_loop_exit_leaves_the_step_and_the_state_is_in_order() {
    let l = Loop::new();
    let mut task: Task<()> = l.spawn(async { exit_loop(42) });
    let mut other = l.spawn(async { 1 });
    let payload = catch_unwind(AssertUnwindSafe(|| l.turn())).unwrap_err();
    assert!(is_loop_exit(&*payload));
    let value = payload.downcast::<LoopExit>().unwrap().0;
    assert_eq!(*value.downcast::<i32>().unwrap(), 42);
    assert!(task.done());
    assert_eq!(l.ready.len(), 1, "the rest of the batch stays queued");
    l.run();
    assert_eq!(other.result().unwrap().unwrap(), 1);
    match task.result() {
        Some(Err(JoinError::Panicked(payload))) => assert!(is_loop_exit(&*payload)),
        other => panic!("{other:?}"),
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn drops_that_panic_do_no_harm() {
    let l = Loop::new();
    let held = OnDrop(|| panic!("drop of a local"));
    let mut local: Task<u8> = l.spawn(async move {
        let _held = &held;
        pause().await.unwrap();
        3
    });
    let output = l.spawn(async { OnDrop(|| panic!("drop of the output")) });
    drop(output);
    let held = OnDrop(|| panic!("drop of an aborted body"));
    let mut aborted: Task<()> = l.spawn(async move {
        let _held = &held;
        pending::<()>().await;
    });
    l.turn();
    aborted.abort();
    l.run();
    let text = |result: Option<Result<_, JoinError>>| {
        result.unwrap().map(|_: ()| ()).unwrap_err().to_string()
    };
    assert_eq!(
        text(local.result().map(|r| r.map(drop))),
        "task panicked: drop of a local"
    );
    assert_eq!(
        text(aborted.result()),
        "task panicked: drop of an aborted body"
    );
    let told = l.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].2.as_deref(), Some("drop of the output"));
    drop((local, aborted));
    assert!(l.tasks.is_empty());
}

/// The task ends as the first of the panics has it; the output, already there, is dropped for itself.
#[test]
fn a_future_whose_drop_panics_with_its_output_ready_loses_neither() {
    struct Returns<const N: usize>([u8; N]);
    impl<const N: usize> Future for Returns<N> {
        type Output = OnDrop<fn()>;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Ready(OnDrop(|| panic!("drop of the output")))
        }
    }
    impl<const N: usize> Drop for Returns<N> {
        fn drop(&mut self) {
            assert_ne!(self.0[N - 1], 7, "drop of the future");
        }
    }
    fn check<const N: usize>() {
        let l = Loop::new();
        let mut task = l.spawn(Returns([7; N]));
        l.run();
        let ended = task.result().unwrap().map(drop).unwrap_err().to_string();
        assert!(ended.contains("drop of the future"), "{ended}");
        let told = l.told();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].2.as_deref(), Some("drop of the output"));
    }
    check::<1>();
    check::<5000>();
}

#[test]
fn close_drops_bodies_as_their_tasks_and_joiners_are_cancelled() {
    let l = Loop::new();
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let sink = seen.clone();
    let held = OnDrop(move || {
        let id = sink.borrow().len();
        sink.borrow_mut().push(format!("dropped {id}"));
    });
    let mut task: Task<()> = l.tasks.create_task(
        async move {
            let _held = &held;
            pending::<()>().await;
        },
        TaskOptions::named("stuck"),
    );
    let quiet: Task<()> = l
        .tasks
        .create_task(pending(), TaskOptions::default().quiet(true));
    l.run();
    l.tasks.close();
    assert_eq!(*seen.borrow(), ["dropped 0"]);
    assert!(task.cancelled() && quiet.cancelled());
    assert!(matches!(task.result(), Some(Err(JoinError::Cancelled(_)))));
    assert_eq!(
        l.told(),
        [(
            "Task was destroyed but it is pending!",
            Some("stuck".to_owned()),
            None
        )]
    );
    let late = l.spawn(async { unreachable!("the loop is closed") });
    assert!(late.cancelled());
    drop::<Task<()>>(late);
    l.run();
}

#[test]
fn close_goes_on_after_a_body_that_panics_and_one_that_spawns() {
    let l = Loop::new();
    let bad = OnDrop(|| panic!("bad body"));
    drop::<Task<()>>(l.spawn(async move {
        let _bad = &bad;
        pending::<()>().await;
    }));
    let tasks = l.tasks.clone();
    let spawner = OnDrop(move || {
        let late = tasks.create_task(pending::<()>(), TaskOptions::default());
        assert!(late.cancelled());
    });
    drop::<Task<()>>(l.spawn(async move {
        let _spawner = &spawner;
        pending::<()>().await;
    }));
    l.run();
    l.tasks.close();
    assert!(l.tasks.is_empty());
    let panics: Vec<_> = l.told().into_iter().filter_map(|told| told.2).collect();
    assert_eq!(panics, ["bad body"]);
}

#[test]
fn a_task_that_closes_its_loop_ends_after_its_step() {
    let l = Loop::new();
    let tasks = l.tasks.clone();
    let mut task: Task<()> = l.spawn(async move {
        tasks.close();
        pending::<()>().await;
    });
    l.run();
    assert!(matches!(task.result(), Some(Err(JoinError::Cancelled(_)))));
}

#[test]
fn closing_works_while_the_thread_ends() {
    struct Late(RefCell<Option<Loop>>);
    thread_local! {
        static LATE: Late = const { Late(RefCell::new(None)) };
    }
    impl Drop for Late {
        fn drop(&mut self) {
            let l = self.0.take().unwrap();
            l.tasks.close();
            assert!(l.tasks.is_empty());
        }
    }
    std::thread::spawn(|| {
        LATE.with(|late| {
            let l = Loop::new();
            let leaf = Leaf::<()>::new();
            drop(l.spawn(async move { leaf.wait().await }));
            l.run();
            *late.0.borrow_mut() = Some(l);
        });
    })
    .join()
    .unwrap();
}

#[test]
fn handles_through_dyn_keep_their_type() {
    let l = Loop::new();
    let mut body = FutureBody::new(async { 5_u32 });
    let raw = l.tasks.spawn(&mut body, TaskOptions::default());
    let raw = Task::<u64>::from_raw(raw).unwrap_err();
    let mut task = Task::<u32>::from_raw(raw).unwrap();
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), 5);
}

#[test]
fn a_task_can_not_await_itself() {
    let l = Loop::new();
    let handle: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let own = handle.clone();
    *handle.borrow_mut() = Some(l.spawn(async move {
        let own = own.borrow_mut().take().unwrap();
        own.await.unwrap();
    }));
    l.run();
    let told = l.told();
    assert!(
        told[0]
            .2
            .as_ref()
            .unwrap()
            .starts_with("Task cannot await on itself")
    );
}

#[test]
fn a_step_inside_the_same_step_is_refused() {
    let l = Loop::new();
    let (tasks, ready) = (l.tasks.clone(), l.ready.clone());
    let mut task = l.spawn(poll_fn(move |cx: &mut Context<'_>| {
        cx.waker().wake_by_ref();
        let entry = ready.pop().unwrap();
        swap_current_task(tasks.loop_id(), None).unwrap();
        tasks.step(entry.index, entry.generation);
        Poll::Ready(1)
    }));
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), 1);
    assert_eq!(
        l.told().len(),
        2,
        "the nested step, and the current task that was swapped away"
    );
}

#[test]
fn a_task_of_another_loop_is_awaited_only_when_done() {
    let (a, b) = (Loop::new(), Loop::new());
    let pending = b.spawn(async { 4 });
    let mut outer = a.spawn(async move { pending.await.unwrap() });
    a.run();
    let Some(Err(JoinError::Panicked(payload))) = outer.result() else {
        panic!("not refused");
    };
    assert!(panic_message(&*payload).contains("attached to a different loop"));
    let done = b.spawn(async { 5 });
    b.run();
    let mut outer = a.spawn(async move { done.await.unwrap() });
    a.run();
    assert_eq!(outer.result().unwrap().unwrap(), 5);
}

#[test]
fn two_loops_on_one_thread_wake_each_other() {
    let (a, b) = (Loop::new(), Loop::new());
    let leaf = Leaf::new();
    let far = leaf.clone();
    let mut waiting = a.spawn(async move { far.wait().await.unwrap() });
    a.run();
    drop(b.spawn(async move { leaf.set(3) }));
    b.run();
    a.run();
    assert_eq!(waiting.result().unwrap().unwrap(), 3);
    assert!(a.tasks.enter().is_ok_and(|_guard| b.tasks.enter().is_err()));
}
