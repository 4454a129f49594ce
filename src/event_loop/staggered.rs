//! Attempts that begin one after the other and then run side by side. asyncio: `staggered_race`.
//!
//! ```text
//!   attempt 1  ├────────────────────────…
//!   attempt 2  │ delay ├───x failed
//!   attempt 3              ├──────✓ won: the others are dropped
//! ```
//!
//! An attempt begins when the one before it failed, or runs for longer than the delay. The first
//! success wins. There is always an attempt that waits, so cancelling the race cancels attempts.

use super::abstract_event_loop::AbstractEventLoop;
use super::error::LoopError;
use super::ext::EventLoopExt;
use super::handle::TimerHandle;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What an attempt gives: success, or a failure after which others go on, or an error (such as a
/// cancellation) that ends the race.
pub(super) type Attempt<T, E> = io::Result<Result<T, E>>;

/// Races the attempts; failures are listed in the order of the attempts.
pub(super) fn race<T, E, F: Future<Output = Attempt<T, E>>>(
    event_loop: Weak<dyn AbstractEventLoop>,
    delay: Duration,
    attempts: Vec<F>,
) -> impl Future<Output = Attempt<T, Vec<E>>> {
    let mut waiting: Vec<Pin<Box<F>>> = attempts.into_iter().map(Box::pin).collect();
    waiting.reverse();
    let failures = waiting.iter().map(|_| None).collect();
    Race {
        event_loop,
        delay,
        waiting,
        running: Vec::new(),
        failures,
        timer: None,
    }
}

struct Race<F, E> {
    event_loop: Weak<dyn AbstractEventLoop>,
    delay: Duration,
    /// Those that did not begin; the next one is the last.
    waiting: Vec<Pin<Box<F>>>,
    /// Those that began; `None` after their end.
    running: Vec<Option<Pin<Box<F>>>>,
    failures: Vec<Option<E>>,
    timer: Option<Timer>,
}

struct Timer {
    handle: TimerHandle,
    shared: Rc<Fired>,
}

#[derive(Default)]
struct Fired {
    fired: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.handle.cancel();
    }
}

impl<F, E> Race<F, E> {
    /// Lets the next attempt begin, and sets the timer for the one after it.
    fn begin_next(&mut self) -> io::Result<bool> {
        self.timer = None;
        let Some(next) = self.waiting.pop() else {
            return Ok(false);
        };
        self.running.push(Some(next));
        if !self.waiting.is_empty() {
            let event_loop = self.event_loop.upgrade().ok_or(LoopError::Closed)?;
            let shared = Rc::new(Fired::default());
            let fire = shared.clone();
            let handle = event_loop.call_later(self.delay, move || {
                fire.fired.set(true);
                if let Some(waker) = fire.waker.take() {
                    waker.wake();
                }
            })?;
            self.timer = Some(Timer { handle, shared });
        }
        Ok(true)
    }

    /// Whether the delay is over; else the timer wakes this waker.
    fn is_due(&self, waker: &Waker) -> bool {
        self.timer.as_ref().is_some_and(|timer| {
            timer.shared.waker.set(Some(waker.clone()));
            timer.shared.fired.get()
        })
    }
}

// The pinned attempts are boxed.
impl<F, E> Unpin for Race<F, E> {}

impl<T, E, F: Future<Output = Attempt<T, E>>> Future for Race<F, E> {
    type Output = Attempt<T, Vec<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut at = 0;
        loop {
            while at < this.running.len() {
                let slot = &mut this.running[at];
                if let Some(attempt) = slot
                    && let Poll::Ready(outcome) = attempt.as_mut().poll(cx)
                {
                    *slot = None;
                    match outcome? {
                        Ok(won) => return Poll::Ready(Ok(Ok(won))),
                        Err(failure) => this.failures[at] = Some(failure),
                    }
                }
                at += 1;
            }
            // The latest attempt decides when the next one begins.
            let latest_failed = this.running.last().is_none_or(Option::is_none);
            if !latest_failed && !this.is_due(cx.waker()) {
                return Poll::Pending;
            }
            if !this.begin_next()? {
                if this.running.iter().any(Option::is_some) {
                    return Poll::Pending;
                }
                let failures = this.failures.drain(..).flatten().collect();
                return Poll::Ready(Ok(Err(failures)));
            }
        }
    }
}
