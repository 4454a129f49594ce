use std::rc::Rc;

use ringloop::sync::{BoundedSemaphore, ReleasedTooOften, Semaphore, SemaphorePermit};
use ringloop::{Cancelled, Task, yield_now};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::support::{Turned, cancelled, ended};

/// A task that takes a unit, says so, and keeps it.
fn taker(
    l: &Turned,
    semaphore: &Rc<Semaphore>,
    log: &Order<u32>,
    name: u32,
) -> Task<Result<(), Cancelled>> {
    let (semaphore, log) = (semaphore.clone(), log.clone());
    l.spawn(async move {
        let permit = semaphore.acquire().await?;
        log.add(name);
        permit.forget();
        Ok(())
    })
}

fn takers(
    l: &Turned,
    semaphore: &Rc<Semaphore>,
    log: &Order<u32>,
    names: impl IntoIterator<Item = u32>,
) -> Vec<Task<Result<(), Cancelled>>> {
    let names = names.into_iter();
    names.map(|name| taker(l, semaphore, log, name)).collect()
}

fn shows(semaphore: &Semaphore, locked: bool, value: usize, waiters: usize) {
    let text = format!("Semaphore {{ locked: {locked}, value: {value}, waiters: {waiters} }}");
    assert_eq!(format!("{semaphore:?}"), text);
}

on_both_drivers! {
    fn sem_01_a_semaphore_without_units_is_locked(_kind: DriverKind) {
        let semaphore = Semaphore::new(0);
        assert!(semaphore.locked());
        assert!(semaphore.try_acquire().is_none());
        shows(&semaphore, true, 0, 0);
        assert_eq!(Semaphore::default().value(), 1);
        let bounded = BoundedSemaphore::default();
        let text = "BoundedSemaphore { locked: false, value: 1, waiters: 0 }";
        assert_eq!(format!("{bounded:?}"), text);
    }

    fn sem_01_the_text_shows_value_and_waiters(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(2)), Order::default());
        shows(&semaphore, false, 2, 0);
        let tasks = takers(&l, &semaphore, &log, 1..=4);
        l.turn();
        shows(&semaphore, true, 0, 2);
        semaphore.release();
        shows(&semaphore, true, 0, 1);
        semaphore.release();
        l.turn();
        assert_eq!(log.take(), [1, 2, 3, 4]);
        drop(tasks);
    }

    fn sem_02_units_go_to_waiters_at_the_release(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(2)), Order::default());
        let mut tasks = takers(&l, &semaphore, &log, 1..=5);
        l.turn();
        assert_eq!(log.take(), [1, 2]);
        assert!(semaphore.locked());
        semaphore.release();
        semaphore.release();
        // Gone already, though nobody has run.
        assert_eq!(semaphore.value(), 0);
        l.turn();
        assert_eq!(log.take(), [3, 4]);
        semaphore.release();
        l.turn();
        assert_eq!(log.take(), [5]);
        semaphore.release();
        assert_eq!(semaphore.value(), 1);
        assert!(!semaphore.locked());
        tasks.iter_mut().for_each(|task| ended(task).unwrap());
    }

    fn sem_02_a_release_without_waiters_adds_a_unit(_kind: DriverKind) {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.try_acquire().expect("free");
        assert!(semaphore.locked() && semaphore.try_acquire().is_none());
        drop(permit);
        assert_eq!(semaphore.value(), 1);
        semaphore.release();
        assert_eq!(semaphore.value(), 2);
    }

    fn sem_02_a_permit_gives_its_unit_back(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(2)), Order::default());
        let tasks: Vec<_> = (0..6)
            .map(|name| {
                let (semaphore, log) = (semaphore.clone(), log.clone());
                l.spawn(async move {
                    let _permit = semaphore.acquire().await?;
                    log.add(name);
                    yield_now().await
                })
            })
            .collect();
        l.run(async {
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        });
        assert_eq!(log.take(), [0, 1, 2, 3, 4, 5]);
        shows(&semaphore, false, 2, 0);
    }

    fn sem_03_a_cancelled_waiter_is_removed(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Order::default());
        let mut tasks = takers(&l, &semaphore, &log, 1..=4);
        l.turn();
        tasks[0].cancel();
        tasks[2].abort();
        l.turn();
        cancelled(&mut tasks[0]);
        cancelled(&mut tasks[2]);
        shows(&semaphore, true, 0, 2);
        semaphore.release();
        semaphore.release();
        l.turn();
        assert_eq!(log.take(), [2, 4]);
    }

    /// Cancelled, then chosen before it ran.
    fn sem_03_cancelled_before_it_was_chosen(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Order::default());
        let mut tasks = takers(&l, &semaphore, &log, 1..=3);
        l.turn();
        tasks[0].cancel();
        semaphore.release();
        l.turns(2);
        cancelled(&mut tasks[0]);
        assert_eq!(log.take(), [2]);
        shows(&semaphore, true, 0, 1);
        semaphore.release();
        l.turn();
        assert_eq!(log.take(), [3]);
    }

    fn sem_03_cancelled_after_it_was_chosen(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Order::default());
        let mut tasks = takers(&l, &semaphore, &log, 1..=3);
        l.turn();
        semaphore.release();
        tasks[0].cancel();
        l.turns(2);
        cancelled(&mut tasks[0]);
        assert_eq!(log.take(), [2]);
        // Dropped after it was chosen, without being polled.
        semaphore.release();
        tasks[2].abort();
        l.turn();
        cancelled(&mut tasks[2]);
        shows(&semaphore, false, 1, 0);
    }

    /// All who could have it are cancelled: the unit is free.
    fn sem_03_nobody_is_left_and_the_unit_is_free(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(1)), Order::default());
        let permit = semaphore.try_acquire().expect("free");
        let mut tasks = takers(&l, &semaphore, &log, 1..=2);
        l.turn();
        for task in &tasks {
            task.cancel();
        }
        drop(permit);
        l.turns(2);
        tasks.iter_mut().for_each(cancelled);
        shows(&semaphore, false, 1, 0);
    }

    /// Released, and wanted again at once: whoever waited comes first.
    fn sem_04_release_then_acquire(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(1)), Order::default());
        let tasks: Vec<_> = [1, 2, 3]
            .map(|name| {
                let (semaphore, log) = (semaphore.clone(), log.clone());
                l.spawn(async move {
                    for _ in 0..2 {
                        semaphore.acquire().await?.forget();
                        log.add(name);
                        yield_now().await?;
                        semaphore.release();
                    }
                    Ok::<_, Cancelled>(())
                })
            })
            .into();
        l.run(async {
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        });
        assert_eq!(log.take(), [1, 2, 3, 1, 2, 3]);
    }

    /// A newcomer queues behind who was woken, though a unit is free; it gets that as soon as the
    /// woken one ran.
    fn sem_04_a_newcomer_queues_though_a_unit_is_free(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Order::default());
        let mut one = taker(&l, &semaphore, &log, 1);
        l.turn();
        let mut two = taker(&l, &semaphore, &log, 2);
        semaphore.release();
        semaphore.release();
        shows(&semaphore, true, 1, 0);
        assert!(semaphore.try_acquire().is_none());
        l.turn();
        // The newcomer was polled first and has to be woken by the one before it.
        assert_eq!(log.take(), [1]);
        l.turn();
        assert_eq!(log.take(), [2]);
        ended(&mut one).unwrap();
        ended(&mut two).unwrap();
        shows(&semaphore, true, 0, 0);
    }

    /// The woken one is cancelled: all the units that newcomers had to leave alone go to them.
    fn sem_04_a_cancelled_head_lets_several_newcomers_in(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Order::default());
        let mut head = taker(&l, &semaphore, &log, 0);
        l.turn();
        let newcomers = takers(&l, &semaphore, &log, 1..=4);
        (0..3).for_each(|_| semaphore.release());
        head.cancel();
        l.turns(2);
        cancelled(&mut head);
        assert_eq!(log.take(), [1, 2, 3]);
        shows(&semaphore, true, 0, 1);
        semaphore.release();
        l.turn();
        assert_eq!(log.take(), [4]);
        drop(newcomers);
    }

    /// Three releases wake three, and one that comes meanwhile is the fourth.
    fn sem_04_many_releases_wake_as_many_in_order(kind: DriverKind) {
        let l = Turned::new(kind);
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Order::default());
        let tasks = takers(&l, &semaphore, &log, 1..=3);
        l.turn();
        let late = taker(&l, &semaphore, &log, 4);
        (0..4).for_each(|_| semaphore.release());
        l.turns(2);
        assert_eq!(log.take(), [1, 2, 3, 4]);
        shows(&semaphore, true, 0, 0);
        drop((tasks, late));
    }

    fn sem_05_a_bounded_one_refuses_one_release_too_many(kind: DriverKind) {
        let l = Turned::new(kind);
        let semaphore = Rc::new(BoundedSemaphore::new(2));
        assert_eq!(semaphore.release(), Err(ReleasedTooOften));
        let text = "BoundedSemaphore released too many times";
        assert_eq!(ReleasedTooOften.to_string(), text);
        let inner = semaphore.clone();
        l.run(async move {
            let kept = inner.acquire().await.unwrap();
            kept.forget();
            let permit: SemaphorePermit<'_> = inner.try_acquire().expect("free");
            assert!(inner.locked());
            assert_eq!((inner.release(), inner.release()), (Ok(()), Ok(())));
            assert_eq!(inner.release(), Err(ReleasedTooOften));
            // All units are there: this one was given back by somebody else.
            drop(permit);
        });
        assert_eq!(semaphore.value(), 2);
    }

    /// Waiters of a bounded one are served as those of any.
    fn sem_05_a_bounded_one_hands_units_to_waiters(kind: DriverKind) {
        let l = Turned::new(kind);
        let semaphore = Rc::new(BoundedSemaphore::new(1));
        semaphore.try_acquire().expect("free").forget();
        let inner = semaphore.clone();
        let mut task = l.spawn(async move { inner.acquire().await.map(SemaphorePermit::forget) });
        l.turn();
        assert_eq!(semaphore.release(), Ok(()));
        assert_eq!(semaphore.value(), 0);
        // The unit is on its way, so there may be one release more: this is the one it had.
        l.turn();
        ended(&mut task).unwrap();
        assert_eq!(semaphore.release(), Ok(()));
        assert_eq!(semaphore.release(), Err(ReleasedTooOften));
    }
}
