//! What other threads schedule and cancel.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

use ringloop::EventLoopExt;
use ringloop::driver::Park;
use ringloop::event_loop::ThreadSafeHandle;
use ringloop::task::exit_loop;
use uring_tests::lab::{is_asleep, this_thread};
use uring_tests::on_both_drivers;
use uring_tests::tasks::exited;
use uring_tests::watch::Watch;

/// Waits until that thread of this process sleeps, or `or` says that it went on.
fn until_blocked(thread: i32, or: &AtomicBool) {
    // One that is gone went on.
    while !or.load(Ordering::SeqCst) && matches!(is_asleep(thread), Ok(false)) {
        std::thread::yield_now();
    }
}

/// Runs a callback during which another thread calls `ask` on its handle; whether the thread was
/// still inside when the callback ended, and what it got.
fn ask_while_running<T: Send + 'static>(
    l: &Watch,
    ask: impl FnOnce(&ThreadSafeHandle) -> T + Send + 'static,
) -> (bool, T) {
    let (give, take) = channel::<ThreadSafeHandle>();
    let (begin, begun) = channel();
    let (name, named) = channel();
    let (went_on, ended) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (past, over) = (went_on.clone(), ended.clone());
    let thread = std::thread::spawn(move || {
        let handle = take.recv().unwrap();
        begun.recv().unwrap();
        name.send(this_thread()).unwrap();
        let answer = ask(&handle);
        let after = over.load(Ordering::SeqCst);
        past.store(true, Ordering::SeqCst);
        (after, answer)
    });
    let callback = move || {
        begin.send(()).unwrap();
        until_blocked(named.recv().unwrap(), &went_on);
        ended.store(true, Ordering::SeqCst);
    };
    give.send(l.handle().call_soon_threadsafe(callback).unwrap())
        .unwrap();
    l.turn();
    thread.join().unwrap()
}

on_both_drivers! {
    fn sch_04_a_call_from_a_thread_wakes_the_sleeping_loop(kind: DriverKind) {
        let l = Watch::new(kind);
        let (handle, mut sleeps) = (l.handle(), l.sleeps());
        let (tell, hear) = channel();
        let thread = std::thread::spawn(move || {
            sleeps.wait();
            handle.call_soon_threadsafe(move || tell.send(std::thread::current().id()).unwrap())
        });
        let run = l.base.run_forever_setup().unwrap();
        let mut ran_on = None;
        while ran_on.is_none() {
            run.run_once().unwrap();
            ran_on = hear.try_recv().ok();
        }
        drop(run);
        assert_eq!(ran_on, Some(std::thread::current().id()));
        assert!(l.seen.parks().contains(&Park::Forever));
        assert!(!thread.join().unwrap().unwrap().cancelled());
    }

    /// What a thread sent before `call_soon` was called comes before it.
    fn sch_04_calls_from_threads_keep_their_order_with_call_soon(kind: DriverKind) {
        let l = Watch::new(kind);
        let (tell, hear) = channel();
        let send = |what: &'static str| {
            let tell = tell.clone();
            move || tell.send(what).unwrap()
        };
        l.call_soon(send("first")).unwrap();
        let (handle, elsewhere) = (l.handle(), [send("second"), send("third")]);
        std::thread::spawn(move || {
            for callback in elsewhere {
                handle.call_soon_threadsafe(callback).unwrap();
            }
        })
        .join()
        .unwrap();
        l.call_soon(send("fourth")).unwrap();
        l.turn();
        assert!(hear.try_iter().eq(["first", "second", "third", "fourth"]));
    }

    fn sch_05_on_the_loops_own_thread_it_is_as_call_soon(kind: DriverKind) {
        let l = Watch::new(kind);
        let (tell, hear) = channel();
        let send = move |what: &'static str| {
            let tell = tell.clone();
            move || tell.send(what).unwrap()
        };
        let handle = l.handle();
        // On a loop that does not run.
        l.call_soon(send("soon")).unwrap();
        handle.call_soon_threadsafe(send("handle")).unwrap();
        l.call_soon_threadsafe(send("loop")).unwrap();
        l.turn();
        assert!(hear.try_iter().eq(["soon", "handle", "loop"]));
        // While it runs also between the steps of tasks.
        let run = l.base.run_forever_setup().unwrap();
        for task in ["first task", "second task"] {
            let step = send(task);
            drop(l.create_task(async move { step() }).unwrap());
            handle.call_soon_threadsafe(send("handle")).unwrap();
        }
        run.run_once().unwrap();
        assert!(hear.try_iter().eq(["first task", "handle", "second task", "handle"]));
        // What a callback schedules waits for the next iteration.
        let (handle, late) = (l.handle(), send("late"));
        l.call_soon(move || drop(handle.call_soon_threadsafe(late).unwrap())).unwrap();
        run.run_once().unwrap();
        assert!(hear.try_recv().is_err());
        run.run_once().unwrap();
        assert!(hear.try_iter().eq(["late"]));
    }

    fn sch_06_asking_from_another_thread_waits_for_the_callback(kind: DriverKind) {
        let l = Watch::new(kind);
        let (waited, cancelled) = ask_while_running(&l, ThreadSafeHandle::cancelled);
        assert!(waited, "the answer came while the callback ran");
        assert!(!cancelled);
    }

    fn sch_07_a_cancel_from_another_thread_waits_and_does_not_prevent(kind: DriverKind) {
        let l = Watch::new(kind);
        let (waited, cancelled) = ask_while_running(&l, |handle| {
            handle.cancel();
            handle.cancelled()
        });
        assert!(waited, "cancel returned while the callback ran");
        assert!(cancelled);
    }

    fn sch_08_a_callback_may_cancel_itself(kind: DriverKind) {
        let l = Watch::new(kind);
        let (give, take) = channel::<ThreadSafeHandle>();
        let (tell, hear) = channel();
        let callback = move || {
            let me = take.recv().unwrap();
            assert!(!me.cancelled());
            me.cancel();
            tell.send(me.cancelled()).unwrap();
        };
        let handle = l.handle().call_soon_threadsafe(callback).unwrap();
        give.send(handle.clone()).unwrap();
        l.turn();
        assert_eq!(hear.recv(), Ok(true));
        assert!(handle.cancelled());
    }

    /// And what it captured is dropped by the cancel, in the thread that cancels.
    fn sch_09_a_cancel_from_another_thread_before_the_run_prevents_it(kind: DriverKind) {
        struct Where(std::sync::mpsc::Sender<std::thread::ThreadId>);
        impl Drop for Where {
            fn drop(&mut self) {
                self.0.send(std::thread::current().id()).unwrap();
            }
        }
        let l = Watch::new(kind);
        let (tell, hear) = channel();
        let held = Where(tell);
        let runs = Arc::new(AtomicUsize::new(0));
        let count = runs.clone();
        let callback = move || {
            count.fetch_add(1, Ordering::SeqCst);
            drop(held);
        };
        let handle = l.handle().call_soon_threadsafe(callback).unwrap();
        let far = handle.clone();
        let thread = std::thread::spawn(move || {
            far.cancel();
            far.cancel();
            std::thread::current().id()
        });
        let id = thread.join().unwrap();
        assert_eq!(hear.try_recv(), Ok(id));
        assert!(handle.cancelled());
        l.turn();
        assert_eq!(runs.load(Ordering::SeqCst), 0);
    }

    /// A panic ends the callback like a return; it is reported under the callback's own name.
    fn sch_07_a_panic_ends_the_wait_too(kind: DriverKind) {
        let l = Watch::new(kind);
        let handle = l.handle().call_soon_threadsafe(|| panic!("broken")).unwrap();
        l.turn();
        let told = l.told().remove(0);
        assert!(told.message.starts_with("Exception in callback event_loop::threads::sch_07_"));
        assert_eq!(told.exception.as_deref(), Some("broken"));
        std::thread::spawn(move || handle.cancel()).join().unwrap();
        let handle = l.handle().call_soon_threadsafe(|| exit_loop(1)).unwrap();
        assert_eq!(exited::<i32, _>(|| l.turn()), 1);
        std::thread::spawn(move || handle.cancel()).join().unwrap();
    }

    /// Callbacks that never ran are dropped with the loop, whoever keeps their handle.
    fn loop_12_a_loop_that_closes_drops_what_threads_sent(kind: DriverKind) {
        let l = Watch::new(kind);
        let held = Arc::new(());
        let in_inbox = held.clone();
        let handle = l.handle();
        let sent = handle.call_soon_threadsafe(move || drop(in_inbox)).unwrap();
        let queued = held.clone();
        let own = l.call_soon_threadsafe(move || drop(queued)).unwrap();
        assert_eq!(Arc::strong_count(&held), 3);
        l.close().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(!sent.cancelled() && !own.cancelled());
    }

    /// Threads that call as fast as they can, and a loop that sleeps whenever it can: each call
    /// arrives, those of a thread in order. No thread waits for another, and nothing for time.
    fn sch_04_no_call_from_any_thread_is_lost(kind: DriverKind) {
        const THREADS: usize = 4;
        const CALLS: usize = 2_000;
        let l = Watch::new(kind);
        let (tell, hear) = channel();
        let start = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (handle, tell, start) = (l.handle(), tell.clone(), start.clone());
                std::thread::spawn(move || {
                    start.wait();
                    for call in 0..CALLS {
                        let tell = tell.clone();
                        let callback = move || tell.send((thread, call)).unwrap();
                        handle.call_soon_threadsafe(callback).unwrap();
                        if call % 16 == 0 {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let run = l.base.run_forever_setup().unwrap();
        let mut next = [0; THREADS];
        while next != [CALLS; THREADS] {
            run.run_once().unwrap();
            for (thread, call) in hear.try_iter() {
                assert_eq!(call, next[thread], "thread {thread}");
                next[thread] += 1;
            }
        }
        drop(run);
        for thread in threads {
            thread.join().unwrap();
        }
    }

    /// The same for tasks that threads wake: every wake that a task waits for arrives.
    fn sch_04_no_wake_from_any_thread_is_lost(kind: DriverKind) {
        use std::future::poll_fn;
        use std::task::{Poll, Waker};
        const TASKS: usize = 8;
        const ROUNDS: usize = 300;
        let l = Watch::new(kind);
        let (send, receive) = channel::<(Waker, Arc<AtomicBool>)>();
        let thread = std::thread::spawn(move || {
            for (waker, set) in receive {
                set.store(true, Ordering::Release);
                waker.wake();
            }
        });
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let send = send.clone();
                let body = async move {
                    for _ in 0..ROUNDS {
                        let set = Arc::new(AtomicBool::new(false));
                        let mut sent = false;
                        poll_fn(|cx| {
                            if set.load(Ordering::Acquire) {
                                return Poll::Ready(());
                            }
                            if !std::mem::replace(&mut sent, true) {
                                send.send((cx.waker().clone(), set.clone())).unwrap();
                            }
                            Poll::Pending
                        })
                        .await;
                    }
                };
                l.create_task(body).unwrap()
            })
            .collect();
        drop(send);
        l.run(async move {
            for task in tasks {
                task.await.unwrap();
            }
        });
        thread.join().unwrap();
    }
}
