//! What is measured, the same for every runtime.

use crate::clock::cpu;
use crate::runtimes::*;
use criterion::{Criterion, SamplingMode};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Tasks of the subjects with many.
const MANY: u64 = 1000;
/// Timers that fire together.
const TIMERS: u64 = 100_000;
/// Over what time they are spread, and how long before the first.
const SPREAD: Duration = Duration::from_millis(500);
const LEAD: Duration = Duration::from_millis(300);
/// The smoke run has so many times fewer, in a shorter time.
const SMOKE: u64 = 20;

/// One line of the table.
pub struct Subject {
    pub id: &'static str,
    pub name: &'static str,
    /// For each iteration; the table gives nanoseconds for one.
    pub per_iteration: u64,
}

const SUBJECTS: [Subject; 18] = [
    subject("spawn-join", "spawn and join, one at a time", 1),
    subject("spawn-join-1000", "spawn and join, 1000 at a time", MANY),
    subject("yield-1", "yield, 1 task", 1),
    subject("yield-1000", "yield, 1000 tasks", MANY),
    subject("wake", "wake round trip of two tasks", 1),
    subject("timer", "timer created and dropped", 1),
    subject("timeout", "timeout around a ready future", 1),
    subject("timeout-pending", "timeout around a yield", 1),
    subject("timers-fire", "100 000 timers firing, each", TIMERS),
    subject("thread-wake", "cross-thread round trip (elapsed)", 1),
    subject("call-soon", "callback scheduled and run", 1),
    subject("lock", "lock acquired and released", 1),
    subject(
        "lock-contended",
        "lock handed over between 2 tasks, with 2 yields",
        2,
    ),
    subject("queue", "item put and got, nobody waits", 1),
    subject("queue-hand-over", "item through a queue of 1, 2 tasks", 1),
    subject(
        "group",
        "group of 100 tasks, each",
        crate::structure::CHILDREN,
    ),
    subject("context-read", "context variable read", 1),
    subject(
        "spawn-join-context",
        "spawn and join with a context variable set",
        1,
    ),
];

const fn subject(id: &'static str, name: &'static str, per_iteration: u64) -> Subject {
    Subject {
        id,
        name,
        per_iteration,
    }
}

/// What the summary needs.
pub struct Subjects {
    pub all: &'static [Subject],
    pub runtimes: Vec<&'static str>,
    /// Mean lateness of the timers that fire, in microseconds, in the order of the runtimes.
    pub lateness: Vec<f64>,
}

/// Measures everything.
pub fn all(criterion: &mut Criterion, smoke: bool) -> Subjects {
    let mut subjects = Subjects {
        all: &SUBJECTS,
        runtimes: Vec::new(),
        lateness: Vec::new(),
    };
    runtime::<Ringloop>(criterion, smoke, &mut subjects);
    call_soon(criterion);
    #[cfg(feature = "others")]
    {
        runtime::<Tokio>(criterion, smoke, &mut subjects);
        runtime::<Monoio>(criterion, smoke, &mut subjects);
        runtime::<Compio>(criterion, smoke, &mut subjects);
        runtime::<Glommio>(criterion, smoke, &mut subjects);
        runtime::<Smol>(criterion, smoke, &mut subjects);
    }
    crate::primitives::all(criterion);
    crate::structure::all(criterion);
    subjects
}

/// Measures `body`, which is told how often to do it and runs in a task of a runtime that stands
/// already: the future that a runtime is started with is a task like others in some, but not in all.
pub fn measure<R: Runtime, F>(criterion: &mut Criterion, id: &str, body: impl Fn(u64) -> F)
where
    F: Future<Output = ()> + 'static,
{
    criterion.bench_function(&format!("{id}/{}", R::NAME), |bencher| {
        bencher.iter_custom(|count| {
            let body = body(count);
            R::block_on(async {
                let used = Rc::new(Cell::new(Duration::ZERO));
                let result = used.clone();
                R::spawn(async move {
                    let start = cpu();
                    body.await;
                    result.set(cpu() - start);
                })
                .await;
                used.get()
            })
        });
    });
}

fn runtime<R: Runtime>(criterion: &mut Criterion, smoke: bool, subjects: &mut Subjects) {
    subjects.runtimes.push(R::NAME);
    measure::<R, _>(criterion, "spawn-join", async |count| {
        for _ in 0..count {
            R::spawn(async {}).await;
        }
    });
    measure::<R, _>(criterion, "spawn-join-1000", async |count| {
        let mut tasks = Vec::with_capacity(MANY as usize);
        for _ in 0..count {
            tasks.extend((0..MANY).map(|_| R::spawn(async {})));
            for task in tasks.drain(..) {
                task.await;
            }
        }
    });
    measure::<R, _>(criterion, "yield-1", async |count| {
        for _ in 0..count {
            R::yield_now().await;
        }
    });
    measure::<R, _>(criterion, "yield-1000", async |count| {
        let tasks: Vec<_> = (0..MANY)
            .map(|_| {
                R::spawn(async move {
                    for _ in 0..count {
                        R::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
    measure::<R, _>(criterion, "wake", async |count| {
        let court = Rc::new(Court::default());
        let partner = R::spawn(play(court.clone(), 1, count));
        play(court, 0, count).await;
        partner.await;
    });
    measure::<R, _>(criterion, "timer", async |count| {
        for _ in 0..count {
            let mut sleep = pin!(R::sleep(Duration::from_secs(60)));
            poll_fn(|context| {
                assert!(sleep.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
    });
    measure::<R, _>(criterion, "timeout", async |count| {
        for _ in 0..count {
            assert!(R::timeout(Duration::from_secs(60), async {}).await);
        }
    });
    measure::<R, _>(criterion, "timeout-pending", async |count| {
        for _ in 0..count {
            assert!(R::timeout(Duration::from_secs(60), R::yield_now()).await);
        }
    });
    thread_wake::<R>(criterion);
    subjects.lateness.push(timers_fire::<R>(criterion, smoke));
}

/// A ball that two tasks throw to each other.
#[derive(Default)]
struct Court {
    ball: Cell<usize>,
    wakers: [RefCell<Option<Waker>>; 2],
}

async fn play(court: Rc<Court>, me: usize, count: u64) {
    for _ in 0..count {
        poll_fn(|context| {
            if court.ball.get() == me {
                return Poll::Ready(());
            }
            let mut waker = court.wakers[me].borrow_mut();
            match &mut *waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
        court.ball.set(1 - me);
        if let Some(waker) = &*court.wakers[1 - me].borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The runtime asks another thread, sleeps, and is woken with the answer. Each has a core of its own:
/// on one core it would be a matter of luck whether anybody sleeps at all.
fn thread_wake<R: Runtime>(criterion: &mut Criterion) {
    criterion.bench_function(&format!("thread-wake/{}", R::NAME), |bencher| {
        bencher.iter_custom(|count| {
            let shared = Arc::new(Shared::default());
            let theirs = shared.clone();
            let thread = std::thread::spawn(move || {
                place_on(0);
                theirs.answer();
            });
            let handle = thread.thread().clone();
            let mine = shared.clone();
            let asks = std::thread::spawn(move || {
                place_on(1);
                R::block_on(async move { mine.ask(count, &handle).await })
            });
            let elapsed = asks.join().expect("nobody panics");
            shared.over.store(true, Ordering::Release);
            thread.thread().unpark();
            thread.join().expect("nobody panics");
            elapsed
        });
    });
}

/// Where that is not allowed, the kernel decides.
fn place_on(core: usize) {
    let _ = ringloop_benches::process::pin(core);
}

#[derive(Default)]
struct Shared {
    asked: AtomicU64,
    answered: AtomicU64,
    over: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Shared {
    /// The other thread: answers until it is over.
    fn answer(&self) {
        let mut answered = 0;
        while !self.over.load(Ordering::Acquire) {
            let asked = self.asked.load(Ordering::Acquire);
            if asked == answered {
                std::thread::park();
                continue;
            }
            answered = asked;
            self.answered.store(answered, Ordering::Release);
            let waker = self.waker.lock().expect("nobody panics").take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Asks so often; how long that took.
    async fn ask(&self, count: u64, thread: &Thread) -> Duration {
        let start = Instant::now();
        for number in 1..=count {
            let mut asked = false;
            poll_fn(|context| {
                if self.answered.load(Ordering::Acquire) == number {
                    return Poll::Ready(());
                }
                *self.waker.lock().expect("nobody panics") = Some(context.waker().clone());
                if !asked {
                    asked = true;
                    self.asked.store(number, Ordering::Release);
                    thread.unpark();
                } else if self.answered.load(Ordering::Acquire) == number {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
        }
        start.elapsed()
    }
}

/// Lets one task wait until something happened often enough. It does not yield in a loop meanwhile:
/// not every runtime lets others run then.
#[derive(Default)]
struct Count {
    reached: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Count {
    fn one_more(&self, wanted: u64) {
        self.reached.set(self.reached.get() + 1);
        if self.reached.get() == wanted
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    async fn reach(&self, wanted: u64) {
        poll_fn(|context| {
            if self.reached.get() == wanted {
                return Poll::Ready(());
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Timers that are due one after another; gives their mean lateness in microseconds.
fn timers_fire<R: Runtime>(criterion: &mut Criterion, smoke: bool) -> f64 {
    let late = Arc::new(AtomicU64::new(0));
    let fired = Arc::new(AtomicU64::new(0));
    let scale = if smoke { SMOKE } else { 1 };
    let timers = TIMERS / scale;
    let (lead, spread) = (LEAD / scale as u32, SPREAD / scale as u32);
    let mut group = criterion.benchmark_group("timers-fire");
    // Each sample is one iteration: it takes most of a second whatever it costs.
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(10_000 / scale));
    group.bench_function(R::NAME, |bencher| {
        bencher.iter_custom(|count| {
            let (late, fired) = (late.clone(), fired.clone());
            R::block_on(async move {
                let mut used = Duration::ZERO;
                for _ in 0..count {
                    let all_late = Rc::new(Cell::new(0));
                    let armed = Rc::new(Count::default());
                    let start = Instant::now();
                    let tasks: Vec<_> = (0..timers)
                        .map(|number| {
                            // Out of order, as timers of connections are.
                            let place = number * 61_681 % timers;
                            let due = lead + spread * place as u32 / timers as u32;
                            let (all_late, armed) = (all_late.clone(), armed.clone());
                            R::spawn(async move {
                                armed.one_more(timers);
                                R::sleep(due.saturating_sub(start.elapsed())).await;
                                let late = start.elapsed().saturating_sub(due);
                                all_late.set(all_late.get() + late.as_nanos() as u64);
                            })
                        })
                        .collect();
                    armed.reach(timers).await;
                    // Only what follows is measured.
                    let before = cpu();
                    for task in tasks {
                        task.await;
                    }
                    used += cpu() - before;
                    late.fetch_add(all_late.get(), Ordering::Relaxed);
                    fired.fetch_add(timers, Ordering::Relaxed);
                }
                used * scale as u32
            })
        });
    });
    group.finish();
    late.load(Ordering::Relaxed) as f64 / fired.load(Ordering::Relaxed).max(1) as f64 / 1000.0
}

/// Only ringloop has callbacks.
fn call_soon(criterion: &mut Criterion) {
    use ringloop::EventLoopExt;
    measure::<Ringloop, _>(criterion, "call-soon", async |count| {
        let event_loop = ringloop::get_running_loop();
        let mut left = count;
        while left > 0 {
            let batch = left.min(MANY);
            left -= batch;
            let ran = Rc::new(Count::default());
            for _ in 0..batch {
                let ran = ran.clone();
                event_loop
                    .call_soon(move || ran.one_more(batch))
                    .expect("the loop runs");
            }
            ran.reach(batch).await;
        }
    });
}
