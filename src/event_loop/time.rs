//! Waiting for time: `sleep`.

use super::abstract_event_loop::AbstractEventLoop;
use super::base::duration_ns;
use super::handle::TimerHandle;
use super::running::get_running_loop;
use crate::task::{Bell, Cancelled, Turn, Wait, WaitsFor};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Waits for a while, and never for less. A zero duration gives way for exactly one iteration and needs
/// no timer.
///
/// # Errors
/// [`Cancelled`]; the timer is cancelled then, as when the future is dropped.
///
/// # Panics
/// Its first poll panics outside a running loop.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # ringloop::run(async {
/// ringloop::sleep(Duration::from_millis(1)).await.unwrap();
/// # }).unwrap();
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        duration,
        state: SleepState::New,
        turn: YieldNow::new(),
        wait: Wait::new(),
    }
}

/// Gives way for one iteration, as `sleep(0)` does. asyncio: `sleep(0)`.
///
/// # Errors
/// [`Cancelled`].
#[inline]
pub fn yield_now() -> YieldNow {
    YieldNow::new()
}

/// The future of [`yield_now`]. It wakes itself and registers nothing; a request made meanwhile is
/// kept for it.
#[derive(Debug)]
pub struct YieldNow(Turn);

impl YieldNow {
    #[inline]
    const fn new() -> Self {
        Self(Turn::new())
    }
}

impl Future for YieldNow {
    type Output = Result<(), Cancelled>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

/// The future of [`sleep`].
pub struct Sleep {
    duration: Duration,
    state: SleepState,
    /// Of a sleep of no time.
    turn: YieldNow,
    wait: Wait,
}

enum SleepState {
    New,
    Waiting { timer: TimerHandle, bell: Bell },
    Done,
}

impl SleepState {
    /// A timer that wakes `waker` at `when`.
    #[inline]
    fn until(event_loop: &dyn AbstractEventLoop, when: u64, waker: &Waker) -> Self {
        let bell = Bell::wake(waker);
        let timer = event_loop.ring_at(when, &bell);
        Self::Waiting {
            timer: timer.unwrap_or_else(|_| missing()),
            bell,
        }
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.duration.is_zero() {
            return Pin::new(&mut this.turn).poll(cx);
        }
        if let Err(cancelled) = this.wait.check() {
            this.end();
            return Poll::Ready(Err(cancelled));
        }
        match &this.state {
            SleepState::New => {
                let event_loop = get_running_loop();
                let when = event_loop.time().saturating_add(duration_ns(this.duration));
                this.state = SleepState::until(&*event_loop, when, cx.waker());
            }
            SleepState::Waiting { timer, bell } if timer.is_waiting() => {
                if !bell.wakes(cx.waker()) {
                    // Polled elsewhere now: the timer shall wake that.
                    let when = timer.when();
                    this.end();
                    this.state = SleepState::until(&*get_running_loop(), when, cx.waker());
                }
            }
            SleepState::Waiting { .. } => {
                this.state = SleepState::Done;
                this.wait.finish();
                return Poll::Ready(Ok(()));
            }
            SleepState::Done => panic!("a sleep was polled after it ended"),
        }
        if let Err(cancelled) = this.wait.suspend(cx, WaitsFor::Sleep) {
            this.end();
            return Poll::Ready(Err(cancelled));
        }
        Poll::Pending
    }
}

impl Sleep {
    fn end(&mut self) {
        if let SleepState::Waiting { timer, .. } = &self.state {
            timer.discard();
            self.state = SleepState::Done;
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.end();
    }
}

#[cold]
pub(super) fn missing() -> ! {
    panic!("a running loop takes callbacks")
}
