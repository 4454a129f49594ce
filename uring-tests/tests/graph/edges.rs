//! Which task waits for which, as the loop itself knows it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringloop::debug::{self, CallGraph, TaskGraph, capture_call_graph, print_call_graph};
use ringloop::event_loop::LoopError;
use ringloop::task::{TaskId, TaskOptions, TaskState, WaitsFor, current};
use ringloop::{
    Builder, Cancelled, DriverKind, EventLoopExt, ReturnWhen, Task, block_on, gather,
    get_running_loop, shield, sleep, task_group, timeout, wait, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::tasks::HOUR;

fn run<F: Future + 'static>(kind: DriverKind, main: F) -> F::Output {
    let event_loop = Builder::new().driver(kind).debug(false).build().unwrap();
    block_on(&event_loop, main).unwrap_or_else(|error| panic!("{error}"))
}

fn spawn<T: 'static>(name: &str, future: impl Future<Output = T> + 'static) -> Task<T> {
    let event_loop = get_running_loop();
    event_loop
        .create_task_with(future, TaskOptions::named(name))
        .unwrap()
}

async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await.unwrap();
    }
}

/// The names of a call graph, each with those who wait for it in parentheses.
fn names(graph: &CallGraph) -> String {
    let by: Vec<String> = graph.awaited_by.iter().map(names).collect();
    if by.is_empty() {
        return graph.task.name.clone();
    }
    format!("{}({})", graph.task.name, by.join(" "))
}

fn awaiters(id: TaskId) -> String {
    names(
        &capture_call_graph(Some(id))
            .unwrap()
            .expect("it is pending"),
    )
}

/// Polls a future with a waker of its own.
async fn with_a_waker_of_its_own<F: Future>(future: F) -> F::Output {
    struct Through(Waker, AtomicBool);
    impl Wake for Through {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::Relaxed);
            self.0.wake_by_ref();
        }
    }
    let mut future = pin!(future);
    poll_fn(|cx| {
        let through = Arc::new(Through(cx.waker().clone(), AtomicBool::new(false)));
        future
            .as_mut()
            .poll(&mut Context::from_waker(&through.into()))
    })
    .await
}

on_both_drivers! {
    fn grf_01_the_graph_of_a_task_says_what_it_waits_for_and_who_waits_for_it(kind: DriverKind) {
        assert_eq!(capture_call_graph(None), Err(LoopError::NoRunningLoop));
        run(kind, async {
            async fn leaf() -> u32 {
                sleep(HOUR).await.map_or(1, |()| 0)
            }
            let inner = spawn("inner", leaf());
            let id = inner.id();
            let middle = spawn("middle", async move { inner.await.unwrap() });
            let outer = spawn("outer", async move { middle.await.unwrap() });
            turns(3).await;
            let graph = capture_call_graph(Some(id)).unwrap().unwrap();
            assert_eq!(names(&graph), "inner(middle(outer))");
            assert_eq!(graph.task.waits.len(), 1);
            assert_eq!(graph.task.waits[0].what, WaitsFor::Sleep);
            assert!(graph.task.body.unwrap().contains("leaf"));
            let middle = &graph.awaited_by[0];
            assert_eq!(middle.task.waits[0].what, WaitsFor::Task(id));
            let mut text = Vec::new();
            print_call_graph(Some(id), &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text, graph.to_string());
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            assert!(lines[0].starts_with(&format!("* {id} \"inner\" of ")), "{text}");
            assert_eq!(lines[1..3], ["+ waits for sleep", "+ awaited by:"]);
            assert!(lines[3].contains("\"middle\""), "{text}");
            // The current task: it runs, and nobody waits for it.
            let me = capture_call_graph(None).unwrap().unwrap();
            assert_eq!(me.task.id, current().unwrap().id());
            assert_eq!(me.task.state, TaskState::Running);
            assert!(me.task.waits.is_empty() && me.awaited_by.is_empty());
            outer.cancel();
            assert_eq!(outer.await.unwrap(), 1);
            // It has ended.
            assert_eq!(capture_call_graph(Some(id)), Ok(None));
        });
    }

    /// Outside any task there is no current one.
    fn grf_01_a_plain_callback_has_no_graph(kind: DriverKind) {
        run(kind, async {
            let seen = Rc::new(Cell::new(None));
            let set = seen.clone();
            get_running_loop().call_soon(move || set.set(Some(capture_call_graph(None))))
            .unwrap();
            turns(2).await;
            assert_eq!(seen.take().unwrap(), Ok(None));
        });
    }

    /// With the descriptor, and since when.
    fn grf_01_an_operation_is_shown_with_descriptor_and_age(kind: DriverKind) {
        run(kind, async {
            use ringloop::driver::{Fd, Op};
            use ringloop::event_loop::Operation;
            use std::os::fd::{AsRawFd, OwnedFd};
            let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
            let core = get_running_loop().core().unwrap().clone();
            let poll = |core| {
                let fd = OwnedFd::from(here.try_clone().unwrap());
                let number = fd.as_raw_fd();
                let events = libc::POLLIN as u32;
                let fd = Fd::new(fd);
                (Operation::new(core, Op::Poll { fd, events }), number)
            };
            let unseen = spawn("unseen", poll(core.clone()).0);
            turns(2).await;
            let tracking = debug::track().unwrap();
            turns(2).await;
            let (polling, fd) = poll(core.clone());
            let seen = spawn("seen", polling);
            turns(2).await;
            let before = core.now();
            while core.now() == before {
                turns(1).await;
            }
            let graph = TaskGraph::capture().unwrap();
            let [old, new] = [&unseen, &seen].map(|task| graph.find(task.id()).unwrap().waits[0]);
            assert_eq!(old.age, None);
            assert!(new.age.is_some_and(|age| age > Duration::ZERO), "{new}");
            let WaitsFor::Io { name, fd: shown } = new.what else {
                panic!("{new}");
            };
            assert_eq!(name, "poll");
            assert_eq!(shown, fd);
            assert!(new.to_string().starts_with(&format!("poll on descriptor {shown} for 0.")) || new.age >= Some(Duration::from_secs(1)), "{new}");
            drop(tracking);
            turns(2).await;
            // Nothing is written down any more.
            let later = spawn("later", sleep(HOUR));
            turns(2).await;
            let graph = TaskGraph::capture().unwrap();
            assert_eq!(graph.find(later.id()).unwrap().waits[0].age, None);
        });
    }

    /// A timeout is no task: who runs it waits. So does who waits through wakers of another crate.
    fn grf_02_a_timeout_and_foreign_combinators_leave_the_edge(kind: DriverKind) {
        run(kind, async {
            let slow = spawn("slow", sleep(HOUR));
            let id = slow.id();
            let waits = spawn("waits", timeout(HOUR, slow));
            turns(2).await;
            assert_eq!(awaiters(id), "slow(waits)");
            waits.cancel();
            drop(waits.await);
            let slow = spawn("slow", sleep(HOUR));
            let id = slow.id();
            let waits = spawn("joins", with_a_waker_of_its_own(slow));
            turns(2).await;
            assert_eq!(awaiters(id), "slow(joins)");
            drop(waits);
        });
    }

    /// Who only watches for the end, without awaiting the handle, waits too.
    fn grf_02_a_watched_task_is_awaited(kind: DriverKind) {
        run(kind, async {
            let slow = spawn("slow", sleep(HOUR));
            let id = slow.id();
            let watches = spawn("watches", async move { poll_fn(|cx| slow.poll_done(cx)).await });
            turns(2).await;
            assert_eq!(awaiters(id), "slow(watches)");
            drop(watches);
        });
    }

    /// While it is tracked: the children of a group are waited for by the task whose group it is.
    fn grf_02_a_group_waits_for_its_children(kind: DriverKind) {
        run(kind, async {
            let _tracking = debug::track().unwrap();
            let parent = spawn("parent", task_group::<(), Cancelled, _>(async |group| {
                for name in ["one", "two"] {
                    let child = async { sleep(HOUR).await };
                    group.create_task_with(child, TaskOptions::named(name))?;
                }
                Ok(())
            }));
            turns(3).await;
            let graph = TaskGraph::capture().unwrap();
            let waits = graph.find(parent.id()).unwrap().waits[0].what;
            assert_eq!(waits, WaitsFor::Other("task group"));
            for name in ["one", "two"] {
                let child = graph.tasks.iter().find(|task| task.name == name).unwrap();
                assert_eq!(awaiters(child.id), format!("{name}(parent)"));
            }
            parent.cancel();
            drop(parent.await);
        });
    }

    fn grf_02_gather_wait_and_shield_leave_the_edge(kind: DriverKind) {
        run(kind, async {
            let sleeper = |name| spawn(name, sleep(HOUR));
            let (one, two) = (sleeper("one"), sleeper("two"));
            let ids = [one.id(), two.id()];
            let gathers = spawn("gathers", gather([one, two]));
            let mut waited = vec![sleeper("three"), sleeper("four")];
            let waited_ids = [waited[0].id(), waited[1].id()];
            let waits = spawn("waits", async move {
                wait(&mut waited, None, ReturnWhen::AllCompleted).await.map(drop)
            });
            let five = sleeper("five");
            let shielded = five.id();
            let shields = spawn("shields", shield(five));
            turns(3).await;
            assert_eq!(ids.map(awaiters), ["one(gathers)", "two(gathers)"]);
            assert_eq!(waited_ids.map(awaiters), ["three(waits)", "four(waits)"]);
            assert_eq!(awaiters(shielded), "five(shields)");
            for task in [gathers.cancel(), waits.cancel(), shields.cancel()] {
                assert!(task);
            }
            turns(5).await;
            // Shielded, it goes on, and nobody waits for it any more.
            assert_eq!(awaiters(shielded), "five");
        });
    }

    /// Declared edges are kept while they are tracked; those of tasks that ended are forgotten.
    fn grf_02_whoever_will_wait_may_say_so(kind: DriverKind) {
        run(kind, async {
            let me = current().unwrap();
            let untold = spawn("untold", sleep(HOUR));
            me.will_await(&untold);
            turns(1).await;
            assert_eq!(awaiters(untold.id()), "untold");
            let _tracking = debug::track().unwrap();
            for _ in 0..1000 {
                let short = spawn("short", async {});
                me.will_await(&short);
                turns(2).await;
            }
            let child = spawn("child", sleep(HOUR));
            me.will_await(&child);
            me.will_await(&child);
            turns(1).await;
            let graph = capture_call_graph(Some(child.id())).unwrap().unwrap();
            assert_eq!(graph.awaited_by.len(), 1);
            assert_eq!(graph.awaited_by[0].task.id, me.id());
        });
    }
}

// Not on both drivers: there is no loop.
#[test]
fn grf_01_without_a_loop_there_is_no_graph() {
    assert_eq!(TaskGraph::capture(), Err(LoopError::NoRunningLoop));
    let error = print_call_graph(None, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), LoopError::NoRunningLoop.to_string());
    let mut ready = Context::from_waker(Waker::noop());
    let polled = pin!(async { debug::track().err() })
        .as_mut()
        .poll(&mut ready);
    assert_eq!(polled, Poll::Ready(Some(LoopError::NoRunningLoop)));
}
