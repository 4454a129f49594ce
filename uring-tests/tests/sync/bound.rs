//! A primitive belongs to the first loop that blocks on it.

use std::future::Future;
use std::rc::Rc;

use ringloop::JoinError;
use ringloop::sync::{
    Barrier, BoundedSemaphore, Condition, Event, Lock, LockGuard, Queue, Semaphore, SemaphorePermit,
};
use ringloop::task::WaitsFor;
use uring_tests::on_both_drivers;

use crate::support::{Turned, cancelled, ended};

/// Blocks on it in one loop, then in another, then in the first again.
fn belongs<F: Future<Output: 'static> + 'static>(
    loops: &[Turned; 2],
    name: &str,
    block: impl Fn() -> F,
) {
    for (l, refused) in [(&loops[0], false), (&loops[1], true), (&loops[0], false)] {
        let mut task = l.spawn(block());
        l.turns(2);
        if !refused {
            assert!(!task.done(), "{name}: it has to wait");
            task.abort();
            l.turn();
            cancelled(&mut task);
            continue;
        }
        let Some(Err(JoinError::Panicked(payload))) = task.result() else {
            panic!("{name}: not refused");
        };
        let text = ringloop::task::panic_message(&*payload);
        assert_eq!(
            text,
            format!("this {name} is bound to a different event loop")
        );
    }
}

/// Compiles only if `T` is not `Send`: else there are two implementations to choose from.
trait Stays<Choice> {
    const YES: () = ();
}
struct Any;
struct Moves;
impl<T: ?Sized> Stays<Any> for T {}
impl<T: ?Sized + Send> Stays<Moves> for T {}
const _: [(); 8] = [
    <Lock as Stays<_>>::YES,
    <LockGuard<'_> as Stays<_>>::YES,
    <Event as Stays<_>>::YES,
    <Condition as Stays<_>>::YES,
    <Semaphore as Stays<_>>::YES,
    <BoundedSemaphore as Stays<_>>::YES,
    <Barrier as Stays<_>>::YES,
    <Queue<u8> as Stays<_>>::YES,
];

on_both_drivers! {
    fn bnd_01_cnd_05_a_primitive_belongs_to_the_first_loop_that_blocks_on_it(kind: DriverKind) {
        let loops = [Turned::new(kind), Turned::new(kind)];

        let lock = Rc::new(Lock::new(()));
        LockGuard::forget(lock.try_acquire().unwrap());
        belongs(&loops, "Lock", || {
            let lock = lock.clone();
            async move { lock.acquire().await.map(drop) }
        });

        let event = Rc::new(Event::new());
        belongs(&loops, "Event", || {
            let event = event.clone();
            async move { event.wait().await }
        });

        let semaphore = Rc::new(Semaphore::new(0));
        belongs(&loops, "Semaphore", || {
            let semaphore = semaphore.clone();
            async move { semaphore.acquire().await.map(SemaphorePermit::forget) }
        });
        let semaphore = Rc::new(BoundedSemaphore::new(0));
        belongs(&loops, "Semaphore", || {
            let semaphore = semaphore.clone();
            async move { semaphore.acquire().await.map(SemaphorePermit::forget) }
        });

        let condition = Rc::new(Condition::new(()));
        belongs(&loops, "Condition", || {
            let condition = condition.clone();
            async move {
                let mut guard = condition.acquire().await?;
                condition.wait(&mut guard).await
            }
        });
        // The refused wait kept the lock to its end, and gave it back.
        assert!(!condition.locked());

        let barrier = Rc::new(Barrier::new(2));
        belongs(&loops, "Barrier", || {
            let barrier = barrier.clone();
            async move { barrier.wait().await }
        });
        assert_eq!(barrier.n_waiting(), 0);

        let queue = Rc::new(Queue::<u32>::new(1));
        belongs(&loops, "Queue", || {
            let queue = queue.clone();
            async move { queue.get().await }
        });
        queue.put_nowait(1).unwrap();
        belongs(&loops, "Queue", || {
            let queue = queue.clone();
            async move { queue.put(2).await }
        });
        // Bound by its gets, it refuses puts too.
        let other = Rc::new(Queue::<u32>::new(1));
        let (get, put) = (other.clone(), other.clone());
        let mut getting = loops[0].spawn(async move { get.get().await });
        loops[0].turn();
        getting.abort();
        loops[0].turn();
        drop(getting.result());
        other.put_nowait(1).unwrap();
        let mut putting = loops[1].spawn(async move { put.put(2).await });
        loops[1].turn();
        assert!(matches!(putting.result(), Some(Err(JoinError::Panicked(_)))));
        belongs(&loops, "Event", || {
            let queue = queue.clone();
            async move { queue.join().await }
        });
    }

    /// What a listing says of a task that waits.
    fn what_is_waited_for_is_told(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = Rc::new(Lock::new(()));
        LockGuard::forget(lock.try_acquire().unwrap());
        let (event, semaphore) = (Rc::new(Event::new()), Rc::new(Semaphore::new(0)));
        let (condition, barrier) = (Rc::new(Condition::new(())), Rc::new(Barrier::new(2)));
        let (empty, full) = (Rc::new(Queue::<u8>::new(1)), Rc::new(Queue::new(1)));
        full.put_nowait(0).unwrap();
        let tasks = [
            l.spawn(async move { drop(lock.acquire().await) }),
            l.spawn(async move { drop(event.wait().await) }),
            l.spawn(async move { drop(semaphore.acquire().await) }),
            l.spawn(async move {
                let mut guard = condition.acquire().await.unwrap();
                drop(condition.wait(&mut guard).await);
            }),
            l.spawn(async move { drop(barrier.wait().await) }),
            l.spawn(async move { drop(empty.get().await) }),
            l.spawn(async move { drop(full.put(1).await) }),
        ];
        l.turn();
        let names = [
            "lock",
            "event",
            "semaphore",
            "condition",
            "barrier",
            "queue to get from",
            "queue to put to",
        ];
        for (task, name) in tasks.iter().zip(names) {
            assert_eq!(task.local().waits_for(), [WaitsFor::Other(name)]);
            task.abort();
        }
        l.turn();
    }

    fn bnd_01_what_does_not_block_binds_nothing(kind: DriverKind) {
        let loops = [Turned::new(kind), Turned::new(kind)];
        let lock = Rc::new(Lock::new(0));
        let semaphore = Rc::new(Semaphore::new(1));
        let queue = Rc::new(Queue::new(1));
        let event = Rc::new(Event::new());
        event.set();
        let barrier = Rc::new(Barrier::new(1));
        for l in loops.iter().chain(&loops) {
            let (lock, semaphore, queue) = (lock.clone(), semaphore.clone(), queue.clone());
            let (event, barrier) = (event.clone(), barrier.clone());
            let mut task = l.spawn(async move {
                *lock.acquire().await.unwrap() += 1;
                drop(semaphore.acquire().await.unwrap());
                queue.put(1).await.unwrap();
                queue.get().await.unwrap();
                queue.task_done().unwrap();
                queue.join().await.unwrap();
                event.wait().await.unwrap();
                barrier.wait().await.unwrap();
            });
            l.turn();
            ended(&mut task);
        }
        assert_eq!(*lock.try_acquire().unwrap(), 4);
    }
}
