//! Futures that any thread may wait for, and what loops make of them.

use std::future::IntoFuture;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use ringloop::event_loop::{
    ConcurrentError, ConcurrentFuture, Future, InvalidStateError, WrapFuture, wrap_future,
};
use ringloop::{AbstractEventLoop, EventLoopExt, LoopError, yield_now};
use uring_tests::lab::{Lab, this_thread, wait_until_asleep};
use uring_tests::tasks::HOUR;
use uring_tests::{on_both_drivers, on_one_driver};

use crate::support::{Counting, lab, poll, turn};

/// The end of a wrapped future, after the iterations that takes.
fn ended<T: Clone + 'static>(
    l: &Lab,
    source: &ConcurrentFuture<T>,
    end: impl FnOnce(&ConcurrentFuture<T>),
) -> Future<T> {
    let wrapper = source.clone().wrap_in(&*l.event_loop).unwrap();
    turn(l);
    assert!(!wrapper.done());
    end(source);
    turn(l);
    wrapper
}

on_both_drivers! {
    fn fut_22_the_result_of_a_job_arrives_at_the_wrapper(kind: DriverKind) {
        let l = lab(kind);
        let wrapper = ended(&l, &ConcurrentFuture::new(), |source| source.set_result(3).unwrap());
        assert_eq!(wrapper.result().unwrap(), 3);
        let failed = |source: &ConcurrentFuture<i32>| {
            source.set_exception(io::Error::from(io::ErrorKind::AddrInUse)).unwrap();
        };
        let error = ended(&l, &ConcurrentFuture::new(), failed).result().unwrap_err();
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::AddrInUse);
        let source = ConcurrentFuture::<i32>::new();
        let wrapper = ended(&l, &source, |source| assert!(source.cancel()));
        assert!(wrapper.cancelled());
        // Done before it is wrapped.
        let source = ConcurrentFuture::new();
        source.set_result(4).unwrap();
        let wrapper = source.wrap_in(&*l.event_loop).unwrap();
        assert_eq!(l.run(wrapper.wait()).unwrap(), 4);
        l.close();
    }

    /// From a thread, while the loop sleeps, in one more iteration than it takes to wake.
    fn fut_22_the_result_comes_from_another_thread(kind: DriverKind) {
        let l = lab(kind);
        let (name, named) = channel();
        let value = l.run(async move {
            let source = ConcurrentFuture::new();
            let wrapper = wrap_future(source.clone()).unwrap();
            name.send(this_thread()).unwrap();
            let far = std::thread::spawn(move || {
                wait_until_asleep(named.recv().unwrap());
                source.set_result(Box::new(5)).unwrap();
            });
            let value = wrapper.take().await.unwrap();
            far.join().unwrap();
            value
        });
        assert_eq!(*value, 5);
        l.close();
    }

    fn fut_22_futures_and_tasks_of_a_loop_are_returned_as_they_are(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        assert!(future.clone().wrap_in(&*l.event_loop).unwrap() == future);
        let task = l.event_loop.create_task(async { 1 }).unwrap();
        let id = task.id();
        let task = task.wrap_in(&*l.event_loop).unwrap();
        assert_eq!(task.id(), id);
        assert_eq!(l.run(task).unwrap(), 1);
        l.close();
    }

    /// A type of somebody else says itself what it is: a loop's future, or what becomes one.
    fn fut_22_fut_26_futures_of_others_are_accepted(kind: DriverKind) {
        struct Duck(u8);
        impl WrapFuture for Duck {
            type Wrapped = Future<u8>;

            fn wrap_in(self, event_loop: &dyn AbstractEventLoop) -> Result<Future<u8>, LoopError> {
                let future = event_loop.create_future();
                future.set_result(self.0).expect("it is new");
                Ok(future)
            }
        }
        struct Goose(Duck);
        impl WrapFuture for Goose {
            type Wrapped = Self;

            fn wrap_in(self, _: &dyn AbstractEventLoop) -> Result<Self, LoopError> {
                Ok(self)
            }
        }
        let l = lab(kind);
        let value = l.run(async {
            let goose = wrap_future(Goose(Duck(9))).unwrap();
            wrap_future(goose.0).unwrap().await.unwrap()
        });
        assert_eq!(value, 9);
        l.close();
    }

    fn fut_23_wrapping_needs_a_loop_running_or_given(kind: DriverKind) {
        let refused = wrap_future(ConcurrentFuture::<i32>::new());
        assert_eq!(refused.unwrap_err(), LoopError::NoRunningLoop);
        let l = lab(kind);
        let of = Some(l.core().tasks().loop_id());
        let given = ConcurrentFuture::<i32>::new().wrap_in(&*l.event_loop).unwrap();
        assert_eq!(given.get_loop().loop_id(), of);
        let running = l.run(async { wrap_future(ConcurrentFuture::<i32>::new()).unwrap() });
        assert_eq!(running.get_loop().loop_id(), of);
        drop((given, running));
        l.event_loop.close().unwrap();
        let refused = ConcurrentFuture::<i32>::new().wrap_in(&*l.event_loop);
        assert_eq!(refused.unwrap_err(), LoopError::Closed);
        l.close();
    }

    fn fut_24_cancelling_the_wrapper_cancels_a_pending_job(kind: DriverKind) {
        let l = lab(kind);
        let source = ConcurrentFuture::<i32>::new();
        let wrapper = ended(&l, &source, |_| ());
        assert!(wrapper.cancel());
        assert!(!source.cancelled(), "through the loop");
        turn(&l);
        assert!(source.cancelled() && !source.set_running_or_notify_cancel());
        turn(&l);
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }

    /// Nor does it take its value.
    fn fut_24_cancelling_the_wrapper_leaves_a_finished_job_alone(kind: DriverKind) {
        let l = lab(kind);
        let source = ConcurrentFuture::new();
        let wrapper = ended(&l, &source, |_| ());
        source.set_result(42).unwrap();
        assert!(wrapper.cancel());
        turn(&l);
        turn(&l);
        assert!(!source.cancelled() && wrapper.cancelled());
        assert_eq!(source.result().unwrap(), 42);
        assert_eq!(l.stats().tasks, 0);
        // One that runs goes on.
        let source = ConcurrentFuture::new();
        let wrapper = ended(&l, &source, |_| ());
        assert!(source.set_running_or_notify_cancel());
        wrapper.cancel();
        turn(&l);
        assert!(source.running());
        source.set_result(43).unwrap();
        turn(&l);
        assert_eq!(source.result().unwrap(), 43);
        l.close();
    }

    /// A job that nobody has begun is not run once its waiter is cancelled; one that runs is.
    fn fut_24_cancelling_who_waits_withdraws_a_job_that_has_not_begun(kind: DriverKind) {
        let l = lab(kind);
        // All threads of the executor are busy.
        let (release, released) = channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let (begin, begun) = channel();
        let busy = std::thread::available_parallelism().map_or(1, usize::from) + 4;
        let busy = busy.min(32);
        let mut blocked = Vec::new();
        for _ in 0..busy {
            let (released, begin) = (released.clone(), begin.clone());
            let job = move || {
                begin.send(()).unwrap();
                let _ = released.lock().unwrap().recv();
            };
            blocked.push(l.event_loop.create_task(l.event_loop.run_in_executor(job)).unwrap());
        }
        for _ in 0..busy {
            begun.recv().unwrap();
        }
        let (run, ran) = channel();
        let mut waiters = Vec::new();
        for name in ["withdrawn", "dropped"] {
            let run = run.clone();
            let job = l.event_loop.run_in_executor(move || run.send(name).unwrap());
            waiters.push(l.event_loop.create_task(job).unwrap());
        }
        turn(&l);
        waiters[0].cancel();
        turn(&l);
        assert!(waiters[0].cancelled());
        waiters[1].abort();
        turn(&l);
        drop((release, run));
        l.run(async move {
            for task in blocked {
                task.await.unwrap().unwrap();
            }
        });
        assert!(ran.iter().eq(["dropped"]));
        l.close();
    }

    /// A loop that is closed first leaves the job alone.
    fn fut_22_a_closed_loop_hears_nothing_any_more(kind: DriverKind) {
        let l = lab(kind);
        let source = ConcurrentFuture::new();
        let wrapper = ended(&l, &source, |_| ());
        l.event_loop.close().unwrap();
        source.set_result(1).unwrap();
        assert!(!wrapper.done() && source.result().unwrap() == 1);
        drop(wrapper);
        l.close();
    }

    /// Any loop may await it, and so may several at once: one gets the value.
    fn tasks_of_several_loops_may_await_it(kind: DriverKind) {
        let source = ConcurrentFuture::new();
        let (tell, hear) = channel();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (source, tell) = (source.clone(), tell.clone());
                std::thread::spawn(move || {
                    let l = lab(kind);
                    let value = l.run(async move {
                        let waiting = source.into_future();
                        tell.send(()).unwrap();
                        waiting.await
                    });
                    l.close();
                    value
                })
            })
            .collect();
        for _ in 0..3 {
            hear.recv().unwrap();
        }
        source.set_result(1).unwrap();
        let mut values = 0;
        for thread in threads {
            match thread.join().unwrap() {
                Ok(value) => values += value,
                Err(ConcurrentError::InvalidState(error)) => {
                    assert_eq!(error, InvalidStateError::Taken);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(values, 1);
    }

    fn cancelling_an_await_cancels_and_dropping_it_does_not(kind: DriverKind) {
        let l = lab(kind);
        let source = ConcurrentFuture::<i32>::new();
        let task = l.event_loop.create_task(source.clone().into_future()).unwrap();
        turn(&l);
        task.abort();
        turn(&l);
        assert!(task.done() && !source.done());
        let task = l.event_loop.create_task(source.clone().into_future()).unwrap();
        turn(&l);
        task.cancel();
        l.run(async { drop(yield_now().await) });
        assert!(task.cancelled() && source.cancelled());
        l.close();
    }
}

// From here on not on both drivers: there is no loop.

/// Who waits for `future` in a thread, and is asleep.
fn blocked<R: Send + 'static>(
    future: &ConcurrentFuture<i32>,
    wait: impl FnOnce(ConcurrentFuture<i32>) -> R + Send + 'static,
) -> std::thread::JoinHandle<R> {
    let (name, named) = channel();
    let future = future.clone();
    let thread = std::thread::spawn(move || {
        name.send(this_thread()).unwrap();
        wait(future)
    });
    wait_until_asleep(named.recv().unwrap());
    thread
}

on_one_driver! { Epoll:
    // Not on both drivers: there is no loop.
    fn a_blocked_thread_is_told() {
        let future = ConcurrentFuture::new();
        let thread = blocked(&future, |future| future.result());
        future.set_result(1).unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), 1);
        let future = ConcurrentFuture::new();
        let thread = blocked(&future, move |future| future.result_timeout(HOUR));
        assert!(future.cancel() && future.cancel());
        assert!(thread.join().unwrap().unwrap_err().is_cancelled());
        assert_eq!(future.set_result(1), Err(InvalidStateError::Done));
        let waited = ConcurrentFuture::<i32>::new().result_timeout(Duration::ZERO);
        assert!(matches!(waited, Err(ConcurrentError::TimedOut)));
    }
}

// Not on both drivers: there is no loop.
#[test]
fn what_has_begun_can_not_be_cancelled() {
    let future = ConcurrentFuture::new();
    assert!(!future.running() && future.set_running_or_notify_cancel());
    assert!(future.running() && !future.set_running_or_notify_cancel());
    assert!(!future.cancel() && !future.done());
    future.set_result(1).unwrap();
    assert!(future.done() && !future.cancel() && !future.running());
    assert_eq!(future.result().unwrap(), 1);
    assert!(matches!(
        future.result(),
        Err(ConcurrentError::InvalidState(InvalidStateError::Taken))
    ));
}

on_one_driver! { Epoll:
    // Not on both drivers: there is no loop.
    fn callbacks_run_in_the_thread_that_ends_it_and_all_of_them() {
        let future = ConcurrentFuture::new();
        let (tell, hear) = channel();
        let here = std::thread::current().id();
        for number in 0..3 {
            let tell = tell.clone();
            future.add_done_callback(move |future: &ConcurrentFuture<i32>| {
                assert!(future.done());
                tell.send((number, std::thread::current().id())).unwrap();
                assert_ne!(number, 1, "the second one fails");
            });
        }
        let far = future.clone();
        let thread = std::thread::spawn(move || far.set_result(1));
        let id = thread.thread().id();
        assert!(thread.join().is_err(), "who ends it hears of the panic");
        assert!(hear.try_iter().eq([(0, id), (1, id), (2, id)]));
        future.add_done_callback(move |_| tell.send((3, here)).unwrap());
        assert!(hear.try_iter().eq([(3, here)]));
    }
}

/// Looks into the future whenever one of its wakers is dropped or woken.
struct Looks(ConcurrentFuture<i32>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        assert!(self.0.done());
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        // Would never return if the lock were held.
        let _ = self.0.done();
    }
}

on_one_driver! { Epoll:
    // Not on both drivers: there is no loop.
    fn wakers_are_used_outside_the_lock_and_dropped_waits_leave_none() {
        let future = ConcurrentFuture::new();
        let looks: Waker = Arc::new(Looks(future.clone())).into();
        let (counting, waker) = Counting::new();
        let mut waiting = future.clone().into_future();
        assert!(poll(&mut waiting, &looks).is_pending());
        drop(looks);
        assert!(poll(&mut waiting, &waker).is_pending());
        let others: Vec<_> = (0..10)
            .map(|_| {
                let mut other = future.clone().into_future();
                assert!(poll(&mut other, &waker).is_pending());
                other
            })
            .collect();
        assert_eq!(Arc::strong_count(&counting), 2 + 11);
        drop(others);
        assert_eq!(Arc::strong_count(&counting), 2 + 1);
        future.set_result(6).unwrap();
        assert_eq!(counting.count(), 1);
        assert!(matches!(poll(&mut waiting, &waker), Poll::Ready(Ok(6))));
    }
}
