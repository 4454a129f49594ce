//! What is taken from the heap: nothing without waiting, and nothing by waits once as many waited
//! before. The allocator of this program counts what this thread takes.

use std::cell::Cell;
use std::rc::Rc;

use ringloop::sync::{Barrier, Condition, Event, Lock, LockGuard, PriorityQueue, Queue, Semaphore};
use ringloop::{Cancelled, yield_now};
use uring_tests::heap::{self, Counting};
use uring_tests::on_both_drivers;

use crate::support::Turned;

#[global_allocator]
static HEAP: Counting = Counting;

/// Runs `round` in a task, some times to warm up; then returns what `rounds` more of it take.
fn taken_by<F: Future<Output = Result<(), Cancelled>>>(
    kind: uring_tests::DriverKind,
    rounds: usize,
    mut round: impl FnMut() -> F + 'static,
) -> u64 {
    let l = Turned::new(kind);
    l.run(async move {
        for _ in 0..64 {
            round().await.expect("nobody cancels it");
        }
        let before = heap::taken();
        for _ in 0..rounds {
            round().await.expect("nobody cancels it");
        }
        heap::taken() - before
    })
}

/// Three tasks that do `round` for ever, warmed up; what the thread takes while they go on.
fn taken_by_three<F: Future<Output = Result<(), Cancelled>> + 'static>(
    kind: uring_tests::DriverKind,
    round: impl Fn(usize) -> F + 'static,
) -> u64 {
    let l = Turned::new(kind);
    let round = Rc::new(round);
    let rounds = Rc::new(Cell::new(0u32));
    let tasks: Vec<_> = (0..3)
        .map(|name| {
            let (round, rounds) = (round.clone(), rounds.clone());
            l.spawn(async move {
                loop {
                    round(name).await?;
                    rounds.set(rounds.get() + 1);
                }
                #[allow(unreachable_code)]
                Ok::<_, Cancelled>(())
            })
        })
        .collect();
    let taken = l.run(async move {
        turns(400).await;
        let (before, done) = (heap::taken(), rounds.get());
        turns(1000).await;
        let taken = heap::taken() - before;
        assert!(rounds.get() >= done + 300, "they go on");
        taken
    });
    tasks.iter().for_each(|task| task.abort());
    l.turns(2);
    taken
}

async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await.expect("nobody cancels it");
    }
}

on_both_drivers! {
    /// The count counts.
    fn what_takes_memory_is_counted(_kind: DriverKind) {
        let before = heap::taken();
        drop(std::hint::black_box(Box::new(1)));
        assert_eq!(heap::taken(), before + 1);
    }

    fn what_need_not_wait_takes_no_memory(kind: DriverKind) {
        // Not even the first time.
        let l = Turned::new(kind);
        let taken = l.run(async {
            let before = heap::taken();
            let lock = Lock::new(1);
            let semaphore = Semaphore::new(1);
            let (event, barrier) = (Event::new(), Barrier::new(1));
            *lock.acquire().await.unwrap() += 1;
            drop(semaphore.acquire().await.unwrap());
            event.set();
            event.wait().await.unwrap();
            barrier.wait().await.unwrap();
            heap::taken() - before
        });
        assert_eq!(taken, 0);
        let (queue, smallest) = (Rc::new(Queue::new(4)), Rc::new(PriorityQueue::new(4)));
        let taken = taken_by(kind, 100, move || {
            let (queue, smallest) = (queue.clone(), smallest.clone());
            async move {
                for item in 0..3 {
                    queue.put(item).await.expect("there is room");
                    smallest.put(item).await.expect("there is room");
                }
                for _ in 0..3 {
                    queue.get().await.expect("it is there");
                    smallest.get().await.expect("it is there");
                }
                Ok(())
            }
        });
        assert_eq!(taken, 0);
    }

    fn a_contended_lock_takes_no_memory(kind: DriverKind) {
        let lock = Rc::new(Lock::new(0));
        let taken = taken_by_three(kind, move |_| {
            let lock = lock.clone();
            async move {
                let mut guard = lock.acquire().await?;
                yield_now().await?;
                *guard += 1;
                Ok(())
            }
        });
        assert_eq!(taken, 0);
    }

    fn a_contended_semaphore_takes_no_memory(kind: DriverKind) {
        let semaphore = Rc::new(Semaphore::new(1));
        let taken = taken_by_three(kind, move |_| {
            let semaphore = semaphore.clone();
            async move {
                let _permit = semaphore.acquire().await?;
                yield_now().await
            }
        });
        assert_eq!(taken, 0);
    }

    fn handing_items_over_takes_no_memory(kind: DriverKind) {
        let queue = Rc::new(Queue::new(1));
        let taken = taken_by_three(kind, move |name| {
            let queue = queue.clone();
            async move {
                if name == 0 {
                    for item in 0..2 {
                        queue.put(item).await.map_err(|_| Cancelled::new())?;
                    }
                } else {
                    queue.get().await.map_err(|_| Cancelled::new())?;
                }
                Ok(())
            }
        });
        assert_eq!(taken, 0);
    }

    fn rounds_of_a_barrier_take_no_memory(kind: DriverKind) {
        let barrier = Rc::new(Barrier::new(3));
        let taken = taken_by_three(kind, move |_| {
            let barrier = barrier.clone();
            async move {
                barrier.wait().await.map_err(|_| Cancelled::new())?;
                yield_now().await
            }
        });
        assert_eq!(taken, 0);
    }

    fn notifications_take_no_memory(kind: DriverKind) {
        let condition = Rc::new(Condition::new(0));
        let event = Rc::new(Event::new());
        let taken = taken_by_three(kind, move |name| {
            let (condition, event) = (condition.clone(), event.clone());
            async move {
                if name == 0 {
                    event.set();
                    event.clear();
                    let mut guard = condition.acquire().await?;
                    *guard += 1;
                    condition.notify_all().expect("locked");
                } else {
                    event.wait().await?;
                    let mut guard = condition.acquire().await?;
                    condition.wait(&mut guard).await?;
                }
                yield_now().await
            }
        });
        assert_eq!(taken, 0);
    }

    /// The place of a wait that was given up is used again.
    fn waits_that_were_dropped_leave_nothing(kind: DriverKind) {
        let lock = Rc::new(Lock::new(()));
        LockGuard::forget(lock.try_acquire().unwrap());
        let (queue, event) = (Rc::new(Queue::<u32>::new(0)), Rc::new(Event::new()));
        let taken = taken_by(kind, 500, move || {
            let (lock, queue, event) = (lock.clone(), queue.clone(), event.clone());
            async move {
                {
                    let mut waits = std::pin::pin!(async {
                        let (a, b, c) = (lock.acquire(), queue.get(), event.wait());
                        let mut waits = (std::pin::pin!(a), std::pin::pin!(b), std::pin::pin!(c));
                        std::future::poll_fn(|cx| {
                            assert!(waits.0.as_mut().poll(cx).is_pending());
                            assert!(waits.1.as_mut().poll(cx).is_pending());
                            assert!(waits.2.as_mut().poll(cx).is_pending());
                            std::task::Poll::<()>::Pending
                        })
                        .await;
                    });
                    std::future::poll_fn(|cx| {
                        assert!(waits.as_mut().poll(cx).is_pending());
                        std::task::Poll::Ready(())
                    })
                    .await;
                }
                Ok(())
            }
        });
        assert_eq!(taken, 0);
    }
}
