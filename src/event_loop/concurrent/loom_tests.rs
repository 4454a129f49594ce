//! Every interleaving of those who wait for a future and those who end it (`--cfg loom`).

use super::*;
use loom::thread;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake};

/// A thread that sleeps until a waker wakes it.
#[derive(Default)]
struct Parker {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Parker {
    fn park(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wake.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }
}

/// Who blocks for ever is a deadlock, which loom reports.
#[test]
fn loom_all_who_block_are_told_and_one_has_the_value() {
    loom::model(|| {
        let future = ConcurrentFuture::new();
        let (worker, other) = (future.clone(), future.clone());
        let worker = thread::spawn(move || {
            assert!(worker.set_running_or_notify_cancel());
            worker.set_result(7).unwrap();
        });
        let other = thread::spawn(move || other.result());
        let (one, other) = (future.result(), other.join().unwrap());
        worker.join().unwrap();
        let (value, error) = if one.is_ok() {
            (one, other)
        } else {
            (other, one)
        };
        assert_eq!(value.unwrap(), 7);
        assert!(matches!(error, Err(ConcurrentError::InvalidState(_))));
    });
}

/// A wake that is lost is a deadlock, which loom reports. The waker changes on the way.
#[test]
fn loom_who_awaits_is_woken() {
    loom::model(|| {
        let future = ConcurrentFuture::new();
        let worker = future.clone();
        let worker = thread::spawn(move || worker.set_result(7).unwrap());
        let mut key = None;
        loop {
            let parker = Arc::new(Parker::default());
            let waker = Waker::from(parker.clone());
            let mut pending = false;
            // As a poll that comes for nothing.
            for waker in [Waker::noop(), &waker] {
                pending = future.register(&mut key, &Context::from_waker(waker));
            }
            if !pending {
                break;
            }
            parker.park();
        }
        assert_eq!(future.read_now().unwrap(), 7);
        worker.join().unwrap();
    });
}

/// Who leaves is not woken, and takes nobody's place away.
#[test]
fn loom_one_leaves_and_another_is_woken() {
    loom::model(|| {
        let future = ConcurrentFuture::<()>::new();
        let (leaves, stays) = (Arc::new(Parker::default()), Arc::new(Parker::default()));
        let (mut first, mut second) = (None, None);
        let waker = Waker::from(leaves.clone());
        assert!(future.register(&mut first, &Context::from_waker(&waker)));
        let waker = Waker::from(stays.clone());
        assert!(future.register(&mut second, &Context::from_waker(&waker)));
        let worker = future.clone();
        let worker = thread::spawn(move || worker.set_result(()).unwrap());
        future.unregister(&mut first);
        stays.park();
        worker.join().unwrap();
        assert!(future.done());
    });
}

/// A job runs or is cancelled, and the callback hears of the end once.
#[test]
fn loom_a_job_is_cancelled_or_runs_and_is_called_back_once() {
    loom::model(|| {
        let future = ConcurrentFuture::new();
        let worker = future.clone();
        let worker = thread::spawn(move || {
            let runs = worker.set_running_or_notify_cancel();
            if runs {
                worker.set_result(7).unwrap();
            }
            runs
        });
        let canceller = future.clone();
        let canceller = thread::spawn(move || canceller.cancel());
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        future.add_done_callback(move |future| {
            assert!(future.done());
            counted.fetch_add(1, Relaxed);
        });
        let (ran, cancelled) = (worker.join().unwrap(), canceller.join().unwrap());
        assert_ne!(ran, cancelled);
        assert_eq!(future.cancelled(), cancelled);
        assert_eq!(calls.load(Relaxed), 1);
    });
}
