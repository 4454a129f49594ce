//! Blocking jobs, off the loop, and the end of the threads that run them. asyncio: `run_in_executor`
//! with the default executor, `shutdown_default_executor`.

use super::abstract_event_loop::AbstractEventLoop;
use super::core::Core;
use super::exception::{ExceptionContext, panic_text};
use super::timeout::timeout;
use crate::sys::threads::Threads;
use crate::task::{Wait, WaitsFor};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// Where the job's thread leaves the value.
struct Slot<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Waiting(Option<Waker>),
    Done(thread::Result<T>),
}

impl<T> Slot<T> {
    fn put(&self, value: thread::Result<T>) {
        let old = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, State::Done(value))
        };
        if let State::Waiting(Some(waker)) = old {
            waker.wake();
        }
    }
}

/// The value of a job.
pub(super) struct Job<T> {
    slot: Option<io::Result<Arc<Slot<T>>>>,
    wait: Wait,
}

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
    let joining = Job::start(
        move || closing.join(),
        |job| {
            let thread = thread::Builder::new().name("ringloop-join".to_owned());
            thread.spawn(job).map(drop)
        },
    );
    let Some(limit) = limit else {
        return joining.await;
    };
    timeout(limit, joining).await.unwrap_or_else(|_| {
        core.report(ExceptionContext::new(format!(
            "The executor did not finish joining its threads within {} seconds.",
            limit.as_secs_f64(),
        )));
        Ok(())
    })
}

impl<T: Send + 'static> Job<T> {
    fn start(
        job: impl FnOnce() -> T + Send + 'static,
        start: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
    ) -> Self {
        let slot = Arc::new(Slot {
            state: Mutex::new(State::Waiting(None)),
        });
        let put = slot.clone();
        let started = start(Box::new(move || {
            put.put(catch_unwind(AssertUnwindSafe(job)));
        }));
        Self {
            slot: Some(started.map(|()| slot)),
            wait: Wait::new(),
        }
    }
}

impl<T> Future for Job<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.wait.check()?;
        let slot = match this.slot.take().expect("a job's value was taken twice") {
            Ok(slot) => slot,
            Err(error) => return Poll::Ready(Err(error)),
        };
        {
            let mut state = slot.state.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *state {
                State::Waiting(waker) => *waker = Some(cx.waker().clone()),
                State::Done(_) => {
                    let State::Done(value) = std::mem::replace(&mut *state, State::Waiting(None))
                    else {
                        unreachable!("matched above")
                    };
                    drop(state);
                    this.wait.finish();
                    return Poll::Ready(value.map_err(|payload| {
                        io::Error::other(format!("a job panicked: {}", panic_text(&*payload)))
                    }));
                }
            }
        }
        this.wait
            .suspend(cx, WaitsFor::Other("a job in another thread"))?;
        this.slot = Some(Ok(slot));
        Poll::Pending
    }
}
