//! Blocking jobs, off the loop. asyncio: `run_in_executor` with the default executor.

use super::abstract_event_loop::AbstractEventLoop;
use super::exception::panic_text;
use crate::task::{Wait, WaitsFor};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

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
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Waiting(None)),
    });
    let put = slot.clone();
    let started = event_loop.run_in_executor_dyn(Box::new(move || {
        put.put(catch_unwind(AssertUnwindSafe(job)))
    }));
    Job {
        slot: Some(started.map(|()| slot)),
        wait: Wait::new(),
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
