use std::pin::pin;
use std::rc::Rc;

use ringloop::sync::{Lock, LockGuard, NotAcquired};
use ringloop::task::current;
use ringloop::{Cancelled, Task, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::support::{Turned, cancelled, ended, poll_once};

/// A task that takes the lock, says so, and leaves it locked.
fn taker(l: &Turned, lock: &Rc<Lock>, log: &Order<u32>, name: u32) -> Task<Result<(), Cancelled>> {
    let (lock, log) = (lock.clone(), log.clone());
    l.spawn(async move {
        let guard = lock.acquire().await?;
        log.add(name);
        LockGuard::forget(guard);
        Ok(())
    })
}

fn locked() -> Rc<Lock> {
    let lock = Rc::new(Lock::new(()));
    LockGuard::forget(lock.try_acquire().expect("free"));
    lock
}

/// The state of a lock as its text shows it.
fn shows(lock: &Lock, locked: bool, waiters: usize) {
    let text = format!("Lock {{ locked: {locked}, waiters: {waiters} }}");
    assert_eq!(format!("{lock:?}"), text);
}

on_both_drivers! {
    fn lck_01_a_guard_locks_and_unlocks(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = Rc::new(Lock::new(vec![1]));
        let inner = lock.clone();
        l.run(async move {
            let mut guard = inner.acquire().await.unwrap();
            guard.push(2);
            assert!(inner.locked());
            assert!(inner.try_acquire().is_none());
            assert_eq!(format!("{guard:?}"), "LockGuard(Some([1, 2]))");
            drop(guard);
            assert!(!inner.locked());
            assert_eq!(*inner.acquire().await.unwrap(), [1, 2]);
            assert!(!inner.locked(), "the guard was dropped at once");
        });
        let mut lock = Rc::into_inner(lock).unwrap();
        lock.get_mut().push(3);
        assert_eq!(lock.into_inner(), [1, 2, 3]);
    }

    fn lck_01_the_text_shows_state_and_waiters(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (Rc::new(Lock::new(())), Order::default());
        shows(&lock, false, 0);
        let mut tasks = [taker(&l, &lock, &log, 1), taker(&l, &lock, &log, 2)];
        l.turn();
        shows(&lock, true, 1);
        lock.release().unwrap();
        // Woken, it waits no more.
        shows(&lock, false, 0);
        l.turn();
        shows(&lock, true, 0);
        tasks.iter_mut().for_each(|task| ended(task).unwrap());
    }

    fn lck_02_waiters_take_it_in_order_one_for_each_release(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let mut tasks: Vec<_> = (1..=5).map(|name| taker(&l, &lock, &log, name)).collect();
        l.turn();
        assert_eq!(log.take(), [0; 0]);
        for name in 1..=5 {
            lock.release().unwrap();
            l.turns(3);
            assert_eq!(log.take(), [name]);
            assert!(lock.locked());
        }
        tasks.iter_mut().for_each(|task| ended(task).unwrap());
    }

    fn lck_03_a_cancelled_waiter_is_removed(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let (mut one, mut two) = (taker(&l, &lock, &log, 1), taker(&l, &lock, &log, 2));
        l.turn();
        shows(&lock, true, 2);
        assert!(one.cancel());
        l.turn();
        cancelled(&mut one);
        shows(&lock, true, 1);
        assert_eq!(log.take(), [0; 0]);
        lock.release().unwrap();
        l.turn();
        ended(&mut two).unwrap();
        assert_eq!(log.take(), [2]);
    }

    fn lck_03_a_dropped_waiter_is_removed(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let (mut one, mut two) = (taker(&l, &lock, &log, 1), taker(&l, &lock, &log, 2));
        l.turn();
        one.abort();
        l.turn();
        cancelled(&mut one);
        shows(&lock, true, 1);
        lock.release().unwrap();
        l.turn();
        ended(&mut two).unwrap();
    }

    /// Cancelled, then released to: the lock goes on to the next.
    fn lck_04_cancelled_before_the_release(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let mut tasks: Vec<_> = (1..=3).map(|name| taker(&l, &lock, &log, name)).collect();
        l.turn();
        tasks[0].cancel();
        lock.release().unwrap();
        l.turns(2);
        cancelled(&mut tasks[0]);
        // One of them has it, and only one.
        assert_eq!(log.take(), [2]);
        shows(&lock, true, 1);
        lock.release().unwrap();
        l.turn();
        assert_eq!(log.take(), [3]);
    }

    /// Released to, then cancelled: the cancellation wins, the lock goes on.
    fn lck_04_cancelled_after_the_release(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let (mut one, mut two) = (taker(&l, &lock, &log, 1), taker(&l, &lock, &log, 2));
        l.turn();
        lock.release().unwrap();
        one.cancel();
        l.turns(2);
        cancelled(&mut one);
        ended(&mut two).unwrap();
        assert_eq!(log.take(), [2]);
        assert!(lock.locked());
    }

    /// The only one it was passed to is cancelled: it is free.
    fn lck_04_cancelled_after_the_release_nobody_else_waits(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let mut one = taker(&l, &lock, &log, 1);
        l.turn();
        lock.release().unwrap();
        assert!(lock.try_acquire().is_none(), "it is passed on already");
        one.cancel();
        l.turn();
        cancelled(&mut one);
        shows(&lock, false, 0);
        drop(lock.try_acquire().expect("free"));
    }

    /// Dropped while the lock is passed to it, without being polled again.
    fn lck_04_dropped_after_the_release(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let (mut one, mut two) = (taker(&l, &lock, &log, 1), taker(&l, &lock, &log, 2));
        l.turn();
        lock.release().unwrap();
        one.abort();
        l.turns(2);
        cancelled(&mut one);
        ended(&mut two).unwrap();
        assert_eq!(log.take(), [2]);
    }

    /// A newcomer that queued while the lock was passed to somebody who is then cancelled.
    fn lck_04_cancelled_after_the_release_with_a_newcomer(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let mut one = taker(&l, &lock, &log, 1);
        l.turn();
        lock.release().unwrap();
        let mut newcomer = taker(&l, &lock, &log, 2);
        one.cancel();
        l.turns(2);
        cancelled(&mut one);
        ended(&mut newcomer).unwrap();
        assert!(lock.locked());
    }

    /// The request is taken back before the waiter ran: it has what it was given meanwhile.
    fn lck_04_cancelled_and_uncancelled_around_the_release(kind: DriverKind) {
        let l = Turned::new(kind);
        for release_first in [false, true] {
            let (lock, log) = (locked(), Order::default());
            let (mut one, two) = (taker(&l, &lock, &log, 1), taker(&l, &lock, &log, 2));
            l.turn();
            if release_first {
                lock.release().unwrap();
                one.cancel();
            } else {
                one.cancel();
                lock.release().unwrap();
            }
            assert_eq!(one.uncancel(), 0);
            l.turns(2);
            ended(&mut one).unwrap();
            assert_eq!(log.take(), [1]);
            lock.release().unwrap();
            l.turn();
            assert_eq!(log.take(), [2]);
            drop(two);
        }
    }

    fn lck_05_release_of_an_unlocked_lock_is_an_error(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = Rc::new(Lock::new(()));
        assert_eq!(lock.release(), Err(NotAcquired));
        assert_eq!(NotAcquired.to_string(), "Lock is not acquired.");
        // A guard that lives is who releases it.
        let guard = lock.try_acquire().expect("free");
        assert_eq!(lock.release(), Err(NotAcquired));
        assert!(lock.locked());
        LockGuard::forget(guard);
        assert_eq!(lock.release(), Ok(()));
        assert_eq!(lock.release(), Err(NotAcquired));
        // Not while it is passed to the next one either.
        LockGuard::forget(lock.try_acquire().expect("free"));
        let log = Order::default();
        let mut one = taker(&l, &lock, &log, 1);
        l.turn();
        assert_eq!(lock.release(), Ok(()));
        assert_eq!(lock.release(), Err(NotAcquired));
        l.turn();
        ended(&mut one).unwrap();
    }

    fn lck_05_release_without_waiters_unlocks(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = locked();
        lock.release().unwrap();
        shows(&lock, false, 0);
        let inner = lock.clone();
        l.run(async move { drop(inner.acquire().await.unwrap()) });
    }

    fn lck_07_a_newcomer_queues_behind_who_was_woken(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (locked(), Order::default());
        let mut one = taker(&l, &lock, &log, 1);
        l.turn();
        // The newcomer's first step comes before the woken one's.
        let newcomer = taker(&l, &lock, &log, 2);
        lock.release().unwrap();
        assert!(!lock.locked() && lock.try_acquire().is_none());
        l.turn();
        assert_eq!(log.take(), [1]);
        ended(&mut one).unwrap();
        shows(&lock, true, 1);
        lock.release().unwrap();
        l.turn();
        assert_eq!(log.take(), [2]);
        drop(newcomer);
    }

    /// Who holds it, gives it back and wants it again, queues like everybody.
    fn lck_07_who_releases_it_does_not_get_it_again(kind: DriverKind) {
        let l = Turned::new(kind);
        let (lock, log) = (Rc::new(Lock::new(())), Order::default());
        let tasks: Vec<_> = (1..=3)
            .map(|name| {
                let (lock, log) = (lock.clone(), log.clone());
                l.spawn(async move {
                    for _ in 0..3 {
                        let _guard = lock.acquire().await?;
                        log.add(name);
                        yield_now().await?;
                    }
                    Ok::<_, Cancelled>(())
                })
            })
            .collect();
        l.run(async {
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        });
        assert_eq!(log.take(), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    }

    fn lck_07_uncontended_it_does_not_suspend(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = Lock::new(());
        l.run(async move {
            for _ in 0..3 {
                assert!(poll_once(pin!(lock.acquire())).is_ready());
            }
            // Not even a task that is asked to stop: that is for awaits that suspend.
            current().unwrap().cancel();
            let _guard = lock.acquire().await.expect("it does not suspend");
            drop(yield_now().await.expect_err("asked to stop"));
            current().unwrap().uncancel();
        });
    }

    /// A kept request is taken by the acquisition that would have to wait.
    fn lck_03_a_request_made_before_the_wait_is_taken_by_it(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = locked();
        let inner = lock.clone();
        let mut task = l.spawn(async move {
            current().unwrap().cancel();
            drop(inner.acquire().await?);
            Ok::<_, Cancelled>(())
        });
        l.turn();
        cancelled(&mut task);
        shows(&lock, true, 0);
    }
}
