//! Timeouts: a body and the time after which it is cancelled.
//!
//! **Guarantees.** An expiry cancels the awaits inside the body and nothing else. The alarm (a
//! timer, or for a past deadline a callback) exists only while the body is suspended or the
//! deadline was over from the start; it is gone when the timeout has ended, or was dropped.
//!
//! ```text
//!   created ──first poll──▶ active ──alarm──▶ expiring ──body ends──▶ expired
//!                              └───────────── body ends ────────────▶ finished
//! ```
//!
//! A deadline may be moved while it is active: from inside the body, or from elsewhere.

use super::base::duration_ns;
use super::ext::EventLoopExt;
use super::handle::{Handle, TimerHandle};
use super::running::get_running_loop;
use super::time::missing;
use crate::task::{Bell, Scope, current_cancelling, current_task};
use pin_project_lite::pin_project;
use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

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

/// A [`Deadline`] can not be moved in its state. asyncio: `RuntimeError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutStateError {
    /// [`Deadline::run`] was not polled yet.
    NotEntered,
    /// The time is over and the body was cancelled; it is cleaning up.
    Expiring,
    /// It expired.
    Expired,
    /// The body ended in time.
    Finished,
}

impl fmt::Display for TimeoutStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEntered => "Timeout has not been entered",
            Self::Expiring => "Cannot change state of expiring Timeout",
            Self::Expired => "Cannot change state of expired Timeout",
            Self::Finished => "Cannot change state of finished Timeout",
        })
    }
}

impl std::error::Error for TimeoutStateError {}

impl From<TimeoutStateError> for io::Error {
    fn from(error: TimeoutStateError) -> Self {
        Self::other(error)
    }
}

/// Runs `body` for at most a while. asyncio: `timeout`.
///
/// When the time is over, the awaits inside `body`, and only those, end with
/// [`Cancelled`](crate::Cancelled); the body may clean up, with awaits, and its result is then
/// dropped for the error if it carries that cancellation. A body that caught it and went on gives
/// its own value. A body that waits only at futures of other crates is dropped. A body that never
/// suspends does not time out; with a zero duration its first suspension ends it. The time runs
/// from the first poll on. To move the deadline meanwhile, use [`Deadline`].
///
/// # Errors
/// [`TimeoutError`]. A cancellation of the task from outside stays what it is: it is in the body's
/// own value.
///
/// # Panics
/// Its first poll panics outside a task.
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
    Timeout::new(Deadline::new(When::After(duration_ns(duration))), body)
}

/// As [`timeout`], until a time of the loop's clock in nanoseconds. asyncio: `timeout_at`.
///
/// # Errors
/// As [`timeout`].
///
/// # Panics
/// As [`timeout`].
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # ringloop::run(async {
/// let soon = ringloop::get_running_loop().time() + 1_000_000;
/// let slow = ringloop::sleep(Duration::from_secs(3600));
/// assert!(ringloop::timeout_at(soon, slow).await.is_err());
/// # }).unwrap();
/// ```
pub fn timeout_at<F: Future>(when: u64, body: F) -> Timeout<F> {
    Timeout::new(Deadline::new(When::At(when)), body)
}

#[derive(Clone, Copy)]
enum When {
    Never,
    At(u64),
    /// From the first poll.
    After(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Active,
    Expired,
    Finished,
}

/// The alarm of a timeout.
enum Alarm {
    /// The deadline lay ahead when it was set.
    Timer(TimerHandle),
    /// It was over.
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

/// What an alarm does: it cancels the scope. Inside `.bare()`, and in tasks of other kinds, it wakes who
/// polls the timeout, and that drops the body.
fn bell_of(scope: &Scope, cx: &Context<'_>) -> Bell {
    if scope.is_inert() {
        Bell::wake(cx.waker())
    } else {
        Bell::cancel(scope.canceller())
    }
}

/// A time until which a body may run, and which can be moved while it runs. asyncio: `Timeout`, the
/// object that `timeout()` gives to `async with`.
///
/// # Examples
/// ```
/// use ringloop::{Deadline, get_running_loop, sleep};
/// use std::time::Duration;
///
/// # ringloop::run(async {
/// let deadline = Deadline::after(Duration::from_millis(1));
/// let outcome = deadline.run(async {
///     // There is progress: more time.
///     let later = get_running_loop().time() + 3_600_000_000_000;
///     deadline.reschedule(Some(later)).unwrap();
///     sleep(Duration::from_millis(5)).await
/// });
/// outcome.await.expect("in time").unwrap();
/// assert!(!deadline.expired());
/// # }).unwrap();
/// ```
pub struct Deadline {
    when: Cell<When>,
    state: Cell<State>,
    /// The body is being polled, so the alarm is set when it suspends.
    polling: Cell<bool>,
    alarm: RefCell<Option<Alarm>>,
    /// Set once the body was suspended.
    bell: RefCell<Option<Bell>>,
}

impl Deadline {
    const fn new(when: When) -> Self {
        Self {
            when: Cell::new(when),
            state: Cell::new(State::Created),
            polling: Cell::new(false),
            alarm: RefCell::new(None),
            bell: RefCell::new(None),
        }
    }

    /// A while from now.
    ///
    /// # Panics
    /// Outside a running loop.
    #[track_caller]
    pub fn after(duration: Duration) -> Self {
        let now = get_running_loop().time();
        Self::at(now.saturating_add(duration_ns(duration)))
    }

    /// A time of the loop's clock, in nanoseconds. asyncio: `timeout_at`.
    pub const fn at(when: u64) -> Self {
        Self::new(When::At(when))
    }

    /// No time, until [`reschedule`](Self::reschedule) sets one. asyncio: `timeout(None)`.
    pub const fn never() -> Self {
        Self::new(When::Never)
    }

    /// Runs `body` until then, as [`timeout`] does. asyncio: `async with`.
    ///
    /// # Errors
    /// As [`timeout`].
    ///
    /// # Panics
    /// The first poll panics outside a task, and when the deadline has run a body before.
    pub fn run<F: Future>(&self, body: F) -> Timeout<F, &Self> {
        Timeout::new(self, body)
    }

    /// When it expires, on the loop's clock; `None` for never.
    pub fn when(&self) -> Option<u64> {
        match self.when.get() {
            When::At(when) => Some(when),
            When::Never | When::After(_) => None,
        }
    }

    /// Whether the time was over while the body ran: from the moment on in which the body is
    /// cancelled. Stays true however the body then ends.
    pub fn expired(&self) -> bool {
        self.state.get() == State::Expired || self.rang()
    }

    /// Moves the deadline of an active timeout; `None` is never. One that is over already cancels
    /// the body in the next iteration.
    ///
    /// # Errors
    /// [`TimeoutStateError`] when the body does not run, or was cancelled.
    ///
    /// # Panics
    /// When the loop does not run.
    pub fn reschedule(&self, when: Option<u64>) -> Result<(), TimeoutStateError> {
        match self.state.get() {
            State::Created => return Err(TimeoutStateError::NotEntered),
            State::Expired => return Err(TimeoutStateError::Expired),
            State::Finished => return Err(TimeoutStateError::Finished),
            State::Active if self.rang() => return Err(TimeoutStateError::Expiring),
            State::Active => {}
        }
        self.when.set(when.map_or(When::Never, When::At));
        self.silence();
        if !self.polling.get() {
            self.arm();
        }
        Ok(())
    }

    fn rang(&self) -> bool {
        self.alarm.borrow().as_ref().is_some_and(Alarm::rang)
    }

    /// Takes the alarm away.
    fn silence(&self) {
        let alarm = self.alarm.take();
        if let Some(alarm) = alarm {
            alarm.cancel();
        }
    }

    /// The first poll. The deadline is absolute from now on.
    fn enter(&self, scope: &Scope, cx: &Context<'_>) {
        assert!(
            self.state.get() == State::Created,
            "Timeout has already been entered"
        );
        assert!(
            !scope.is_inert() || matches!(current_task(None), Ok(Some(_))),
            "Timeout should be used inside a task"
        );
        self.state.set(State::Active);
        let when = self.when.get();
        if matches!(when, When::Never) {
            return;
        }
        let event_loop = get_running_loop();
        let now = event_loop.time();
        if let When::After(delay) = when {
            self.when.set(When::At(now.saturating_add(delay)));
        }
        if self.when().is_some_and(|when| when <= now) {
            // Before anything that the body queues: it ends at its first suspension.
            let bell = bell_of(scope, cx);
            self.set_bell(bell.clone());
            let handle = event_loop.call_soon(move || bell.ring());
            self.set_alarm(Alarm::Soon(handle.unwrap_or_else(|_| missing())));
        }
    }

    /// The body is suspended.
    fn suspended(&self, scope: &Scope, cx: &Context<'_>) {
        let new_waker = match &*self.bell.borrow() {
            None => true,
            Some(old) => !old.cancels() && !old.wakes(cx.waker()),
        };
        if new_waker {
            self.set_bell(bell_of(scope, cx));
            if !self.rang() {
                self.silence();
            }
        }
        if self.alarm.borrow().is_none() {
            self.arm();
        }
    }

    fn set_bell(&self, bell: Bell) {
        let old = self.bell.replace(Some(bell));
        drop(old);
    }

    /// Sets the alarm of a body that is suspended. One that is due already rings in the next
    /// iteration.
    fn arm(&self) {
        if let Some(when) = self.when()
            && let Some(bell) = self.bell.borrow().clone()
        {
            let timer = get_running_loop().ring_at(when, &bell);
            self.set_alarm(Alarm::Timer(timer.unwrap_or_else(|_| missing())));
        }
    }

    fn set_alarm(&self, alarm: Alarm) {
        let old = self.alarm.replace(Some(alarm));
        drop(old);
    }

    /// The body has ended, or the timeout was dropped.
    #[inline]
    fn leave(&self) {
        if self.state.get() != State::Active {
            return;
        }
        if self.alarm.borrow().is_none() && self.bell.borrow().is_none() {
            self.state.set(State::Finished);
        } else {
            self.leave_alarmed();
        }
    }

    fn leave_alarmed(&self) {
        let expired = self.rang();
        self.silence();
        self.state.set(if expired {
            State::Expired
        } else {
            State::Finished
        });
        let bell = self.bell.take();
        drop(bell);
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.get() {
            State::Created => "created",
            State::Active if self.rang() => "expiring",
            State::Active => "active",
            State::Expired => "expired",
            State::Finished => "finished",
        };
        write!(f, "<Timeout [{state}]")?;
        if self.state.get() == State::Active {
            match self.when() {
                Some(when) => write!(f, " when={when}ns")?,
                None => f.write_str(" when=None")?,
            }
        }
        f.write_str(">")
    }
}

pin_project! {
    /// The future of [`timeout`] and of [`Deadline::run`].
    pub struct Timeout<F, D = Deadline>
    where
        D: Borrow<Deadline>,
    {
        deadline: D,
        scope: Option<Scope>,
        // How often the task had been asked to stop when the timeout began.
        cancelling: u32,
        #[pin]
        body: Option<F>,
    }
    impl<F, D> PinnedDrop for Timeout<F, D>
    where
        D: Borrow<Deadline>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // One that was never polled has not begun.
            if this.scope.is_some() {
                (*this.deadline).borrow().leave();
            }
        }
    }
}

impl<F, D: Borrow<Deadline>> Timeout<F, D> {
    fn new(deadline: D, body: F) -> Self {
        Self {
            deadline,
            scope: None,
            cancelling: 0,
            body: Some(body),
        }
    }
}

impl<F, D: Borrow<Deadline>> fmt::Debug for Timeout<F, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deadline.borrow().fmt(f)
    }
}

/// The body is being polled; also when that panics.
struct Polling<'a>(&'a Cell<bool>);

impl<'a> Polling<'a> {
    fn begin(polling: &'a Cell<bool>) -> Self {
        polling.set(true);
        Self(polling)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<F: Future, D: Borrow<Deadline>> Future for Timeout<F, D> {
    type Output = Result<F::Output, TimeoutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let deadline: &Deadline = (*this.deadline).borrow();
        if this.scope.is_none() {
            assert!(this.body.is_some(), "a timeout was polled after it ended");
            let scope = Scope::open();
            deadline.enter(&scope, cx);
            *this.scope = Some(scope);
            *this.cancelling = current_cancelling().unwrap_or(0);
        }
        let Some(scope) = this.scope else {
            unreachable!("opened above")
        };
        let must_drop = |scope: &Scope| scope.must_drop() || (scope.is_inert() && deadline.rang());
        let mut polled = Poll::Pending;
        if !must_drop(scope) {
            let body = this.body.as_mut().as_pin_mut();
            let body = body.expect("a timeout was polled after it ended");
            let _polling = Polling::begin(&deadline.polling);
            let _inside = scope.enter(cx);
            polled = body.poll(cx);
        }
        let outcome = match polled {
            Poll::Ready(value) => {
                let expired = deadline.rang()
                    && scope.cancelled_inside()
                    && current_cancelling().unwrap_or(0) <= *this.cancelling;
                if expired {
                    Err(TimeoutError)
                } else {
                    Ok(value)
                }
            }
            Poll::Pending if must_drop(scope) => Err(TimeoutError),
            Poll::Pending => {
                deadline.suspended(scope, cx);
                return Poll::Pending;
            }
        };
        this.body.set(None);
        deadline.leave();
        *this.scope = None;
        Poll::Ready(outcome)
    }
}
