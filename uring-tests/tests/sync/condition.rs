use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ringloop::sync::{Condition, Lock, LockGuard, NotAcquired};
use ringloop::{Cancelled, JoinError, Task, timeout, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::support::{Turned, cancelled, ended, poll_once};

type Shared = Rc<Condition<u32>>;

/// A task that locks, waits once, says so, and gives way once with the lock.
fn waiter(
    l: &Turned,
    condition: &Shared,
    log: &Order<u32>,
    name: u32,
) -> Task<Result<(), Cancelled>> {
    let (condition, log) = (condition.clone(), log.clone());
    l.spawn(async move {
        let mut guard = condition.acquire().await?;
        condition.wait(&mut guard).await?;
        log.add(name);
        yield_now().await?;
        *guard += 1;
        Ok(())
    })
}

/// Notifies `n` with the lock, which must be free.
fn notify(condition: &Shared, n: usize) {
    let _guard = condition.lock().try_acquire().expect("free");
    condition.notify(n).expect("the lock is held");
}

fn shows(condition: &Shared, locked: bool, waiters: usize) {
    let text = format!("Condition {{ locked: {locked}, waiters: {waiters} }}");
    assert_eq!(format!("{condition:?}"), text);
}

fn fresh() -> (Shared, Order<u32>) {
    (Rc::new(Condition::new(0)), Order::default())
}

on_both_drivers! {
    fn cnd_01_notified_waiters_go_on_in_order_one_after_the_other(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let mut tasks: Vec<_> = (1..=5).map(|name| waiter(&l, &condition, &log, name)).collect();
        l.turns(10);
        // Each gave the lock up.
        shows(&condition, false, 5);
        notify(&condition, 1);
        l.turns(5);
        assert_eq!(log.take(), [1]);
        notify(&condition, 0);
        l.turns(5);
        assert_eq!(log.take(), [0; 0]);
        notify(&condition, 2);
        l.turn();
        // The first has the lock across its yield, the second waits for that.
        assert_eq!(log.take(), [2]);
        assert!(condition.locked());
        l.turns(3);
        assert_eq!(log.take(), [3]);
        l.turns(3);
        assert!(!condition.locked());
        notify(&condition, 100);
        l.turns(9);
        assert_eq!(log.take(), [4, 5]);
        tasks.iter_mut().for_each(|task| ended(task).unwrap());
        assert_eq!(*condition.lock().try_acquire().unwrap(), 5);
    }

    fn cnd_01_notify_all_wakes_all(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let tasks: Vec<_> = (1..=3).map(|name| waiter(&l, &condition, &log, name)).collect();
        l.turns(6);
        {
            let _guard = condition.lock().try_acquire().expect("free");
            condition.notify_all().unwrap();
            // Who waits for the next one is not meant.
            shows(&condition, true, 0);
        }
        let late = waiter(&l, &condition, &log, 4);
        l.turns(12);
        assert_eq!(log.take(), [1, 2, 3]);
        shows(&condition, false, 1);
        notify(&condition, 1);
        l.turns(4);
        assert_eq!(log.take(), [4]);
        drop((tasks, late));
    }

    fn cnd_02_without_the_lock_waiting_and_notifying_are_refused(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, _) = fresh();
        assert_eq!(condition.notify(1), Err(NotAcquired));
        assert_eq!(condition.notify_all(), Err(NotAcquired));
        // Who holds it is not asked.
        LockGuard::forget(condition.lock().try_acquire().expect("free"));
        assert_eq!((condition.notify(1), condition.notify_all()), (Ok(()), Ok(())));
        condition.lock().release().unwrap();
        // A guard of another lock, and one that lost its lock.
        let inner = condition.clone();
        let mut of_another = l.spawn(async move {
            let other = Lock::new(0);
            let mut guard = other.acquire().await.unwrap();
            inner.wait(&mut guard).await
        });
        let inner = condition.clone();
        let mut lost = l.spawn(async move {
            let mut guard = inner.acquire().await.unwrap();
            assert!(poll_once(pin!(inner.wait(&mut guard))).is_pending());
            assert!(!LockGuard::is_held(&guard));
            inner.wait(&mut guard).await
        });
        l.turns(2);
        for task in [&mut of_another, &mut lost] {
            let Some(Err(JoinError::Panicked(payload))) = task.result() else {
                panic!("not refused");
            };
            let text = ringloop::task::panic_message(&*payload);
            assert_eq!(text, "cannot wait on un-acquired lock");
        }
        shows(&condition, false, 0);
    }

    fn cnd_03_a_cancelled_wait_takes_the_lock_first(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let (inner, note) = (condition.clone(), log.clone());
        let mut task = l.spawn(async move {
            let mut guard = inner.acquire().await?;
            let outcome = inner.wait(&mut guard).await;
            assert!(outcome.is_err() && LockGuard::is_held(&guard));
            note.add(*guard);
            assert!(inner.locked());
            outcome
        });
        l.turn();
        task.cancel();
        l.turn();
        cancelled(&mut task);
        assert_eq!(log.take(), [0]);
        shows(&condition, false, 0);
    }

    fn cnd_03_a_cancelled_wait_queues_for_the_lock(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let mut task = waiter(&l, &condition, &log, 1);
        l.turn();
        let mut guard = condition.lock().try_acquire().expect("given up");
        task.cancel();
        l.turns(5);
        assert!(!task.done(), "it waits for the lock");
        assert_eq!(format!("{:?}", condition.lock()), "Lock { locked: true, waiters: 1 }");
        *guard = 7;
        drop(guard);
        l.turn();
        cancelled(&mut task);
        assert_eq!(log.take(), [0; 0]);
        shows(&condition, false, 0);
    }

    fn cnd_03_cancelled_after_the_notification(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let mut task = waiter(&l, &condition, &log, 1);
        l.turn();
        notify(&condition, 1);
        task.cancel();
        l.turns(2);
        cancelled(&mut task);
        assert_eq!(log.take(), [0; 0]);
        shows(&condition, false, 0);
    }

    fn cnd_04_wait_for_looks_again_after_each_notification(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let (inner, note) = (condition.clone(), log.clone());
        let mut task = l.spawn(async move {
            let mut guard = inner.acquire().await?;
            inner
                .wait_for(&mut guard, |value| {
                    note.add(*value);
                    *value >= 2
                })
                .await?;
            Ok::<_, Cancelled>(*guard)
        });
        l.turn();
        for value in 1..=3 {
            *condition.lock().try_acquire().expect("free") = value;
            if value != 2 {
                notify(&condition, 1);
            }
            l.turns(2);
        }
        assert_eq!(log.take(), [0, 1, 3]);
        assert_eq!(ended(&mut task).unwrap(), 3);
    }

    fn cnd_04_a_true_predicate_does_not_give_the_lock_up(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let inner = condition.clone();
        let other = {
            let (condition, log) = (condition.clone(), log.clone());
            async move {
                *condition.acquire().await? += 1;
                log.add(1);
                Ok::<_, Cancelled>(())
            }
        };
        let mut guard = condition.lock().try_acquire().expect("free");
        let mut task = l.spawn(other);
        l.turn();
        assert!(poll_once(pin!(inner.wait_for(&mut guard, |value| *value == 0))).is_ready());
        l.turns(3);
        assert!(LockGuard::is_held(&guard));
        assert_eq!(log.take(), [0; 0]);
        drop(guard);
        l.turn();
        ended(&mut task).unwrap();
    }

    fn cnd_05_conditions_share_a_lock(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = Rc::new(Lock::new(0));
        let log = Order::default();
        let [full, empty] = [(); 2].map(|()| Rc::new(Condition::with_lock(lock.clone())));
        assert!(Rc::ptr_eq(full.lock(), empty.lock()));
        let tasks = [waiter(&l, &full, &log, 1), waiter(&l, &empty, &log, 2)];
        l.turns(4);
        let guard = empty.lock().try_acquire().expect("free");
        assert!(full.locked() && empty.locked());
        // One's notification is not the other's.
        empty.notify_all().unwrap();
        drop(guard);
        l.turns(4);
        assert_eq!(log.take(), [2]);
        notify(&full, 1);
        l.turns(4);
        assert_eq!(log.take(), [1]);
        drop(tasks);
    }

    fn cnd_06_a_timeout_inside_leaves_the_lock_consistent(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, _) = fresh();
        let inner = condition.clone();
        l.run(async move {
            let mut guard = inner.acquire().await.unwrap();
            let waited = timeout(Duration::from_millis(1), inner.wait(&mut guard)).await;
            assert!(waited.is_err(), "nobody notified");
            *guard += 1;
            assert!(inner.locked());
            // It may go on, also to wait again.
            let waited = timeout(Duration::ZERO, inner.wait(&mut guard)).await;
            assert!(waited.is_err());
            *guard += 1;
        });
        shows(&condition, false, 0);
        assert_eq!(*condition.lock().try_acquire().unwrap(), 2);
    }

    /// The timeout waits for the lock, as everything that cleans up.
    fn cnd_06_a_timeout_inside_waits_for_the_lock(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let (inner, note) = (condition.clone(), log.clone());
        let mut task = l.spawn(async move {
            let mut guard = inner.acquire().await.unwrap();
            let waited = timeout(Duration::ZERO, inner.wait(&mut guard)).await;
            assert!(waited.is_err());
            note.add(*guard);
        });
        l.turn();
        let mut guard = condition.lock().try_acquire().expect("given up");
        l.turns(5);
        assert!(!task.done());
        *guard = 9;
        drop(guard);
        l.turns(2);
        ended(&mut task);
        assert_eq!(log.take(), [9]);
    }

    fn cnd_07_the_cancellation_keeps_its_message(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let (inner, note) = (condition.clone(), Order::default());
        let seen = note.clone();
        let mut task = l.spawn(async move {
            let mut guard = inner.acquire().await?;
            let outcome = inner.wait(&mut guard).await;
            note.add(outcome.as_ref().unwrap_err().task());
            outcome
        });
        let other = waiter(&l, &condition, &log, 1);
        l.turns(2);
        task.cancel_with("while waiting");
        l.turn();
        assert_eq!(seen.take(), [Some(task.id())]);
        let Some(Err(JoinError::Cancelled(value))) = task.result() else {
            panic!("not cancelled");
        };
        assert_eq!(value.message(), Some("while waiting"));
        notify(&condition, 1);
        l.turns(3);
        drop(other);
    }

    fn cnd_07_cancelled_while_locking_again_it_keeps_its_message(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let mut notified = waiter(&l, &condition, &log, 1);
        let mut waiting = waiter(&l, &condition, &log, 2);
        l.turns(3);
        let guard = condition.lock().try_acquire().expect("free");
        condition.notify(1).unwrap();
        waiting.cancel_with("first");
        l.turns(2);
        // Both want the lock now.
        notified.cancel_with("while locking");
        waiting.cancel_with("last");
        l.turns(2);
        assert!(!notified.done() && !waiting.done(), "not without the lock");
        drop(guard);
        l.turns(3);
        for (task, message) in [(&mut notified, "while locking"), (&mut waiting, "last")] {
            let Some(Err(JoinError::Cancelled(value))) = task.result() else {
                panic!("not cancelled");
            };
            assert_eq!(value.message(), Some(message));
        }
        assert_eq!(log.take(), [0; 0]);
        shows(&condition, false, 0);
    }

    /// Notified and cancelled at once, in either order: the notification goes to the next.
    fn cnd_08_a_notification_of_a_cancelled_waiter_goes_on(kind: DriverKind) {
        let l = Turned::new(kind);
        for cancelled_first in [false, true] {
            let (condition, log) = fresh();
            let mut one = waiter(&l, &condition, &log, 1);
            let mut two = waiter(&l, &condition, &log, 2);
            l.turns(3);
            if cancelled_first {
                one.cancel();
            }
            notify(&condition, 1);
            one.cancel();
            l.turns(6);
            cancelled(&mut one);
            assert_eq!(log.take(), [2]);
            ended(&mut two).unwrap();
            shows(&condition, false, 0);
        }
    }

    fn cnd_08_a_notification_cancelled_while_locking_again_goes_on(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let mut one = waiter(&l, &condition, &log, 1);
        let mut two = waiter(&l, &condition, &log, 2);
        l.turns(3);
        let guard = condition.lock().try_acquire().expect("free");
        condition.notify(1).unwrap();
        l.turn();
        one.cancel();
        l.turn();
        shows(&condition, true, 0);
        drop(guard);
        l.turns(6);
        cancelled(&mut one);
        ended(&mut two).unwrap();
        assert_eq!(log.take(), [2]);
    }

    /// The same for a wait that is dropped: notified, and while it locks again.
    fn cnd_08_a_notification_of_a_dropped_wait_goes_on(kind: DriverKind) {
        let l = Turned::new(kind);
        for while_locking in [false, true] {
            let (condition, log) = fresh();
            let mut one = waiter(&l, &condition, &log, 1);
            let mut two = waiter(&l, &condition, &log, 2);
            l.turns(3);
            let guard = condition.lock().try_acquire().expect("free");
            condition.notify(1).unwrap();
            if while_locking {
                l.turn();
            }
            one.abort();
            l.turn();
            drop(guard);
            l.turns(6);
            cancelled(&mut one);
            ended(&mut two).unwrap();
            assert_eq!(log.take(), [2]);
            shows(&condition, false, 0);
        }
    }

    /// A wait that was not notified takes nothing with it.
    fn cnd_08_a_cancelled_waiter_without_a_notification_wakes_nobody(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        let mut one = waiter(&l, &condition, &log, 1);
        let two = waiter(&l, &condition, &log, 2);
        l.turns(3);
        one.cancel();
        l.turns(4);
        cancelled(&mut one);
        assert_eq!(log.take(), [0; 0]);
        notify(&condition, 1);
        l.turns(4);
        assert_eq!(log.take(), [2]);
        drop(two);
    }

    fn cnd_09_a_guard_is_what_a_lock_gives(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, _) = fresh();
        let inner = condition.clone();
        l.run(async move {
            let mut guard = inner.acquire().await.unwrap();
            *guard = 3;
            assert!(inner.locked());
            drop(guard);
            assert!(!inner.locked());
        });
        assert_eq!(*condition.lock().try_acquire().unwrap(), 3);
    }

    fn cnd_09_the_text_shows_state_and_waiters(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, log) = fresh();
        shows(&condition, false, 0);
        let task = waiter(&l, &condition, &log, 1);
        l.turn();
        shows(&condition, false, 1);
        let guard = condition.lock().try_acquire().unwrap();
        shows(&condition, true, 1);
        condition.notify_all().unwrap();
        shows(&condition, true, 0);
        drop(guard);
        l.turns(3);
        drop(task);
    }

    /// The guard of a wait that was dropped has no lock, says so, and can take it again.
    fn a_dropped_wait_leaves_its_guard_without_the_lock(kind: DriverKind) {
        let l = Turned::new(kind);
        let (condition, _) = fresh();
        let inner = condition.clone();
        let mut reading = l.spawn(async move {
            let mut guard = inner.acquire().await.unwrap();
            assert!(poll_once(pin!(inner.wait(&mut guard))).is_pending());
            assert!(!LockGuard::is_held(&guard) && !inner.locked());
            assert_eq!(format!("{guard:?}"), "LockGuard(None)");
            LockGuard::reacquire(&mut guard).await.unwrap();
            LockGuard::reacquire(&mut guard).await.unwrap();
            *guard += 1;
            assert!(poll_once(pin!(inner.wait(&mut guard))).is_pending());
            *guard
        });
        l.turn();
        let Some(Err(JoinError::Panicked(payload))) = reading.result() else {
            panic!("it was read");
        };
        let text = ringloop::task::panic_message(&*payload);
        assert!(text.starts_with("the guard lost its lock"), "{text}");
        shows(&condition, false, 0);
        assert_eq!(*condition.lock().try_acquire().unwrap(), 1);
    }
}
