//! Tasks of a loop, begun, awaited and cancelled by other threads. asyncio:
//! `run_coroutine_threadsafe`.
//!
//! ```text
//!   another thread                     the loop's thread
//!   ──────────────                     ─────────────────
//!   run_coroutine_threadsafe ──call──▶ task made, and its warden
//!   result() / await  ◀─────value───── warden: the task ended
//!   cancel() ──────────wakes─────────▶ warden: cancels the task
//! ```
//!
//! **Guarantees.** Whatever becomes of loop and task, the future is ended: nobody waits for ever.

use super::abstract_event_loop::AbstractEventLoop;
use super::concurrent::{ConcurrentFuture, Failure, Promise};
use super::error::LoopError;
use super::exception::ExceptionContext;
use super::ext::EventLoopExt;
use super::loop_handle::LoopHandle;
use super::running::get_running_loop;
use crate::task::{FutureBody, JoinError, Task, TaskOptions, panic_message};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Has a loop run a coroutine in a task of its own, from any thread; the future gives its output.
/// asyncio: `run_coroutine_threadsafe`.
///
/// The function that makes the coroutine is called on the loop's thread, so the coroutine itself need
/// not be `Send`. It sees the context variables of the calling thread.
///
/// Cancelling the future cancels the task; the future is cancelled at once, also when the task catches
/// its cancellation and goes on. A task that is cancelled otherwise, or destroyed because the loop
/// closes, leaves the future cancelled. Dropping the future cancels nothing.
///
/// # Errors
/// [`LoopError::Closed`].
///
/// # Examples
/// ```
/// use ringloop::{get_running_loop, run_coroutine_threadsafe, to_thread};
///
/// let answer = ringloop::run(async {
///     let event_loop = get_running_loop().handle().unwrap();
///     let job = move || {
///         let coroutine = || async {
///             ringloop::yield_now().await.unwrap();
///             6 * 7
///         };
///         let future = run_coroutine_threadsafe(coroutine, &event_loop).unwrap();
///         future.result().unwrap()
///     };
///     to_thread(job).await.unwrap()
/// });
/// assert_eq!(answer.unwrap(), 42);
/// ```
pub fn run_coroutine_threadsafe<C, F>(
    coroutine: C,
    event_loop: &LoopHandle,
) -> Result<ConcurrentFuture<F::Output>, LoopError>
where
    C: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let future = ConcurrentFuture::of(Some(event_loop.loop_id()));
    let promise = Promise(future.clone());
    event_loop.call_soon_threadsafe(move || begin(coroutine, promise))?;
    Ok(future)
}

/// On the loop's thread. What can not begin is told to both sides.
fn begin<F>(coroutine: impl FnOnce() -> F, promise: Promise<F::Output>)
where
    F: Future + 'static,
    F::Output: Send + 'static,
{
    if promise.0.cancelled() {
        return;
    }
    let event_loop = get_running_loop();
    let task = match catch_unwind(AssertUnwindSafe(|| event_loop.create_task(coroutine()))) {
        Ok(Ok(task)) => task,
        Ok(Err(error)) => {
            // Refused when it was cancelled meanwhile.
            let _ = promise.0.set_exception(error);
            let message = "Exception in run_coroutine_threadsafe";
            return event_loop.call_exception_handler(ExceptionContext::error(message, error));
        }
        Err(payload) => {
            let _ = promise.0.set_exception(panic_message(&*payload).to_owned());
            resume_unwind(payload);
        }
    };
    let warden = Warden {
        task,
        promise,
        key: None,
        asked: false,
    };
    // Where it is refused, the promise goes with it.
    let _ = make_helper(&*event_loop, "run_coroutine_threadsafe", warden);
}

/// Makes a task of the loop's own, of which the program's task factory hears nothing.
pub(super) fn make_helper(
    event_loop: &dyn AbstractEventLoop,
    name: &'static str,
    body: impl Future<Output = ()> + 'static,
) -> Result<(), LoopError> {
    let options = TaskOptions::named(name).quiet(true);
    let mut body = FutureBody::new(body);
    let made = match event_loop.new_task_dyn(&mut body, options.clone()) {
        // A loop without factories may have one way only.
        Err(LoopError::NotImplemented(_)) => event_loop.create_task_dyn(&mut body, options),
        made => made,
    };
    made.map(drop)
}

/// Stands between a task and its future; ends with the task.
struct Warden<T> {
    task: Task<T>,
    promise: Promise<T>,
    /// Its place among those who wait for the future.
    key: Option<u64>,
    /// The future was cancelled, and the task asked to stop.
    asked: bool,
}

impl<T> Future for Warden<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let future = &this.promise.0;
        if let Poll::Ready(ended) = Pin::new(&mut this.task).poll(cx) {
            let outcome = match ended {
                Ok(value) => Ok(value),
                Err(JoinError::Panicked(payload)) => Err(Failure::Panicked(payload)),
                Err(JoinError::Cancelled(cancelled)) => {
                    future.cancel_running(cancelled.message().map(Into::into));
                    return Poll::Ready(());
                }
            };
            // Refused when the future was cancelled.
            let _ = future.finish(outcome);
            return Poll::Ready(());
        }
        // Nothing but a cancel ends it before the task does.
        if !this.asked && !future.register(&mut this.key, cx) {
            this.asked = true;
            this.task.cancel();
        }
        Poll::Pending
    }
}
