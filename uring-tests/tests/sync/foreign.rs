//! Code of others that runs inside: wakers that come back, combinators with wakers of their own,
//! items whose order or destructor uses the queue.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use ringloop::sync::{Event, GetNowaitError, Lock, LockGuard, PriorityQueue, Queue, Semaphore};
use uring_tests::on_both_drivers;

use crate::support::{Turned, ended};

thread_local! {
    /// What wakers of this file do, and how often they were woken.
    static HOOKS: RefCell<Option<Rc<Hooks>>> = const { RefCell::new(None) };
}

/// What a waker does besides being one. A hook runs once.
#[derive(Default)]
struct Hooks {
    clone: RefCell<Option<Box<dyn FnOnce()>>>,
    wake: RefCell<Option<Box<dyn FnOnce()>>>,
    drop: RefCell<Option<Box<dyn FnOnce()>>>,
    woken: Cell<u32>,
}

fn hooks() -> Option<Rc<Hooks>> {
    HOOKS.with_borrow(Option::clone)
}

fn run(hook: impl FnOnce(&Hooks) -> &RefCell<Option<Box<dyn FnOnce()>>>) {
    let Some(hooks) = hooks() else { return };
    let what = hook(&hooks).borrow_mut().take();
    if let Some(what) = what {
        what();
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        run(|hooks| &hooks.clone);
        RawWaker::new(data, &VTABLE)
    },
    |_| woken(),
    |_| woken(),
    |_| run(|hooks| &hooks.drop),
);

fn woken() {
    if let Some(hooks) = hooks() {
        hooks.woken.set(hooks.woken.get() + 1);
    }
    run(|hooks| &hooks.wake);
}

/// A waker with fresh hooks. `number` makes it differ from others.
fn hooked(number: usize) -> (Waker, Rc<Hooks>) {
    let hooks = Rc::new(Hooks::default());
    HOOKS.set(Some(hooks.clone()));
    // SAFETY: the data is a number that nothing dereferences.
    let waker = unsafe { Waker::new(std::ptr::without_provenance(number), &VTABLE) };
    (waker, hooks)
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>, waker: &Waker) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

fn hook(place: &RefCell<Option<Box<dyn FnOnce()>>>, what: impl FnOnce() + 'static) {
    *place.borrow_mut() = Some(Box::new(what));
}

fn locked() -> Rc<Lock> {
    let lock = Rc::new(Lock::new(()));
    LockGuard::forget(lock.try_acquire().unwrap());
    lock
}

/// Counts.
#[derive(Default)]
struct Counter(std::sync::atomic::AtomicU32);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

on_both_drivers! {
    /// Released while the waiter's waker is being cloned: it takes it then.
    fn a_release_while_a_waker_is_cloned_is_not_lost(_kind: DriverKind) {
        let (waker, hooks) = hooked(1);
        let lock = locked();
        let inner = lock.clone();
        hook(&hooks.clone, move || inner.release().unwrap());
        let mut acquire = Box::pin(lock.acquire());
        assert!(poll(&mut acquire, &waker).is_ready());
        // The same where an earlier waker is replaced: given to it while the new one is cloned.
        let lock = locked();
        let mut acquire = Box::pin(lock.acquire());
        assert!(poll(&mut acquire, &waker).is_pending());
        let inner = lock.clone();
        hook(&hooks.clone, move || inner.release().unwrap());
        let (_, old) = (hooks.woken.get(), hooks.clone());
        // SAFETY: as in `hooked`.
        let other = unsafe { Waker::new(std::ptr::without_provenance(2), &VTABLE) };
        assert!(poll(&mut acquire, &other).is_pending());
        // Both know: who polled last has to.
        assert_eq!(old.woken.get(), 2);
        assert!(poll(&mut acquire, &other).is_ready());
    }

    /// A wake, a clone and a drop of a waker may use the very primitive.
    fn wakers_may_come_back(_kind: DriverKind) {
        let (waker, hooks) = hooked(1);
        let lock = locked();
        let mut first = Box::pin(lock.acquire());
        let mut second = Box::pin(lock.acquire());
        assert!(poll(&mut first, &waker).is_pending());
        assert!(poll(&mut second, &waker).is_pending());
        let inner = lock.clone();
        hook(&hooks.wake, move || {
            assert!(inner.try_acquire().is_none());
            assert!(inner.release().is_err());
            assert!(format!("{inner:?}").contains("waiters: 1"));
        });
        lock.release().unwrap();
        let inner = lock.clone();
        hook(&hooks.drop, move || assert!(inner.try_acquire().is_none()));
        drop(second);
        drop(first);
        drop(lock.try_acquire().expect("free"));
        HOOKS.set(None);
    }

    /// Cleared, and waited for again, by the wake of the first: the others are released all the
    /// same, the new one is not.
    fn a_wake_that_clears_the_event_does_not_keep_others(_kind: DriverKind) {
        let (waker, hooks) = hooked(1);
        let event: &'static Event = Box::leak(Box::new(Event::new()));
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(event.wait())).collect();
        for wait in &mut waits {
            assert!(poll(wait, &waker).is_pending());
        }
        let late = Rc::new(RefCell::new(None));
        let slot = late.clone();
        hook(&hooks.wake, move || {
            event.clear();
            let mut wait = Box::pin(event.wait());
            assert!(poll(&mut wait, Waker::noop()).is_pending());
            *slot.borrow_mut() = Some(wait);
        });
        event.set();
        assert_eq!(hooks.woken.get(), 3);
        for wait in &mut waits {
            assert!(poll(wait, &waker).is_ready());
        }
        let mut late = late.take().expect("the hook ran");
        assert!(poll(&mut late, Waker::noop()).is_pending());
        // It stands in line, and the next one is its own.
        assert_eq!(format!("{event:?}"), "Event { set: false, waiters: 1 }");
        event.set();
        assert!(poll(&mut late, Waker::noop()).is_ready());
        HOOKS.set(None);
    }

    /// A waiter that goes away while all are woken takes nothing with it.
    fn a_wake_that_drops_the_next_waiter(_kind: DriverKind) {
        let (waker, hooks) = hooked(1);
        let event: &'static Event = Box::leak(Box::new(Event::new()));
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(event.wait())).collect();
        for wait in &mut waits {
            assert!(poll(wait, &waker).is_pending());
        }
        let next = waits.remove(1);
        hook(&hooks.wake, move || drop(next));
        event.set();
        assert_eq!(hooks.woken.get(), 2);
        for wait in &mut waits {
            assert!(poll(wait, &waker).is_ready());
        }
        HOOKS.set(None);
    }

    /// Polled with another waker, it is that one which is woken.
    fn the_last_waker_is_woken(_kind: DriverKind) {
        let semaphore = Semaphore::new(0);
        let counters = [(); 2].map(|()| Arc::new(Counter::default()));
        let wakers = counters.clone().map(Waker::from);
        let mut acquire = Box::pin(semaphore.acquire());
        for waker in [&wakers[0], &wakers[0], &wakers[1]] {
            assert!(poll(&mut acquire, waker).is_pending());
        }
        assert_eq!(Arc::strong_count(&counters[0]), 2, "the old waker is kept");
        semaphore.release();
        let woken = counters.each_ref().map(|counter| counter.0.load(std::sync::atomic::Ordering::SeqCst));
        assert_eq!(woken, [0, 1]);
        assert!(poll(&mut acquire, &wakers[1]).is_ready());
    }

    /// Two waits of one task, each polled with the task's waker.
    fn two_waits_of_one_task(kind: DriverKind) {
        let l = Turned::new(kind);
        let lock = locked();
        let event = Rc::new(Event::new());
        let (inner, set) = (lock.clone(), event.clone());
        let mut task = l.spawn(async move {
            let mut acquire = Box::pin(inner.acquire());
            let mut wait = Box::pin(set.wait());
            let mut done = (false, false);
            poll_fn(move |cx| {
                done.0 = done.0 || acquire.as_mut().poll(cx).is_ready();
                done.1 = done.1 || wait.as_mut().poll(cx).is_ready();
                if done == (true, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        l.turn();
        event.set();
        l.turn();
        assert!(!task.done());
        lock.release().unwrap();
        l.turn();
        ended(&mut task);
    }

    /// An item's destructor runs when nothing is borrowed.
    fn items_may_use_the_queue_when_they_are_dropped(_kind: DriverKind) {
        struct Item(Rc<Queue<Item>>, Rc<Cell<u32>>);
        impl Drop for Item {
            fn drop(&mut self) {
                assert!(matches!(self.0.get_nowait(), Ok(_) | Err(GetNowaitError::QueueShutDown)));
                self.1.set(self.1.get() + 1);
            }
        }
        let queue = Rc::new(Queue::new(0));
        let dropped = Rc::new(Cell::new(0));
        for _ in 0..4 {
            queue.put_nowait(Item(queue.clone(), dropped.clone())).unwrap();
        }
        queue.shutdown(true);
        assert_eq!(dropped.get(), 4);
        drop(queue.put_nowait(Item(queue.clone(), dropped.clone())));
        assert_eq!(dropped.get(), 5);
    }

    /// An order that uses the queue it serves is told so; the queue goes on.
    fn an_order_must_not_use_its_queue(_kind: DriverKind) {
        struct Item(u32, Rc<PriorityQueue<Item>>, Rc<Cell<bool>>);
        impl Ord for Item {
            fn cmp(&self, other: &Self) -> Ordering {
                if self.2.get() {
                    drop(self.1.get_nowait());
                }
                self.0.cmp(&other.0)
            }
        }
        impl PartialOrd for Item {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Eq for Item {}
        impl PartialEq for Item {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }
        let queue = Rc::new(PriorityQueue::new(0));
        let comes_back = Rc::new(Cell::new(false));
        let put = |number| queue.put_nowait(Item(number, queue.clone(), comes_back.clone()));
        put(2).ok().unwrap();
        comes_back.set(true);
        let put_badly = catch_unwind(AssertUnwindSafe(|| drop(put(1))));
        assert!(put_badly.is_err());
        comes_back.set(false);
        // The item is in, and counted.
        let mut numbers: Vec<_> = std::iter::from_fn(|| queue.get_nowait().ok()).map(|item| item.0).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
        assert_eq!([(); 3].map(|()| queue.task_done().is_ok()), [true, true, false]);
    }
}
