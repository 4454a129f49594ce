//! Blocking jobs, off the loop, and the end of the threads that run them. asyncio: `run_in_executor`
//! with the default executor, `shutdown_default_executor`.

use super::abstract_event_loop::AbstractEventLoop;
use super::concurrent::{ConcurrentFuture, ConcurrentWait, Failure, Promise};
use super::core::Core;
use super::exception::ExceptionContext;
use super::running::get_running_loop;
use super::timeout::timeout;
use crate::sys::threads::Threads;
use crate::task::ContextSnapshot;
use std::future::{Future, IntoFuture};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

/// The value of a job; its error, when the job could not be started.
pub(super) struct Job<T>(Result<ConcurrentWait<T>, Option<io::Error>>);

/// Starts `job` at once and returns its value's future.
pub(super) fn run<T, F>(event_loop: &(impl AbstractEventLoop + ?Sized), job: F) -> Job<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    Job::start(job, |job| event_loop.run_in_executor_dyn(job))
}

/// Refuses further jobs at once, and waits until the threads have ended; no longer than `limit`, and
/// reports then.
pub(super) async fn shut_down(
    core: Rc<Core>,
    executor: Threads,
    limit: Option<Duration>,
) -> io::Result<()> {
    let closing = executor.close();
    if closing.is_empty() {
        return Ok(());
    }
    let mut joiner = None;
    let joining = Job::start(
        move || closing.join(),
        |job| {
            let thread = thread::Builder::new().name("ringloop-join".to_owned());
            joiner = Some(thread.spawn(job)?);
            Ok(())
        },
    );
    let joined = match limit {
        None => joining.await,
        Some(limit) => match timeout(limit, joining).await {
            Ok(joined) => joined,
            Err(_) => {
                core.report(ExceptionContext::new(format!(
                    "The executor did not finish joining its threads within {} seconds.",
                    limit.as_secs_f64(),
                )));
                return Ok(());
            }
        },
    };
    if joined.is_ok()
        && let Some(joiner) = joiner
    {
        // It is about to end; until then it holds the loop's waker, and with that a descriptor.
        let _ = joiner.join();
    }
    joined
}

impl<T: Send + 'static> Job<T> {
    fn start(
        job: impl FnOnce() -> T + Send + 'static,
        start: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
    ) -> Self {
        Self(match submit(job, start) {
            Ok(future) => Ok(future.into_future()),
            Err(error) => Err(Some(error)),
        })
    }
}

/// Has `start` run `job` somewhere, and says how that ends.
pub(super) fn submit<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
    start: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
) -> io::Result<ConcurrentFuture<T>> {
    let future = ConcurrentFuture::new();
    // Dropped by a pool that takes no more jobs, it leaves the future cancelled.
    let promise = Promise(future.clone());
    start(Box::new(move || {
        if promise.0.set_running_or_notify_cancel() {
            let outcome = catch_unwind(AssertUnwindSafe(job)).map_err(Failure::Panicked);
            let _ = promise.0.finish(outcome);
        }
    }))?;
    Ok(future)
}

impl<T> Future for Job<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(wait) => Pin::new(wait).poll(cx).map_err(io::Error::from),
            Err(error) => Poll::Ready(Err(error.take().expect("polled after its end"))),
        }
    }
}

/// Calls a function that may block in a thread of the running loop's executor, with the context
/// variables of the caller. It begins when this is awaited. asyncio: `to_thread`.
///
/// # Errors
/// As [`run_in_executor`](super::EventLoopExt::run_in_executor). Cancelled before the function has
/// begun, it is not called; later, it runs to its end, and its value is dropped.
///
/// # Panics
/// When no loop runs.
///
/// # Examples
/// ```
/// # ringloop::run(async {
/// let sum = ringloop::to_thread(|| (1..=4).sum::<u32>()).await.unwrap();
/// assert_eq!(sum, 10);
/// # }).unwrap();
/// ```
pub async fn to_thread<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let context = ContextSnapshot::new();
    let job = move || context.run(function);
    run(&*get_running_loop(), job).await
}
