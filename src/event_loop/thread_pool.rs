//! Threads for jobs that may block, for a program's own use or as a loop's default executor.

use super::concurrent::ConcurrentFuture;
use super::executor::submit;
use crate::sys::threads::{self, Threads};
use std::io;

/// A pool of threads that are started when jobs come and end when none have come for 10 seconds. Jobs
/// start in the order in which they were submitted; one that panics ends alone. Clones are the same
/// pool; dropping the last one shuts it down without waiting. asyncio:
/// `concurrent.futures.ThreadPoolExecutor`.
///
/// # Examples
/// ```
/// use ringloop::event_loop::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::new(2, "hash");
/// # ringloop::run(async move {
/// // asyncio: `await loop.run_in_executor(executor, job)`
/// let sum = executor.submit(|| (1..=4).sum::<u32>()).unwrap().await.unwrap();
/// assert_eq!(sum, 10);
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ThreadPoolExecutor(pub(super) Threads);

impl ThreadPoolExecutor {
    /// A pool of at most `max_workers` threads (at least one), called `prefix-0`, `prefix-1` and so on.
    /// The default executor of a loop has four more than there are processors, at most 32, as Python's.
    pub fn new(max_workers: usize, prefix: &str) -> Self {
        Self(Threads::new(prefix, max_workers, threads::KEEP_IDLE))
    }

    /// Has a thread call `job`. The future may be awaited on any loop, waited for by any thread,
    /// and cancelled until the job has begun. asyncio: `submit`.
    ///
    /// # Errors
    /// Shut down, or the system gives no thread.
    pub fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<ConcurrentFuture<T>> {
        submit(job, |job| {
            self.0.submit(job).map_err(|refused| refused.cause)
        })
    }

    /// Takes no more jobs; those that were taken run. With `wait`, blocks until they have ended.
    /// asyncio: `shutdown`.
    pub fn shutdown(&self, wait: bool) {
        self.0.shut_down(wait);
    }

    /// Whether it takes no more jobs.
    pub fn is_shut_down(&self) -> bool {
        self.0.is_closed()
    }
}
