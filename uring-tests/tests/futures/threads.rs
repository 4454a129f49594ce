//! Coroutines that other threads submit.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ringloop::event_loop::{ConcurrentError, ExceptionContext, LocalBoxFuture};
use ringloop::task::{all_tasks, current};
use ringloop::{
    Cancelled, ContextVar, EventLoopExt, LoopError, LoopHandle, get_running_loop,
    run_coroutine_threadsafe, sleep, to_thread, yield_now,
};
use uring_tests::lab::Lab;
use uring_tests::on_both_drivers;
use uring_tests::order::Order;
use uring_tests::tasks::HOUR;

use crate::support::{lab, turn};

/// Runs `job` in another thread while the loop runs, and returns what it gives.
fn elsewhere<T: Send + 'static>(l: &Lab, job: impl FnOnce(LoopHandle) -> T + Send + 'static) -> T {
    let handle = l.event_loop.handle().unwrap();
    let value = l.run(async move { to_thread(move || job(handle)).await.unwrap() });
    // What the job left behind comes to its end.
    turn(l);
    turn(l);
    value
}

/// The message of a cancellation.
#[track_caller]
fn message<T>(result: Result<T, ConcurrentError>) -> Option<String> {
    match result {
        Err(ConcurrentError::Cancelled(cancelled)) => cancelled.message().map(str::to_owned),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is not cancelled"),
    }
}

/// A coroutine that waits for an hour and tells how that ended.
fn sleeper(
    begun: Sender<&'static str>,
) -> impl FnOnce() -> LocalBoxFuture<Result<(), Cancelled>> + Send + 'static {
    move || {
        Box::pin(async move {
            begun.send("begun").unwrap();
            let slept = sleep(HOUR).await;
            let how = if slept.is_err() { "cancelled" } else { "slept" };
            begun.send(how).unwrap();
            slept
        })
    }
}

on_both_drivers! {
    fn rct_01_a_coroutine_submitted_by_a_thread_gives_its_value(kind: DriverKind) {
        let l = lab(kind);
        let here = std::thread::current().id();
        let (value, there) = elsewhere(&l, |handle| {
            // The coroutine itself need not be `Send`.
            let add = |a: i32, b: i32| async move {
                let sum = Rc::new(Cell::new(a));
                yield_now().await.unwrap();
                sum.set(sum.get() + b);
                (sum.get(), std::thread::current().id())
            };
            let future = run_coroutine_threadsafe(move || add(1, 2), &handle).unwrap();
            future.result().unwrap()
        });
        assert_eq!((value, there), (3, here));
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }

    /// An error value is a value; a panic arrives with its payload, and is not reported besides.
    fn rct_01_a_coroutine_submitted_by_a_thread_gives_its_error(kind: DriverKind) {
        let l = lab(kind);
        let (error, panic) = elsewhere(&l, |handle| {
            let fails = || async { "error".parse::<i32>() };
            let future = run_coroutine_threadsafe(fails, &handle).unwrap();
            let panics = || async { panic!("in a coroutine") };
            let panicked = run_coroutine_threadsafe::<_, _>(panics, &handle).unwrap();
            let panicked: Result<(), _> = panicked.result();
            (future.result().unwrap(), panicked.unwrap_err())
        });
        assert!(error.is_err());
        let ConcurrentError::Panicked(payload) = panic else {
            panic!("{panic}");
        };
        assert_eq!(payload.downcast_ref(), Some(&"in a coroutine"));
        l.close();
    }

    /// The thread gives up and cancels.
    fn rct_02_after_a_timeout_the_waiting_side_cancels_the_task(kind: DriverKind) {
        let l = lab(kind);
        let seen = elsewhere(&l, |handle| {
            let (tell, hear) = channel();
            let future = run_coroutine_threadsafe(sleeper(tell), &handle).unwrap();
            assert_eq!(hear.recv(), Ok("begun"));
            let waited = future.result_timeout(Duration::from_millis(1));
            assert!(matches!(waited, Err(ConcurrentError::TimedOut)));
            assert!(!future.done());
            assert!(future.cancel());
            let seen = hear.recv();
            (seen, future.cancelled(), message(future.result()))
        });
        assert_eq!(seen, (Ok("cancelled"), true, None));
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }

    /// By itself, and by somebody else with a message.
    fn rct_03_a_cancelled_task_leaves_the_future_cancelled(kind: DriverKind) {
        let l = lab(kind);
        let (own, other) = elsewhere(&l, |handle| {
            let itself = || async { Err::<(), _>(Cancelled::new()) };
            let own = run_coroutine_threadsafe(itself, &handle).unwrap();
            let waits = || async {
                current().expect("a task").cancel_with("by somebody");
                sleep(HOUR).await
            };
            let other = run_coroutine_threadsafe(waits, &handle).unwrap();
            (message(own.result()), message(other.result()))
        });
        assert_eq!((own, other.as_deref()), (None, Some("by somebody")));
        l.close();
    }

    fn rct_03_cancelling_the_future_cancels_the_task(kind: DriverKind) {
        let l = lab(kind);
        elsewhere(&l, |handle| {
            let (tell, hear) = channel();
            let future = run_coroutine_threadsafe(sleeper(tell), &handle).unwrap();
            assert_eq!(hear.recv(), Ok("begun"));
            assert!(future.cancel());
            assert!(future.cancelled(), "at once");
            assert_eq!(hear.recv(), Ok("cancelled"));
        });
        l.close();
    }

    fn rct_03_the_future_may_be_cancelled_in_the_loops_own_thread(kind: DriverKind) {
        let l = lab(kind);
        let handle = l.event_loop.handle().unwrap();
        let (tell, hear) = channel();
        let future = run_coroutine_threadsafe(sleeper(tell), &handle).unwrap();
        turn(&l);
        turn(&l);
        assert_eq!(hear.try_recv(), Ok("begun"));
        let far = future.clone();
        l.event_loop.call_soon(move || assert!(far.cancel())).unwrap();
        for _ in 0..4 {
            turn(&l);
        }
        assert_eq!(hear.try_recv(), Ok("cancelled"));
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }

    /// Its function is not even called.
    fn rct_03_cancelled_before_it_began_it_never_runs(kind: DriverKind) {
        let l = lab(kind);
        let handle = l.event_loop.handle().unwrap();
        let held = Arc::new(());
        let captured = held.clone();
        let never = move || {
            drop(captured);
            unreachable!("it was cancelled");
            #[expect(unreachable_code)]
            pending::<()>()
        };
        let future = run_coroutine_threadsafe(never, &handle).unwrap();
        assert!(future.cancel());
        turn(&l);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }

    /// A task that catches its cancellation goes on; its value reaches nobody.
    fn rct_03_the_future_is_cancelled_even_if_the_task_refuses(kind: DriverKind) {
        let l = lab(kind);
        let handle = l.event_loop.handle().unwrap();
        let order = Arc::new(AtomicUsize::new(0));
        let count = order.clone();
        let stubborn = move || async move {
            drop(sleep(HOUR).await.expect_err("cancelled"));
            yield_now().await.expect("a request is delivered once");
            count.fetch_add(1, Ordering::Relaxed);
        };
        let future = run_coroutine_threadsafe(stubborn, &handle).unwrap();
        turn(&l);
        turn(&l);
        assert!(future.cancel());
        for _ in 0..5 {
            turn(&l);
        }
        assert_eq!(order.load(Ordering::Relaxed), 1);
        assert!(future.cancelled() && message(future.result()).is_none());
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }

    /// An error and a panic of the factory are told to both sides. It is asked for the coroutine's
    /// task, and for no other.
    fn rct_04_a_failing_task_factory_reaches_both_sides(kind: DriverKind) {
        let l = lab(kind);
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        let text = "the factory fails";
        let (answers, errors) = l.run(async move {
            let event_loop = get_running_loop();
            let handle = event_loop.handle().unwrap();
            event_loop.set_task_factory(Some(Rc::new(move |event_loop, body, options| {
                count.set(count.get() + 1);
                match count.get() {
                    1 => Err(LoopError::WrongThread),
                    2 => panic!("{text}"),
                    _ => event_loop.new_task_dyn(body, options),
                }
            })));
            let ask = move || {
                let submit = || run_coroutine_threadsafe(|| async { 3 }, &handle).unwrap();
                [submit(), submit(), submit()].map(|future| {
                    future.result().map_err(|error| error.to_string())
                })
            };
            let answers = to_thread(ask).await.unwrap();
            event_loop.set_task_factory(None);
            (answers, [LoopError::WrongThread.to_string(), text.to_owned()])
        });
        let [refused, panicked, given] = answers;
        assert_eq!([refused.unwrap_err(), panicked.unwrap_err()], errors);
        assert_eq!((given, asked.get()), (Ok(3), 3));
        let reports = l.reports();
        let text = |report: &ExceptionContext| report.exception.as_ref().unwrap().to_string();
        assert!(reports.iter().map(text).eq(errors));
        assert!(reports[1].message.starts_with("Exception in callback "));
        l.close();
    }

    /// Neither one that has begun, nor one that has not, nor one that comes too late.
    fn rct_03_nobody_waits_for_a_closed_loop(kind: DriverKind) {
        let l = lab(kind);
        let handle = l.event_loop.handle().unwrap();
        let begun = run_coroutine_threadsafe(|| sleep(HOUR), &handle).unwrap();
        turn(&l);
        turn(&l);
        let sent = run_coroutine_threadsafe(|| sleep(HOUR), &handle).unwrap();
        let waiting = begun.clone();
        let thread = std::thread::spawn(move || message(waiting.result()));
        l.event_loop.close().unwrap();
        assert_eq!(thread.join().unwrap(), None);
        assert!(begun.cancelled() && sent.cancelled());
        let late = run_coroutine_threadsafe(|| sleep(HOUR), &handle);
        assert_eq!(late.map(drop), Err(LoopError::Closed));
        assert_eq!(l.messages(), ["Task was destroyed but it is pending!"]);
        l.close();
    }

    /// The loop would never go on.
    fn blocking_the_loops_own_thread_is_refused(kind: DriverKind) {
        let l = lab(kind);
        l.run(async {
            let handle = get_running_loop().handle().unwrap();
            let future = run_coroutine_threadsafe(|| async { 2 }, &handle).unwrap();
            let refused = future.result();
            assert!(matches!(refused, Err(ConcurrentError::OwnLoop)));
            let refused = future.result_timeout(HOUR);
            assert!(matches!(refused, Err(ConcurrentError::OwnLoop)));
            assert_eq!(future.clone().await.unwrap(), 2);
            // Done, it may be asked.
            assert!(matches!(future.result(), Err(ConcurrentError::InvalidState(_))));
        });
        l.close();
    }

    fn a_submitted_coroutine_sees_the_threads_context(kind: DriverKind) {
        static REQUEST: ContextVar<u32> = ContextVar::new("request");
        let l = lab(kind);
        let seen = elsewhere(&l, |handle| {
            REQUEST.set(12);
            let future = run_coroutine_threadsafe(|| async { REQUEST.get() }, &handle);
            let future = future.unwrap();
            REQUEST.set(13);
            future.result().unwrap()
        });
        assert_eq!(seen, Some(12));
        l.close();
    }

    /// Dropping the future lets the task go on.
    fn a_dropped_future_cancels_nothing(kind: DriverKind) {
        let l = lab(kind);
        let handle = l.event_loop.handle().unwrap();
        let (tell, hear) = channel();
        let coroutine = move || async move {
            yield_now().await.unwrap();
            tell.send(()).unwrap();
        };
        drop(run_coroutine_threadsafe(coroutine, &handle).unwrap());
        for _ in 0..4 {
            turn(&l);
        }
        assert_eq!(hear.try_recv(), Ok(()));
        assert_eq!(all_tasks(Some(l.core().tasks().loop_id())).unwrap().len(), 0);
        l.close();
    }

    /// Threads that submit and cancel as fast as they can; each hears the right end.
    fn many_threads_submit_and_cancel(kind: DriverKind) {
        const THREADS: usize = 4;
        const EACH: usize = 100;
        let l = lab(kind);
        let handle = l.event_loop.handle().unwrap();
        let ended = Order::default();
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let handle = handle.clone();
                std::thread::spawn(move || {
                    for number in 0..EACH {
                        let coroutine = move || async move {
                            if number % 3 == 1 {
                                sleep(HOUR).await?;
                            }
                            yield_now().await?;
                            Ok::<_, Cancelled>((thread, number))
                        };
                        let future = run_coroutine_threadsafe(coroutine, &handle).unwrap();
                        match number % 3 {
                            0 => assert_eq!(future.result().unwrap().unwrap(), (thread, number)),
                            1 => {
                                assert!(future.cancel());
                                assert_eq!(message(future.result()), None);
                            }
                            _ => drop(future.cancel()),
                        }
                    }
                })
            })
            .collect();
        let end = ended.clone();
        l.run(async move {
            for thread in threads {
                let joined = to_thread(move || thread.join().is_ok()).await;
                end.add(joined.unwrap());
            }
        });
        assert_eq!(ended.take(), [true; THREADS]);
        for _ in 0..6 {
            turn(&l);
        }
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }
}
