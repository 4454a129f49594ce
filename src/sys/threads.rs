//! A small pool of threads for calls that block: files, name resolution, `run_in_executor`.
//!
//! **Guarantees.** At most `limit` threads; none before the first job; each is named; one that had
//! nothing to do for a while ends. Jobs start in the order they were submitted. A job that panics
//! ends alone. Any thread may submit. After [`Threads::shut_down`] nothing more is taken; what was
//! taken runs. In a forked child, which has none of the threads, every job is refused and nothing
//! is waited for.
//!
//! ```text
//!            submit                    a thread is free
//!   job ───────────────▶ queue ───────────────────────▶ runs ──▶ thread waits ──▶ (idle for long) ends
//!          │    └── no idle thread, below the limit: one more thread
//!          └── shut down, or no thread can be had: refused, given back
//! ```

use super::fork::Origin;
#[cfg(loom)]
use loom::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, Builder, JoinHandle},
};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
#[cfg(not(loom))]
use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, Builder, JoinHandle},
};

/// What a thread runs.
pub type Job = Box<dyn FnOnce() + Send>;

/// How long a thread without work stays, unless chosen otherwise.
pub const KEEP_IDLE: Duration = Duration::from_secs(10);

/// The default limit: as Python's `ThreadPoolExecutor`, four more than there are processors, at
/// most 32.
pub fn default_limit() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors + 4).min(32)
}

/// A job that was not taken.
pub struct Refused {
    /// The job, unrun.
    pub job: Job,
    /// Why: the pool is shut down, or the parent process's (kind `Other`), or the system gives no thread (`EAGAIN`: a limit
    /// of threads or memory).
    pub cause: io::Error,
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refused").field(&self.cause).finish()
    }
}

/// The pool; see the module. Clones are the same pool; dropping the last one shuts it down without
/// waiting.
#[derive(Clone)]
pub struct Threads {
    handle: Arc<Handle>,
}

/// What the users of the pool share; threads hold only [`Shared`].
struct Handle {
    shared: Arc<Shared>,
    /// Of the threads; a forked child must not even lock, for one of them may hold the lock for ever.
    origin: Origin,
}

struct Shared {
    name: String,
    limit: usize,
    keep: Duration,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// By number; a thread that ends by itself takes its own away.
    threads: Vec<(u64, JoinHandle<()>)>,
    started: u64,
    idle: usize,
    panics: u64,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs while the lock is held, so a poisoned state is a sound one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads")
            .field("name", &self.handle.shared.name)
            .field("limit", &self.handle.shared.limit)
            .field("live", &self.live())
            .finish()
    }
}

impl Threads {
    /// A pool of at most `limit` threads (at least one) called `name-0`, `name-1` …, which end after
    /// `keep` without work. Starts none yet.
    pub fn new(name: &str, limit: usize, keep: Duration) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            limit: limit.max(1),
            keep,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
        });
        Self {
            handle: Arc::new(Handle {
                shared,
                origin: Origin::here(),
            }),
        }
    }

    /// Queues a job, and starts a thread for it when none is idle and the limit allows.
    ///
    /// # Errors
    /// The job itself, when the pool is shut down, or has no thread and can get none.
    pub fn submit(&self, job: Job) -> Result<(), Refused> {
        let shared = &self.handle.shared;
        if !self.handle.origin.is_here() {
            let cause = io::Error::other("the thread pool belongs to the parent process");
            return Err(Refused { job, cause });
        }
        let mut state = shared.lock();
        if state.closed {
            let cause = io::Error::other("the thread pool is shut down");
            return Err(Refused { job, cause });
        }
        state.jobs.push_back(job);
        // An idle thread that was woken but did not run yet still counts as idle, and its job as
        // queued.
        if state.jobs.len() > state.idle && state.threads.len() < shared.limit {
            if let Err(cause) = start(shared, &mut state)
                && state.threads.is_empty()
                && let Some(job) = state.jobs.pop_back()
            {
                return Err(Refused { job, cause });
            }
        } else {
            shared.work.notify_one();
        }
        Ok(())
    }

    /// Takes no more jobs; threads end when the queue is empty. With `wait`, returns when they have
    /// ended (a thread of the pool that calls this does not wait for itself; those of an earlier call
    /// without waiting are not waited for).
    pub fn shut_down(&self, wait: bool) {
        let closing = self.close();
        if wait {
            closing.join();
        }
    }

    /// Takes no more jobs; threads end when the queue is empty, and can be waited for elsewhere.
    pub fn close(&self) -> Closing {
        Closing(self.handle.close())
    }

    /// Whether it takes no more jobs.
    pub fn is_closed(&self) -> bool {
        !self.handle.origin.is_here() || self.handle.shared.lock().closed
    }

    /// Threads that exist now.
    pub fn live(&self) -> usize {
        self.handle.shared.lock().threads.len()
    }

    /// Jobs that wait for a thread.
    pub fn queued(&self) -> usize {
        self.handle.shared.lock().jobs.len()
    }

    /// Jobs that ended in a panic.
    pub fn panics(&self) -> u64 {
        self.handle.shared.lock().panics
    }
}

/// The threads of a pool that takes no more jobs.
pub struct Closing(Vec<(u64, JoinHandle<()>)>);

impl Closing {
    /// Whether there is no thread to wait for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns when the threads have ended; a thread of the pool does not wait for itself.
    pub fn join(self) {
        let own = thread::current().id();
        for (_, thread) in self.0 {
            if thread.thread().id() != own {
                // The thread catches what jobs throw, so it does not fail.
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closing").field(&self.0.len()).finish()
    }
}

impl Handle {
    fn close(&self) -> Vec<(u64, JoinHandle<()>)> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.work.notify_all();
        std::mem::take(&mut state.threads)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.close());
    }
}

fn start(shared: &Arc<Shared>, state: &mut State) -> io::Result<()> {
    let number = state.started;
    let for_thread = shared.clone();
    let thread = Builder::new()
        .name(format!("{}-{number}", shared.name))
        .spawn(move || run(&for_thread, number))?;
    state.started += 1;
    state.threads.push((number, thread));
    Ok(())
}

/// The life of a thread.
fn run(shared: &Shared, number: u64) {
    while let Some(job) = next(shared, number) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
            shared.lock().panics += 1;
            // A payload may panic when it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        }
    }
}

/// The next job, or `None`, with the thread taken off the list: it is to end.
fn next(shared: &Shared, number: u64) -> Option<Job> {
    let mut state = shared.lock();
    let mut end = None;
    loop {
        if let Some(job) = state.jobs.pop_front() {
            return Some(job);
        }
        let now = Instant::now();
        let end = *end.get_or_insert(now + shared.keep);
        if state.closed || now >= end {
            state.threads.retain(|(other, _)| *other != number);
            return None;
        }
        state.idle += 1;
        let (guard, _) = shared
            .work
            .wait_timeout(state, end - now)
            .unwrap_or_else(PoisonError::into_inner);
        state = guard;
        state.idle -= 1;
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// Said once, heard by who waits.
    #[derive(Clone, Default)]
    struct Said(Arc<(Mutex<bool>, Condvar)>);

    impl Said {
        fn say(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_all();
        }

        fn hear(&self) {
            let mut said = self.0.0.lock().unwrap();
            while !*said {
                said = self.0.1.wait(said).unwrap();
            }
        }
    }

    /// A job that nobody runs, and a thread that does not end, is a deadlock, which loom reports.
    fn check(model: impl Fn(Threads) + Send + Sync + 'static, limit: usize, keep: Duration) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(move || {
            let threads = Threads::new("model", limit, keep);
            model(threads.clone());
            threads.shut_down(true);
            assert_eq!(threads.live(), 0);
        });
    }

    fn submit(threads: &Threads, job: impl FnOnce() + Send + 'static) {
        assert!(threads.submit(Box::new(job)).is_ok());
    }

    /// Two jobs in turn, for one thread at a time.
    fn in_turn(threads: Threads) {
        for _ in 0..2 {
            let done = Said::default();
            let says = done.clone();
            submit(&threads, move || says.say());
            done.hear();
        }
    }

    #[test]
    fn loom_an_idle_thread_hears_of_a_job_and_of_the_end() {
        check(in_turn, 1, KEEP_IDLE);
    }

    /// The model checker knows no time: a thread waits for ever, or, here, not at all.
    #[test]
    fn loom_a_thread_that_ends_leaves_no_job_behind() {
        check(in_turn, 1, Duration::ZERO);
    }

    /// One thread may be idle, or woken and not running yet, when two jobs come of which the first
    /// waits for the second.
    #[test]
    fn loom_jobs_run_at_once_up_to_the_limit() {
        check(
            |threads| {
                submit(&threads, || {});
                let (first, second) = (Said::default(), Said::default());
                let (says, hears) = (first.clone(), second.clone());
                submit(&threads, move || {
                    hears.hear();
                    says.say();
                });
                submit(&threads, move || second.say());
                first.hear();
            },
            2,
            KEEP_IDLE,
        );
    }

    #[test]
    fn loom_what_was_taken_before_the_end_runs() {
        check(
            |threads| {
                let done = Said::default();
                let (says, closes) = (done.clone(), threads.clone());
                let submits = thread::spawn(move || {
                    let job: Job = Box::new(move || says.say());
                    closes.submit(job).is_ok()
                });
                threads.shut_down(false);
                if submits.join().unwrap() {
                    done.hear();
                }
            },
            1,
            KEEP_IDLE,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc::channel;

    fn pool(limit: usize) -> Threads {
        Threads::new("pool-test", limit, KEEP_IDLE)
    }

    #[test]
    fn threads_start_lazily_and_one_suffices_for_jobs_in_turn() {
        let threads = pool(4);
        assert_eq!(threads.live(), 0);
        let (send, receive) = channel();
        for _ in 0..10 {
            let send = send.clone();
            let job = move || {
                let name = std::thread::current().name().map(str::to_owned);
                send.send(name).unwrap();
            };
            threads.submit(Box::new(job)).unwrap();
            let name = receive.recv().unwrap().unwrap();
            assert!(name.starts_with("pool-test-"), "{name}");
        }
        assert!((1..=4).contains(&threads.live()));
        threads.shut_down(true);
        assert_eq!(threads.live(), 0);
    }

    #[test]
    fn the_limit_holds_and_all_threads_work_at_once() {
        let threads = pool(3);
        let all_here = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let all_here = all_here.clone();
            let job = move || {
                all_here.wait();
                all_here.wait();
            };
            threads.submit(Box::new(job)).unwrap();
        }
        all_here.wait();
        let (send, receive) = channel();
        for number in 0..20 {
            let send = send.clone();
            let job = move || send.send(number).unwrap();
            threads.submit(Box::new(job)).unwrap();
        }
        assert_eq!(threads.live(), 3);
        assert_eq!(threads.queued(), 20);
        all_here.wait();
        let mut seen: Vec<i32> = receive.iter().take(20).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_shut_down_pool_refuses_but_runs_what_it_took() {
        let threads = pool(1);
        let started = Arc::new(Barrier::new(2));
        let (send, receive) = channel();
        let go = started.clone();
        let job = move || {
            go.wait();
        };
        threads.submit(Box::new(job)).unwrap();
        for number in 0..5 {
            let send = send.clone();
            let job = move || send.send(number).unwrap();
            threads.submit(Box::new(job)).unwrap();
        }
        threads.shut_down(false);
        let refused = threads.submit(Box::new(|| {})).unwrap_err();
        assert_eq!(refused.cause.kind(), io::ErrorKind::Other);
        started.wait();
        assert!(receive.iter().take(5).eq(0..5));
    }

    #[test]
    fn shut_down_with_waiting_returns_after_the_last_job() {
        let threads = pool(2);
        let done = Arc::new(Mutex::new(0));
        for _ in 0..8 {
            let done = done.clone();
            threads
                .submit(Box::new(move || *done.lock().unwrap() += 1))
                .unwrap();
        }
        threads.shut_down(true);
        assert_eq!(*done.lock().unwrap(), 8);
        // A second time, and from a clone: nothing left to wait for.
        threads.clone().shut_down(true);
    }

    #[test]
    fn a_panic_ends_its_job_alone() {
        let threads = pool(1);
        let (send, receive) = channel();
        threads
            .submit(Box::new(|| std::panic::resume_unwind(Box::new("job"))))
            .unwrap();
        threads
            .submit(Box::new(move || send.send(()).unwrap()))
            .unwrap();
        receive.recv().unwrap();
        assert_eq!(threads.panics(), 1);
        assert_eq!(threads.live(), 1);
    }

    #[test]
    fn idle_threads_end_and_new_ones_start() {
        let threads = Threads::new("idle-test", 2, Duration::ZERO);
        for _ in 0..3 {
            let (send, receive) = channel::<()>();
            threads.submit(Box::new(move || drop(send))).unwrap();
            assert!(receive.recv().is_err());
            while threads.live() > 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_thread_of_the_pool_may_shut_it_down() {
        let threads = pool(1);
        let (send, receive) = channel();
        let inner = threads.clone();
        let job = move || {
            inner.shut_down(true);
            send.send(()).unwrap();
        };
        threads.submit(Box::new(job)).unwrap();
        receive.recv().unwrap();
    }
}
