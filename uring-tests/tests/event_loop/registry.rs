//! Which tasks exist and which one runs: `all_tasks`, `current_task`, and the functions by which
//! task types of others take part.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ringloop::task::{
    ForeignTask, LoopId, RegistryError, TaskId, TaskRef, TaskState, all_tasks, current,
    current_task, enter_task, leave_task, register_task, swap_current_task, unregister_task,
};
use ringloop::{EventLoopExt, sleep, yield_now};
use uring_tests::order::Order;
use uring_tests::tasks::HOUR;
use uring_tests::watch::Watch;
use uring_tests::{Meeting, on_both_drivers};

use crate::tasks::sleeper;

/// A task type of somebody else's.
struct Foreign {
    id: TaskId,
    name: &'static str,
    of: LoopId,
    done: AtomicBool,
}

impl Foreign {
    fn new(of: LoopId, name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            id: TaskId::unique(),
            name,
            of,
            done: AtomicBool::new(false),
        })
    }
}

impl ForeignTask for Foreign {
    fn id(&self) -> TaskId {
        self.id
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn loop_id(&self) -> LoopId {
        self.of
    }

    fn done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

/// Registers it and keeps the shape that the registry takes.
fn registered(task: &Arc<Foreign>) -> Arc<dyn ForeignTask> {
    let erased: Arc<dyn ForeignTask> = task.clone();
    register_task(&erased);
    erased
}

/// The names of all tasks of a loop, sorted.
fn names(of: LoopId) -> Vec<String> {
    let mut names: Vec<_> = all_tasks(Some(of))
        .unwrap()
        .iter()
        .map(TaskRef::name)
        .collect();
    names.sort();
    names
}

/// The name of the current task of a loop.
fn current_of(of: LoopId) -> Option<String> {
    current_task(Some(of)).unwrap().map(|task| task.name())
}

on_both_drivers! {
    fn reg_01_a_foreign_task_is_listed_by_its_loop_only(kind: DriverKind) {
        let (l, other) = (Watch::new(kind), Watch::new(kind));
        let foreign = Foreign::new(l.id(), "foreign");
        let _registered = registered(&foreign);
        let own = l.create_task(sleep(HOUR)).unwrap();
        own.set_name("own");
        assert_eq!(names(l.id()), ["foreign", "own"]);
        assert!(names(other.id()).is_empty());
        own.abort();
        l.turn();
    }

    fn reg_02_finished_tasks_are_not_listed(kind: DriverKind) {
        let l = Watch::new(kind);
        let foreign = Foreign::new(l.id(), "foreign");
        let _registered = registered(&foreign);
        let own = l.create_task(async {}).unwrap();
        let reference = own.as_ref();
        assert_eq!(all_tasks(Some(l.id())).unwrap().len(), 2);
        foreign.done.store(true, Ordering::SeqCst);
        l.turn();
        // Though the handle keeps its result.
        assert!(own.done() && reference.is_done());
        assert!(all_tasks(Some(l.id())).unwrap().is_empty());
    }

    fn reg_03_unregister_removes_and_an_unknown_one_is_harmless(kind: DriverKind) {
        let l = Watch::new(kind);
        let (one, two) = (Foreign::new(l.id(), "one"), Foreign::new(l.id(), "two"));
        let (one, unknown) = (registered(&one), Arc::clone(&two) as Arc<dyn ForeignTask>);
        unregister_task(&unknown);
        assert_eq!(names(l.id()), ["one"]);
        unregister_task(&one);
        unregister_task(&one);
        assert!(names(l.id()).is_empty());
        // One that was only dropped is gone too: the registry owns nothing.
        let dropped = registered(&Foreign::new(l.id(), "dropped"));
        assert_eq!(names(l.id()), ["dropped"]);
        drop(dropped);
        assert!(names(l.id()).is_empty());
    }

    fn reg_04_enter_makes_the_current_task_and_leave_clears_it(kind: DriverKind) {
        let l = Watch::new(kind);
        let id = l.id();
        let task = TaskRef::foreign(Foreign::new(id, "entered"));
        let run = l.base.run_forever_setup().unwrap();
        assert_eq!(current_of(id), None);
        enter_task(id, &task).unwrap();
        assert_eq!(current_of(id).as_deref(), Some("entered"));
        // It is not one of the arena.
        assert!(current().is_none());
        leave_task(id, &task).unwrap();
        assert_eq!(current_of(id), None);
        // One of the arena likewise.
        let own = l.create_task(async {}).unwrap();
        enter_task(id, &own.as_ref()).unwrap();
        assert_eq!(current().map(|task| task.id()), Some(own.id()));
        leave_task(id, &own.as_ref()).unwrap();
        run.run_once().unwrap();
        assert!(own.done());
        let ended = own.as_ref();
        assert!(matches!(enter_task(id, &ended), Err(RegistryError::NotPending(_))));
        // Nor does one that came into its place stand for it.
        drop(own);
        let successor = l.create_task(async {}).unwrap();
        assert!(matches!(enter_task(id, &ended), Err(RegistryError::NotPending(_))));
        assert!(matches!(swap_current_task(id, Some(&ended)), Err(RegistryError::NotPending(_))));
        assert_eq!(current_of(id), None);
        run.run_once().unwrap();
        assert!(successor.done());
        drop(run);
        assert!(matches!(enter_task(id, &task), Err(RegistryError::NotRunning(_))));
        assert!(matches!(leave_task(id, &task), Err(RegistryError::NotRunning(_))));
    }

    fn reg_05_enter_while_a_task_is_current_changes_nothing(kind: DriverKind) {
        let l = Watch::new(kind);
        let id = l.id();
        l.run(async move {
            let own = current_task(None).unwrap().unwrap();
            let task = TaskRef::foreign(Foreign::new(id, "second"));
            let Err(RegistryError::Entered { task: refused, current }) = enter_task(id, &task)
            else {
                panic!("entered");
            };
            assert_eq!((refused.id(), current.id()), (task.id(), own.id()));
            let text = enter_task(id, &task).unwrap_err().to_string();
            assert!(text.starts_with("Cannot enter into task"), "{text}");
            assert_eq!(current_task(None).unwrap(), Some(own));
        });
    }

    fn reg_06_leave_of_the_wrong_task_changes_nothing(kind: DriverKind) {
        let l = Watch::new(kind);
        let id = l.id();
        let _run = l.base.run_forever_setup().unwrap();
        let (one, two) = (Foreign::new(id, "one"), Foreign::new(id, "two"));
        let (one, two) = (TaskRef::foreign(one), TaskRef::foreign(two));
        let none = leave_task(id, &one).unwrap_err();
        assert!(matches!(&none, RegistryError::NotEntered { current: None, .. }));
        assert!(none.to_string().starts_with("Invalid attempt to leave task"), "{none}");
        enter_task(id, &one).unwrap();
        let wrong = leave_task(id, &two).unwrap_err();
        assert!(matches!(&wrong, RegistryError::NotEntered { current: Some(current), .. } if *current == one));
        assert_eq!(current_of(id).as_deref(), Some("one"));
        leave_task(id, &one).unwrap();
    }

    fn reg_07_current_task_with_and_without_a_loop(kind: DriverKind) {
        let l = Watch::new(kind);
        let id = l.id();
        assert!(matches!(current_task(None), Err(RegistryError::NoRunningLoop)));
        assert!(matches!(all_tasks(None), Err(RegistryError::NoRunningLoop)));
        assert_eq!(RegistryError::NoRunningLoop.to_string(), "no running event loop");
        assert!(current().is_none());
        assert_eq!(current_of(id), None);
        l.run(async move {
            let me = current().unwrap();
            assert_eq!(current_task(None).unwrap().unwrap().id(), me.id());
            assert_eq!(current_task(Some(id)).unwrap().unwrap().id(), me.id());
            assert_eq!(all_tasks(None).unwrap(), all_tasks(Some(id)).unwrap());
            assert_eq!(me.as_ref().state(), TaskState::Running);
            // Also as another thread sees it.
            let seen = std::thread::spawn(move || current_task(Some(id)).unwrap().unwrap().id());
            assert_eq!(seen.join().unwrap(), me.id());
            let none = std::thread::spawn(|| current_task(None).is_err());
            assert!(none.join().unwrap());
        });
        assert_eq!(current_of(id), None);
    }

    fn reg_08_current_task_over_interleaved_tasks(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        for name in ["a", "b", "c"] {
            let order = order.clone();
            let task = l.create_task(async move {
                for _ in 0..3 {
                    order.add((name, current_task(None).unwrap().unwrap().name()));
                    yield_now().await.unwrap();
                }
            });
            task.unwrap().set_name(name);
        }
        l.turns(4);
        let seen = order.take();
        assert_eq!(seen.len(), 9);
        assert!(seen.iter().all(|(own, current)| own == current), "{seen:?}");
        assert!(seen.iter().map(|(own, _)| *own).eq(["a", "b", "c"].repeat(3)));
    }

    /// Every loop stops twice with a known number of tasks; readers look all the time.
    fn reg_09_all_tasks_is_exact_with_many_loops_and_consistent_for_readers(kind: DriverKind) {
        const LOOPS: usize = 4;
        const TASKS: usize = 50;
        let known: Arc<Mutex<Vec<LoopId>>> = Arc::default();
        let (loops, meetings): (Vec<_>, Vec<_>) = (0..LOOPS)
            .map(|_| {
                let (known, (here, there)) = (known.clone(), Meeting::between_two());
                let body = move || {
                    let l = Watch::new(kind);
                    known.lock().unwrap().push(l.id());
                    // Tasks come and go while others look.
                    for _ in 0..20 {
                        let batch: Vec<_> =
                            (0..TASKS).map(|_| l.create_task(yield_now()).unwrap()).collect();
                        l.turns(2);
                        assert!(batch.iter().all(|task| task.done()));
                    }
                    let tasks: Vec<_> = (0..TASKS).map(|_| sleeper(&l)).collect();
                    // All is steady, and has been looked at.
                    there.meet();
                    there.meet();
                    tasks.iter().for_each(|task| task.abort());
                    l.turn();
                };
                (std::thread::spawn(body), here)
            })
            .unzip();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let (known, stop) = (known.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let known = known.lock().unwrap().clone();
                    for id in known {
                        let tasks = all_tasks(Some(id)).unwrap();
                        assert!(tasks.len() <= TASKS, "more than ever lived at once");
                        let distinct: HashSet<_> = tasks.iter().map(TaskRef::id).collect();
                        assert_eq!(distinct.len(), tasks.len());
                        assert!(tasks.iter().all(|task| task.loop_id() == id));
                        drop(tasks.iter().map(|task| (task.name(), task.state())).collect::<Vec<_>>());
                        drop(current_task(Some(id)).unwrap());
                    }
                }
            })
        };
        meetings.iter().for_each(Meeting::meet);
        for &id in known.lock().unwrap().iter() {
            let tasks = all_tasks(Some(id)).unwrap();
            assert_eq!(tasks.len(), TASKS);
            assert!(tasks.iter().all(|task| task.state() == TaskState::Pending));
        }
        meetings.iter().for_each(Meeting::meet);
        for thread in loops {
            thread.join().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        for &id in known.lock().unwrap().iter() {
            assert!(all_tasks(Some(id)).unwrap().is_empty());
        }
    }

    fn reg_10_a_reference_outlives_task_loop_and_thread(kind: DriverKind) {
        let (finished, pending) = std::thread::spawn(move || {
            let l = Watch::new(kind);
            let (finished, pending) = (l.create_task(async {}).unwrap(), sleeper(&l));
            finished.set_name("finished");
            pending.set_name("pending");
            let references = (finished.as_ref(), pending.as_ref());
            pending.abort();
            l.turns(2);
            references
        })
        .join()
        .unwrap();
        assert!(finished.is_done() && pending.is_done());
        assert_eq!(finished.state(), TaskState::Done);
        // The loop forgot their names, they did not.
        assert_eq!((finished.name(), pending.name()), ("finished".into(), "pending".into()));
        assert!(format!("{finished:?}").starts_with("<Task done name='finished' Task-"));
        assert!(all_tasks(Some(finished.loop_id())).unwrap().is_empty());
        drop((finished, pending));
    }

    /// Destructors of tasks that list, register and unregister while the registry is being read.
    fn reg_11_registering_while_a_task_is_destroyed_does_no_harm(kind: DriverKind) {
        struct Dying {
            id: TaskId,
            of: LoopId,
            heir: Mutex<Option<Arc<dyn ForeignTask>>>,
        }
        impl ForeignTask for Dying {
            fn id(&self) -> TaskId {
                self.id
            }
            fn name(&self) -> String {
                "dying".to_owned()
            }
            fn loop_id(&self) -> LoopId {
                self.of
            }
            fn done(&self) -> bool {
                false
            }
        }
        impl Drop for Dying {
            fn drop(&mut self) {
                let heir = self.heir.lock().unwrap().take().unwrap();
                register_task(&heir);
                unregister_task(&heir);
                register_task(&heir);
                assert_eq!(names(self.of), ["heir"]);
            }
        }
        let l = Watch::new(kind);
        let heir: Arc<dyn ForeignTask> = Foreign::new(l.id(), "heir");
        let dying: Arc<dyn ForeignTask> = Arc::new(Dying {
            id: TaskId::unique(),
            of: l.id(),
            heir: Mutex::new(Some(heir.clone())),
        });
        register_task(&dying);
        let listed = all_tasks(Some(l.id())).unwrap();
        drop(dying);
        assert_eq!(listed.len(), 1);
        // The list holds the last reference.
        drop(listed);
        assert_eq!(names(l.id()), ["heir"]);
        // A body that is dropped may not bring its own task back either.
        struct Enters(LoopId);
        impl Drop for Enters {
            fn drop(&mut self) {
                let me = current().expect("dropped as itself").as_ref();
                assert!(matches!(enter_task(self.0, &me), Err(RegistryError::Entered { .. })));
                assert!(all_tasks(None).unwrap().contains(&me));
            }
        }
        let enters = Enters(l.id());
        let task = l.create_task(async move {
            let _enters = enters;
            std::future::pending::<()>().await;
        });
        let task = task.unwrap();
        l.turn();
        task.abort();
        l.turn();
        assert!(task.done());
        assert_eq!(names(l.id()), ["heir"]);
    }

    /// Nothing is locked while tasks of others are asked what they are.
    fn reg_11_a_task_may_use_the_registry_while_it_is_asked(kind: DriverKind) {
        struct Nosy(TaskId, LoopId, AtomicBool);
        impl Nosy {
            /// Lists, registers and unregisters, but not for its own sake.
            fn look(&self) {
                if !self.2.swap(true, Ordering::SeqCst) {
                    drop(names(self.1));
                    drop(registered(&Foreign::new(self.1, "guest")));
                    self.2.store(false, Ordering::SeqCst);
                }
            }
        }
        impl ForeignTask for Nosy {
            fn id(&self) -> TaskId {
                self.0
            }
            fn name(&self) -> String {
                self.look();
                "nosy".to_owned()
            }
            fn loop_id(&self) -> LoopId {
                self.look();
                self.1
            }
            fn done(&self) -> bool {
                self.look();
                false
            }
        }
        let l = Watch::new(kind);
        let nosy = Arc::new(Nosy(TaskId::unique(), l.id(), AtomicBool::new(false)));
        let nosy: Arc<dyn ForeignTask> = nosy;
        register_task(&nosy);
        assert_eq!(names(l.id()), ["nosy"]);
        unregister_task(&nosy);
        assert!(names(l.id()).is_empty());
    }

    fn reg_12_the_current_task_is_per_loop_and_swap_returns_the_one_before(kind: DriverKind) {
        let (l, other) = (Watch::new(kind), Watch::new(kind));
        let (id, elsewhere) = (l.id(), other.id());
        let _run = l.base.run_forever_setup().unwrap();
        let (one, two) = (Foreign::new(id, "one"), Foreign::new(id, "two"));
        let (one, two) = (TaskRef::foreign(one), TaskRef::foreign(two));
        enter_task(id, &one).unwrap();
        assert!(matches!(enter_task(id, &one), Err(RegistryError::Entered { .. })));
        assert_eq!(current_of(elsewhere), None);
        let foreign = TaskRef::foreign(Foreign::new(elsewhere, "elsewhere"));
        assert!(matches!(enter_task(elsewhere, &foreign), Err(RegistryError::NotRunning(_))));
        assert!(matches!(swap_current_task(elsewhere, None), Err(RegistryError::NotRunning(_))));
        assert_eq!(swap_current_task(id, Some(&two)).unwrap(), Some(one.clone()));
        assert_eq!(current_of(id).as_deref(), Some("two"));
        assert_eq!(swap_current_task(id, None).unwrap(), Some(two));
        assert_eq!(swap_current_task(id, Some(&one)).unwrap(), None);
        leave_task(id, &one).unwrap();
        assert_eq!(current_of(id), None);
    }

    fn reg_13_callbacks_have_no_current_task_and_register_is_idempotent(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let note = |what| {
            let order = order.clone();
            move || order.add((what, current_task(None).unwrap().is_none() && current().is_none()))
        };
        l.call_soon(note("soon")).unwrap();
        l.call_at(0, note("timer")).unwrap();
        let inside = note("a callback scheduled by a task");
        drop(l.create_task(async move {
            let l = ringloop::get_running_loop();
            l.call_soon(inside).unwrap();
        }));
        l.turns(2);
        assert_eq!(
            order.take(),
            [("soon", true), ("timer", true), ("a callback scheduled by a task", true)]
        );
        let foreign = Foreign::new(l.id(), "once");
        let registered = registered(&foreign);
        register_task(&registered);
        assert_eq!(names(l.id()), ["once"]);
    }

    /// Held things are dropped as their task, when it is aborted and when the loop closes.
    fn a_task_is_dropped_as_itself(kind: DriverKind) {
        struct Held(LoopId, Order<(Option<TaskId>, bool)>);
        impl Drop for Held {
            fn drop(&mut self) {
                let current = current_task(Some(self.0)).unwrap();
                let pending = current.as_ref().is_some_and(|task| !task.is_done());
                self.1.add((current.map(|task| task.id()), pending));
            }
        }
        let l = Watch::new(kind);
        let order = Order::default();
        let hold = || {
            let held = Held(l.id(), order.clone());
            let body = async move {
                let _held = held;
                std::future::pending::<()>().await;
            };
            l.create_task(body).unwrap()
        };
        let (aborted, left) = (hold(), hold());
        l.turn();
        aborted.abort();
        l.turn();
        assert_eq!(order.take(), [(Some(aborted.id()), true)]);
        l.close().unwrap();
        assert_eq!(order.take(), [(Some(left.id()), true)]);
        assert!(left.cancelled());
        assert_eq!(l.messages(), ["Task was destroyed but it is pending!"]);
        assert_eq!(current_of(l.id()), None);
    }

    /// The handle of a task, also from a foreign loop of the thread, finds only its own.
    fn reg_01_a_reference_becomes_a_local_task_in_its_own_loop_only(kind: DriverKind) {
        let (l, other) = (Watch::new(kind), Watch::new(kind));
        let task = sleeper(&l);
        let reference = task.as_ref();
        assert!(other.core().tasks().local(&reference).is_none());
        let local = l.core().tasks().local(&reference).unwrap();
        assert!(local.cancel());
        l.turn();
        assert!(task.done() && l.core().tasks().local(&reference).is_none());
        // Nor is a task that came into its place taken for it.
        drop(task);
        let successor = sleeper(&l);
        assert!(l.core().tasks().local(&reference).is_none());
        successor.abort();
        l.turn();
    }
}
