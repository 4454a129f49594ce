//! The REG rows of the contract.

use super::*;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;

struct Foreign {
    id: TaskId,
    of: LoopId,
    done: AtomicBool,
}

impl ForeignTask for Foreign {
    fn id(&self) -> TaskId {
        self.id
    }

    fn name(&self) -> String {
        "foreign".into()
    }

    fn loop_id(&self) -> LoopId {
        self.of
    }

    fn done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

fn foreign(of: LoopId) -> (Arc<Foreign>, Arc<dyn ForeignTask>) {
    let task = Arc::new(Foreign {
        id: TaskId::unique(),
        of,
        done: AtomicBool::new(false),
    });
    (task.clone(), task)
}

fn listed(of: &Loop) -> Vec<TaskRef> {
    all_tasks(Some(of.tasks.loop_id())).unwrap()
}

fn current_of(l: &Loop) -> Option<TaskRef> {
    current_task(Some(l.tasks.loop_id())).unwrap()
}

#[test]
fn reg_01_02_03_foreign_tasks_are_listed_until_done_or_unregistered() {
    let (l, other) = (Loop::new(), Loop::new());
    let (task, known) = foreign(l.tasks.loop_id());
    unregister_task(&known);
    register_task(&known);
    register_task(&known);
    assert_eq!(listed(&l), [TaskRef::foreign(known.clone())]);
    assert_eq!(listed(&l)[0].name(), "foreign");
    assert!(listed(&other).is_empty());
    unregister_task(&known);
    assert!(listed(&l).is_empty());
    register_task(&known);
    task.done.store(true, Ordering::SeqCst);
    assert!(listed(&l).is_empty());
    // The registry keeps nothing alive.
    let (task, known) = foreign(l.tasks.loop_id());
    register_task(&known);
    drop((task, known));
    assert!(listed(&l).is_empty());
}

#[test]
fn reg_04_05_06_12_enter_leave_and_swap() {
    let l = Loop::new();
    let id = l.tasks.loop_id();
    let own = l.spawn(async {});
    let own = own.as_ref();
    let known = TaskRef::foreign(foreign(id).1);
    let _entered = l.tasks.enter().unwrap();
    for (task, another) in [(&known, &own), (&own, &known)] {
        assert!(matches!(
            leave_task(id, task),
            Err(RegistryError::NotEntered { current: None, .. })
        ));
        enter_task(id, task).unwrap();
        assert_eq!(current_of(&l).as_ref(), Some(task));
        for refused in [task, another] {
            let error = enter_task(id, refused).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "Cannot enter into task {refused:?} while another task {task:?} is being executed."
                )
            );
        }
        let error = leave_task(id, another).unwrap_err().to_string();
        assert!(
            error.starts_with("Invalid attempt to leave task"),
            "{error}"
        );
        assert_eq!(current_of(&l).as_ref(), Some(task));
        assert_eq!(
            swap_current_task(id, Some(another)).unwrap().as_ref(),
            Some(task)
        );
        assert_eq!(
            swap_current_task(id, Some(task)).unwrap().as_ref(),
            Some(another)
        );
        assert_eq!(swap_current_task(id, None).unwrap().as_ref(), Some(task));
        assert_eq!(swap_current_task(id, Some(task)).unwrap(), None);
        leave_task(id, task).unwrap();
        assert_eq!(current_of(&l), None);
    }
}

#[test]
fn enter_needs_the_running_loop_and_a_pending_task() {
    let (l, other) = (Loop::new(), Loop::new());
    let id = l.tasks.loop_id();
    let task = l.spawn(async {});
    let of = task.as_ref();
    let error = enter_task(id, &of).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("loop {id:?} is not the running loop")
    );
    assert!(leave_task(id, &of).is_err() && swap_current_task(id, None).is_err());
    {
        let _entered = other.tasks.enter().unwrap();
        assert!(matches!(
            enter_task(id, &of),
            Err(RegistryError::NotRunning(_))
        ));
        let its = other.tasks.loop_id();
        assert!(matches!(
            enter_task(its, &of),
            Err(RegistryError::NotPending(_))
        ));
    }
    l.run();
    let _entered = l.tasks.enter().unwrap();
    assert!(matches!(
        enter_task(id, &of),
        Err(RegistryError::NotPending(_))
    ));
}

#[test]
fn reg_07_08_13_current_task() {
    assert_eq!(
        current_task(None).unwrap_err().to_string(),
        "no running event loop"
    );
    assert!(matches!(all_tasks(None), Err(RegistryError::NoRunningLoop)));
    assert!(running_loop_id().is_none() && current().is_none());
    let l = Loop::new();
    let id = l.tasks.loop_id();
    assert_eq!(current_of(&l), None);
    let body = move || async move {
        let me = current().unwrap();
        for _ in 0..3 {
            assert_eq!(current_task(None).unwrap(), Some(me.as_ref()));
            assert_eq!(current_task(Some(id)).unwrap(), Some(me.as_ref()));
            assert_eq!(me.as_ref().state(), TaskState::Running);
            assert_eq!(current().unwrap().id(), me.id());
            pause().await.unwrap();
        }
        assert_eq!(running_loop_id(), Some(id));
        me.id()
    };
    let mut tasks = [l.spawn(body()), l.spawn(body()), l.spawn(body())];
    l.run();
    for task in &mut tasks {
        assert_eq!(task.result().unwrap().unwrap(), task.id());
    }
    let _entered = l.tasks.enter().unwrap();
    assert_eq!(current_task(None).unwrap(), None, "a plain callback");
}

#[test]
fn two_loops_of_one_thread_have_their_own_current_task() {
    let (a, b) = (Loop::new(), Loop::new());
    let (task_a, task_b) = (a.spawn(async {}), b.spawn(async {}));
    for (l, task) in [(&a, &task_a), (&b, &task_b)] {
        let _entered = l.tasks.enter().unwrap();
        enter_task(l.tasks.loop_id(), &task.as_ref()).unwrap();
    }
    assert_eq!(current_of(&a), Some(task_a.as_ref()));
    assert_eq!(current_of(&b), Some(task_b.as_ref()));
    for (l, task) in [(&a, &task_a), (&b, &task_b)] {
        let _entered = l.tasks.enter().unwrap();
        leave_task(l.tasks.loop_id(), &task.as_ref()).unwrap();
    }
}

#[test]
fn a_finished_task_disappears_at_once_and_names_stay() {
    let l = Loop::new();
    let task = l.tasks.create_task(async {}, TaskOptions::named("worker"));
    let plain = l.spawn(async {});
    let of = task.as_ref();
    assert_eq!(listed(&l).len(), 2);
    assert_eq!((of.name().as_str(), of.is_done()), ("worker", false));
    assert_eq!(plain.get_name(), format!("Task-{}", plain.id().get()));
    assert!(plain.id() > task.id());
    task.set_name("renamed");
    assert_eq!(
        (task.get_name(), of.name()),
        ("renamed".into(), "renamed".into())
    );
    l.run();
    assert!(listed(&l).is_empty());
    assert_eq!((task.get_name().as_str(), of.is_done()), ("renamed", true));
    let last = task.as_ref();
    drop(task);
    assert_eq!(
        (last.name().as_str(), of.name().as_str()),
        ("renamed", "worker")
    );
    // The slot is used again; the reference still means the old task.
    let again = l.spawn(async {});
    assert!(of.is_done());
    assert_ne!(again.as_ref(), of);
    assert!(l.tasks.local(&of).is_none());
    assert_eq!(l.tasks.local(&again.as_ref()).unwrap().id(), again.id());
}

#[test]
fn reg_09_all_tasks_is_exact_with_many_loops_in_many_threads() {
    const THREADS: usize = 4;
    const TASKS: usize = 300;
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                let l = Loop::new();
                barrier.wait();
                let tasks: Vec<_> = (0..TASKS)
                    .map(|_| l.spawn(std::future::pending::<()>()))
                    .collect();
                let mut ids: Vec<_> = listed(&l).iter().map(TaskRef::id).collect();
                ids.sort();
                let mut expected: Vec<_> = tasks.iter().map(|task| task.id()).collect();
                expected.sort();
                assert_eq!(ids, expected);
                tasks.iter().for_each(|task| task.abort());
                l.run();
                assert!(listed(&l).is_empty());
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn reg_09_reading_from_another_thread_is_consistent() {
    let l = Loop::new();
    let id = l.tasks.loop_id();
    let stop = Arc::new(AtomicBool::new(false));
    let kept = l
        .tasks
        .create_task(std::future::pending::<()>(), TaskOptions::named("kept"));
    let kept = kept.as_ref();
    let reader = {
        let (stop, kept) = (stop.clone(), kept.clone());
        std::thread::spawn(move || {
            let mut reads = 0;
            while !stop.load(Ordering::SeqCst) || reads == 0 {
                let all = all_tasks(Some(id)).unwrap();
                assert!(all.contains(&kept), "it is pending all the time");
                assert!(all.iter().all(|task| task.loop_id() == id));
                let _ = (current_task(Some(id)).unwrap(), format!("{all:?}"));
                reads += 1;
            }
        })
    };
    for round in 0..200_usize {
        let named = |n: usize| TaskOptions::named(format!("round {round} task {n}"));
        let tasks: Vec<_> = (0..20)
            .map(|n| l.tasks.create_task(async { pause().await }, named(n)))
            .collect();
        l.run_but_one();
        drop(tasks);
    }
    stop.store(true, Ordering::SeqCst);
    reader.join().unwrap();
}

impl Loop {
    /// Runs until only the task that waits for ever is left.
    fn run_but_one(&self) {
        while self.tasks.len() > 1 {
            self.turn();
        }
    }
}

#[test]
fn a_task_that_was_left_entered_is_not_current_after_its_end() {
    use super::super::shared::Current;
    let l = Loop::new();
    let id = l.tasks.loop_id();
    // Entered when its loop closes, and entered again after that, by who saw it current before.
    let left = l.spawn(std::future::pending::<()>()).as_ref();
    let entered = l.tasks.enter().unwrap();
    enter_task(id, &left).unwrap();
    let before = l.tasks.swap_current(Current::Nobody);
    assert!(matches!(before, Current::Arena { .. }));
    enter_task(id, &left).unwrap();
    l.tasks.close();
    assert!(left.is_done());
    for _ in 0..2 {
        let current = l.tasks.swap_current(before.clone());
        assert!(matches!(current, Current::Nobody));
    }
    drop(entered);
}

#[test]
fn reg_10_a_reference_may_be_released_after_its_thread_ended() {
    let (done, pending, id) = std::thread::spawn(|| {
        let l = Loop::new();
        let done = l.tasks.create_task(async {}, TaskOptions::named("done"));
        l.run();
        let pending = l.spawn(std::future::pending::<()>());
        (done.as_ref(), pending.as_ref(), l.tasks.loop_id())
    })
    .join()
    .unwrap();
    assert!(done.is_done() && pending.is_done());
    assert_eq!(done.name(), "done");
    assert!(all_tasks(Some(id)).unwrap().is_empty());
    assert_eq!(current_task(Some(id)).unwrap(), None);
}

#[test]
fn reg_11_registering_again_while_being_destroyed() {
    struct Phoenix(
        std::sync::Mutex<Option<Arc<dyn ForeignTask>>>,
        LoopId,
        TaskId,
    );
    impl ForeignTask for Phoenix {
        fn id(&self) -> TaskId {
            self.2
        }
        fn name(&self) -> String {
            "phoenix".into()
        }
        fn loop_id(&self) -> LoopId {
            self.1
        }
        fn done(&self) -> bool {
            false
        }
    }
    impl Drop for Phoenix {
        fn drop(&mut self) {
            // Its successor is registered while this one goes.
            if let Some(next) = self.0.lock().unwrap().take() {
                register_task(&next);
                assert!(listed_by(self.1).iter().any(|task| task.id() == next.id()));
            }
        }
    }
    fn listed_by(id: LoopId) -> Vec<TaskRef> {
        all_tasks(Some(id)).unwrap()
    }
    let l = Loop::new();
    let id = l.tasks.loop_id();
    let next = foreign(id).1;
    let task: Arc<dyn ForeignTask> = Arc::new(Phoenix(
        std::sync::Mutex::new(Some(next.clone())),
        id,
        TaskId::unique(),
    ));
    register_task(&task);
    drop(task);
    assert_eq!(listed(&l), [TaskRef::foreign(next)]);
}

#[test]
fn loop_ids_are_never_used_twice_and_slots_are() {
    let first = Loop::new().tasks.loop_id();
    let mut ids = vec![first];
    for _ in 0..50 {
        let id = Loop::new().tasks.loop_id();
        assert!(!ids.contains(&id));
        ids.push(id);
    }
}

#[test]
fn bodies_are_dropped_as_their_tasks() {
    struct Seen(Rc<RefCell<Vec<Option<TaskRef>>>>, LoopId);
    impl Drop for Seen {
        fn drop(&mut self) {
            let current = current_task(Some(self.1)).unwrap();
            self.0.borrow_mut().push(current);
        }
    }
    let l = Loop::new();
    let seen = Rc::default();
    let body = || {
        let held = Seen(Rc::clone(&seen), l.tasks.loop_id());
        async move {
            let _held = held;
            std::future::pending::<()>().await;
        }
    };
    let tasks = [l.spawn(body()), l.spawn(body()), l.spawn(body())];
    let ids: Vec<_> = tasks.iter().map(|task| Some(task.as_ref())).collect();
    tasks[0].cancel();
    l.run();
    tasks[1].abort();
    l.run();
    l.tasks.close();
    assert_eq!(*seen.borrow(), ids);
}
