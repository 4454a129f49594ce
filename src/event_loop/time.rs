//! Waiting for time: `sleep`, `timeout`.

use super::abstract_event_loop::AbstractEventLoop;
use super::base::duration_ns;
use super::ext::EventLoopExt;
use super::handle::{Handle, TimerHandle};
use super::running::get_running_loop;
use crate::task::{Cancelled, Scope, Wait, WaitsFor, current};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Waits for a while. A zero duration gives way for exactly one iteration and needs no timer.
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
        wait: Wait::new(),
    }
}

/// Gives way for one iteration: `sleep(0)`.
///
/// # Errors
/// [`Cancelled`].
pub fn yield_now() -> Sleep {
    sleep(Duration::ZERO)
}

/// The future of [`sleep`].
pub struct Sleep {
    duration: Duration,
    state: SleepState,
    wait: Wait,
}

enum SleepState {
    New,
    Yielded,
    Waiting { timer: TimerHandle, waker: Waker },
    Done,
}

impl SleepState {
    /// A timer that wakes `waker` at `when`.
    fn until(event_loop: &dyn AbstractEventLoop, when: u64, waker: &Waker) -> Self {
        let wake = waker.clone();
        let timer = event_loop
            .call_at(when, move || wake.wake())
            .unwrap_or_else(|_| missing());
        let waker = waker.clone();
        Self::Waiting { timer, waker }
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.duration.is_zero() {
            return this.poll_yield(cx);
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
            SleepState::Waiting { timer, waker } if timer.is_waiting() => {
                if !waker.will_wake(cx.waker()) {
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
            SleepState::Yielded => unreachable!("only a sleep of no time yields"),
            SleepState::Done => over(),
        }
        if let Err(cancelled) = this.wait.suspend(cx, WaitsFor::Sleep) {
            this.end();
            return Poll::Ready(Err(cancelled));
        }
        Poll::Pending
    }
}

impl Sleep {
    /// A yield wakes itself and registers nothing; a request made meanwhile is kept for it.
    fn poll_yield(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        if matches!(self.state, SleepState::Done) {
            over();
        }
        let passed = self.wait.pass();
        if passed.is_ok() && matches!(self.state, SleepState::New) {
            self.state = SleepState::Yielded;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.state = SleepState::Done;
        Poll::Ready(passed)
    }

    fn end(&mut self) {
        if let SleepState::Waiting { timer, .. } =
            std::mem::replace(&mut self.state, SleepState::Done)
        {
            timer.discard();
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.end();
    }
}

/// A timeout expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutError;

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for TimeoutError {}

impl From<TimeoutError> for io::Error {
    fn from(error: TimeoutError) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}

/// Runs `body` for at most a while. asyncio: `timeout`.
///
/// When the time is over, the awaits inside `body`, and only those, end with [`Cancelled`]; the body
/// may clean up, with awaits, and its result is then dropped for the error if it carries that
/// cancellation. A body that caught it and went on gives its own value. A body that waits only at
/// futures of other crates is dropped. A body that never suspends does not time out; with a zero
/// duration its first suspension ends it. The time runs from the first poll on.
///
/// # Errors
/// [`TimeoutError`]. A cancellation of the task from outside stays what it is: it is in the body's
/// own value.
///
/// # Panics
/// Its first poll panics outside a running loop.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # ringloop::run(async {
/// let slow = ringloop::sleep(Duration::from_secs(3600));
/// let outcome = ringloop::timeout(Duration::from_millis(1), slow).await;
/// assert!(outcome.is_err());
/// # }).unwrap();
/// ```
pub fn timeout<F: Future>(duration: Duration, body: F) -> Timeout<F> {
    Timeout::new(Deadline::After(duration_ns(duration)), body)
}

/// As [`timeout`], until a time of the loop's clock in nanoseconds.
pub fn timeout_at<F: Future>(when: u64, body: F) -> Timeout<F> {
    Timeout::new(Deadline::At(when), body)
}

#[derive(Clone, Copy)]
enum Deadline {
    After(u64),
    At(u64),
}

impl Deadline {
    /// The time it means to a timeout that begins at `now`.
    fn from(self, now: u64) -> u64 {
        match self {
            Self::After(delay) => now.saturating_add(delay),
            Self::At(when) => when,
        }
    }
}

/// The alarm of a timeout.
enum Alarm {
    /// The deadline lay ahead when the body suspended.
    Timer(TimerHandle),
    /// The deadline was over when the timeout began.
    Soon(Handle),
}

impl Alarm {
    /// Whether it went off.
    fn rang(&self) -> bool {
        match self {
            Self::Timer(timer) => !timer.is_waiting(),
            Self::Soon(handle) => !handle.is_waiting(),
        }
    }

    fn cancel(self) {
        match self {
            Self::Timer(timer) => timer.discard(),
            Self::Soon(handle) => handle.cancel(),
        }
    }
}

pin_project! {
    /// The future of [`timeout`].
    ///
    /// ```text
    ///   New ──body suspends: alarm set──▶ Active ──alarm──▶ Expiring ──body ends──▶ Expired | Finished
    ///    └──────────── body ends ───────────┴──────────────────────────────────────▶ Finished
    /// ```
    pub struct Timeout<F> {
        deadline: Deadline,
        // The deadline on the loop's clock, from the first poll on.
        when: u64,
        scope: Option<Scope>,
        alarm: Option<Alarm>,
        // How often the task had been asked to stop when the timeout began.
        cancelling: u32,
        #[pin]
        body: Option<F>,
    }
    impl<F> PinnedDrop for Timeout<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(alarm) = this.project().alarm.take() {
                alarm.cancel();
            }
        }
    }
}

impl<F> Timeout<F> {
    fn new(deadline: Deadline, body: F) -> Self {
        Self {
            deadline,
            when: 0,
            scope: None,
            alarm: None,
            cancelling: 0,
            body: Some(body),
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimeoutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.scope.is_none() {
            *this.cancelling = current().map_or(0, |task| task.cancelling());
            let scope = this.scope.insert(Scope::open());
            let event_loop = get_running_loop();
            let now = event_loop.time();
            *this.when = this.deadline.from(now);
            if *this.when <= now {
                // Before anything that the body queues: it ends at its first suspension.
                let handle = event_loop.call_soon(ring(scope));
                *this.alarm = Some(Alarm::Soon(handle.unwrap_or_else(|_| missing())));
            }
        }
        let Some(scope) = this.scope else {
            unreachable!("opened above")
        };
        let mut polled = Poll::Pending;
        if !scope.must_drop() {
            let body = this.body.as_mut().as_pin_mut();
            let body = body.expect("a timeout was polled after it ended");
            let _inside = scope.enter(cx);
            polled = body.poll(cx);
        }
        let outcome = match polled {
            Poll::Ready(value) => {
                let expired = this.alarm.as_ref().is_some_and(Alarm::rang)
                    && scope.cancelled_inside()
                    && current().map_or(0, |task| task.cancelling()) <= *this.cancelling;
                if expired {
                    Err(TimeoutError)
                } else {
                    Ok(value)
                }
            }
            Poll::Pending if scope.must_drop() => Err(TimeoutError),
            Poll::Pending => {
                if this.alarm.is_none() {
                    let timer = get_running_loop().call_at(*this.when, ring(scope));
                    *this.alarm = Some(Alarm::Timer(timer.unwrap_or_else(|_| missing())));
                }
                return Poll::Pending;
            }
        };
        this.body.set(None);
        if let Some(alarm) = this.alarm.take() {
            alarm.cancel();
        }
        *this.scope = None;
        Poll::Ready(outcome)
    }
}

#[cold]
fn over() -> ! {
    panic!("a sleep was polled after it ended")
}

#[cold]
fn missing() -> ! {
    panic!("a running loop takes callbacks")
}

/// Cancels the scope.
fn ring(scope: &Scope) -> impl FnOnce() + use<> {
    let canceller = scope.canceller();
    move || canceller.cancel(None)
}
