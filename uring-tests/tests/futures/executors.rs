//! Jobs in other threads.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;

use ringloop::event_loop::{ConcurrentError, ThreadPoolExecutor};
use ringloop::{ContextVar, EventLoopExt, create_task, get_running_loop, to_thread};
use uring_tests::lab::Lab;
use uring_tests::{on_both_drivers, on_one_driver};

use crate::support::lab;

/// The name of the thread in which the loop's executor runs a job.
fn worker(l: &Lab) -> String {
    let job = || thread::current().name().map(str::to_owned);
    let name = l.run(l.event_loop.run_in_executor(job)).expect("it runs");
    name.expect("it has a name")
}

on_both_drivers! {
    fn thr_01_a_function_is_called_once_and_its_value_or_error_comes_back(kind: DriverKind) {
        let l = lab(kind);
        l.run(async {
            let here = thread::current().id();
            let calls = Arc::new(AtomicUsize::new(0));
            let count = calls.clone();
            let call = move || {
                count.fetch_add(1, Ordering::Relaxed);
                thread::current().id()
            };
            assert_ne!(to_thread(call).await.unwrap(), here);
            assert_eq!(calls.load(Ordering::Relaxed), 1);
            let failed = to_thread(|| "error".parse::<i32>()).await.unwrap();
            assert!(failed.is_err());
            let panicked: io::Result<()> = to_thread(|| panic!("in a thread")).await;
            assert!(panicked.unwrap_err().to_string().contains("in a thread"));
        });
        l.close();
    }

    /// Each waits until all have begun.
    fn thr_02_functions_run_at_the_same_time_with_what_they_captured(kind: DriverKind) {
        let l = lab(kind);
        l.run(async {
            let all = Arc::new(Barrier::new(4));
            let call = |number: usize| {
                let all = all.clone();
                create_task(to_thread(move || {
                    all.wait();
                    number * 2
                }))
            };
            let tasks: Vec<_> = (0..4).map(call).collect();
            for (number, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap().unwrap(), number * 2);
            }
        });
        l.close();
    }

    /// An idle thread is enough for one job and not for two. How quickly it takes the first one up is
    /// not known, so there are many rounds.
    fn thr_02_two_functions_do_not_share_one_idle_thread(kind: DriverKind) {
        let l = lab(kind);
        let own = l.event_loop.clone();
        l.run(async move {
            for _ in 0..50 {
                own.set_default_executor(ThreadPoolExecutor::new(2, "two")).unwrap();
                to_thread(|| ()).await.unwrap();
                let both = Arc::new(Barrier::new(2));
                let meet = || {
                    let both = both.clone();
                    create_task(to_thread(move || both.wait().is_leader()))
                };
                let (one, two) = (meet(), meet());
                assert_ne!(one.await.unwrap().unwrap(), two.await.unwrap().unwrap());
            }
        });
        l.close();
    }

    /// Copied when it is awaited; changes stay there.
    fn thr_03_the_callers_context_variables_are_seen(kind: DriverKind) {
        static WHO: ContextVar<&str> = ContextVar::new("who");
        let l = lab(kind);
        l.run(async {
            let early = to_thread(|| WHO.get());
            WHO.set("caller");
            assert_eq!(early.await.unwrap(), Some("caller"));
            let changes = || {
                WHO.set("inside");
                WHO.get()
            };
            assert_eq!(to_thread(changes).await.unwrap(), Some("inside"));
            assert_eq!(WHO.get(), Some("caller"));
            // A plain job sees none.
            let job = get_running_loop().run_in_executor(|| WHO.get());
            assert_eq!(job.await.unwrap(), None);
        });
        l.close();
    }

    /// What the old one took runs there; one that takes no jobs is refused.
    fn exe_03_the_default_executor_can_be_replaced(kind: DriverKind) {
        let l = lab(kind);
        assert!(worker(&l).starts_with("ringloop-"));
        let (release, released) = channel::<()>();
        let (begin, begun) = channel();
        let job = move || {
            begin.send(()).unwrap();
            released.recv().unwrap();
            thread::current().name().map(str::to_owned)
        };
        let old = l.event_loop.run_in_executor(job);
        begun.recv().unwrap();
        let mine = ThreadPoolExecutor::new(1, "mine");
        l.event_loop.set_default_executor(mine.clone()).unwrap();
        assert_eq!(worker(&l), "mine-0");
        release.send(()).unwrap();
        let name = l.run(old).unwrap().expect("it has a name");
        assert!(name.starts_with("ringloop-"), "{name}");

        let ended = ThreadPoolExecutor::new(1, "ended");
        ended.shutdown(true);
        assert!(ended.is_shut_down() && !mine.is_shut_down());
        let refused = l.event_loop.set_default_executor(ended).unwrap_err();
        assert_eq!(refused.to_string(), "Executor shutdown has been called");
        assert_eq!(worker(&l), "mine-0");
        l.close();
        assert!(mine.is_shut_down(), "it went with the loop");
    }

    fn exe_05_no_executor_comes_after_the_shutdown(kind: DriverKind) {
        let l = lab(kind);
        l.run(l.event_loop.shutdown_default_executor(None)).unwrap();
        let mine = ThreadPoolExecutor::new(1, "mine");
        assert!(l.event_loop.set_default_executor(mine.clone()).is_err());
        assert!(l.run(l.event_loop.run_in_executor(|| ())).is_err());
        // It is of use by itself.
        let job = mine.submit(|| 5).unwrap();
        assert_eq!(l.run(async { job.await.unwrap() }), 5);
        mine.shutdown(true);
        assert!(mine.submit(|| 5).is_err());
        l.close();
    }
}

on_one_driver! { Epoll:
    // Not on both drivers: there is no loop.
    fn jobs_of_an_executor_are_waited_for_by_threads() {
        let executor = ThreadPoolExecutor::new(1, "plain");
        let (release, released) = channel::<()>();
        let first = executor.submit(move || released.recv().is_ok()).unwrap();
        // Behind it in the queue: withdrawn, and the other one run.
        let withdrawn = executor
            .submit(|| unreachable!("it was cancelled"))
            .unwrap();
        let last = executor.submit(|| "last").unwrap();
        assert!(withdrawn.cancel());
        release.send(()).unwrap();
        assert!(first.result().unwrap());
        assert_eq!(last.result().unwrap(), "last");
        let withdrawn: Result<(), ConcurrentError> = withdrawn.result();
        assert!(withdrawn.unwrap_err().is_cancelled());
        let panicked = executor.submit(|| -> u8 { panic!("in a job") }).unwrap();
        let error = panicked.result().unwrap_err();
        assert!(error.to_string().contains("in a job"), "{error}");
        executor.shutdown(true);
    }
}
