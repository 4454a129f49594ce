//! Attempts that begin one after the other and then run side by side, as tasks.
//! asyncio: `staggered_race`.
//!
//! ```text
//!   attempt 1  ├──────────────────────┤ cancelled, and waited for
//!   attempt 2  │ delay ├───x failed   │
//!   attempt 3              ├──────✓ won
//! ```
//!
//! Connecting has a race of its own, without tasks, on the floor below.

use super::children::collected;
use super::failure::Failure;
use crate::event_loop::{Sleep, create_task, sleep};
use crate::task::{Bare, Cancelled, Task, Wait, WaitsFor, bare};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What [`staggered_race`] found.
#[derive(Debug)]
pub struct Race<T, E> {
    /// The value of the attempt that won, and its number.
    pub winner: Option<(T, usize)>,
    /// How the attempts ended that began, in their order; `None` for the winner.
    pub exceptions: Vec<Option<Failure<E>>>,
}

/// Races attempts. The first begins at once; each further one when the attempt before it failed, or
/// has run for `delay` (`None`: only when it failed). The first success wins; the other attempts
/// are cancelled and waited for. asyncio: `staggered_race`.
///
/// Each attempt is a task of the running loop. Of several that succeed in one iteration the
/// earliest wins, and the others count as cancelled. When who awaits the race is cancelled, so are
/// the attempts, as often as that happens; the cancellation is returned when they have ended.
/// Dropping the race cancels them without waiting.
///
/// # Errors
/// [`Cancelled`].
///
/// # Panics
/// Outside a running loop.
///
/// # Examples
/// ```
/// use ringloop::{sleep, staggered_race};
/// use std::time::Duration;
///
/// # ringloop::run(async {
/// let attempts = ["bad", "slow", "good"].map(|name| {
///     move || async move {
///         match name {
///             "bad" => Err("refused"),
///             "slow" => sleep(Duration::from_secs(3600)).await.map_err(|_| "cancelled").map(|()| name),
///             _ => Ok(name),
///         }
///     }
/// });
/// let race = staggered_race(attempts, Some(Duration::from_millis(1))).await.unwrap();
/// assert_eq!(race.winner, Some(("good", 2)));
/// # }).unwrap();
/// ```
pub async fn staggered_race<T, E, A, F>(
    attempts: impl IntoIterator<Item = A>,
    delay: Option<Duration>,
) -> Result<Race<T, E>, Cancelled>
where
    A: FnOnce() -> F,
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    Racing {
        attempts: attempts.into_iter(),
        delay,
        timer: None,
        running: Vec::new(),
        winner: None,
        exceptions: Vec::new(),
        exhausted: false,
        cancelled: None,
        wait: Wait::new(),
    }
    .await
}

struct Racing<I, T, E> {
    attempts: I,
    delay: Option<Duration>,
    timer: Option<Bare<Sleep>>,
    /// Those that have not ended.
    running: Vec<(usize, Task<Result<T, E>>)>,
    winner: Option<(T, usize)>,
    exceptions: Vec<Option<Failure<E>>>,
    /// No further attempt begins.
    exhausted: bool,
    cancelled: Option<Cancelled>,
    wait: Wait,
}

// Nothing in it is pinned.
impl<I, T, E> Unpin for Racing<I, T, E> {}

impl<I, T, E> Racing<I, T, E> {
    /// The race is decided: no further attempt, and those that run are to stop.
    fn stop(&mut self) {
        self.exhausted = true;
        self.timer = None;
        for (_, task) in &self.running {
            task.cancel();
        }
    }

    fn request(&mut self, cancelled: Cancelled) {
        self.cancelled.get_or_insert(cancelled);
        self.stop();
    }

    fn ended(&mut self, at: usize, failure: Failure<E>) {
        self.exceptions[at] = Some(failure);
        // The latest attempt decides when the next one begins.
        if at + 1 == self.exceptions.len() {
            self.timer = None;
        }
    }

    /// Takes the results of the attempts that have ended. Whether the latest has failed.
    fn collect(&mut self) {
        let mut ended = Vec::new();
        self.running.retain_mut(|(at, task)| match task.result() {
            Some(result) => {
                ended.push((*at, result));
                false
            }
            None => true,
        });
        let decided = self.winner.is_some();
        for (at, result) in ended {
            match result {
                Ok(Ok(value)) if self.winner.is_none() => self.winner = Some((value, at)),
                Ok(Ok(_)) => self.ended(at, Failure::Cancelled(Cancelled::new().detached())),
                Ok(Err(error)) => self.ended(at, Failure::Error(error)),
                Err(error) => self.ended(at, collected(error)),
            }
        }
        if !decided && self.winner.is_some() {
            self.stop();
        }
    }

    /// Whether the latest attempt still runs.
    fn latest_runs(&self) -> bool {
        let latest = self.exceptions.len();
        self.running.last().is_some_and(|(at, _)| at + 1 == latest)
    }
}

impl<I, T, E, A, F> Future for Racing<I, T, E>
where
    I: Iterator<Item = A>,
    A: FnOnce() -> F,
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    type Output = Result<Race<T, E>, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Err(cancelled) = this.wait.check() {
            this.request(cancelled);
        }
        loop {
            this.collect();
            let due = this
                .timer
                .as_mut()
                .is_some_and(|timer| Pin::new(timer).poll(cx).is_ready());
            if this.exhausted || (!due && this.latest_runs()) {
                break;
            }
            this.timer = None;
            match this.attempts.next() {
                Some(attempt) => {
                    let at = this.exceptions.len();
                    this.exceptions.push(None);
                    this.running.push((at, create_task(attempt())));
                    this.timer = this.delay.map(|delay| bare(sleep(delay)));
                }
                None => this.exhausted = true,
            }
        }
        let mut pending = false;
        for (_, task) in &this.running {
            pending |= task.poll_done(cx).is_pending();
        }
        if !pending && !this.running.is_empty() {
            cx.waker().wake_by_ref();
        } else if !pending {
            this.wait.finish();
            return Poll::Ready(match this.cancelled.take() {
                Some(cancelled) => Err(cancelled),
                None => Ok(Race {
                    winner: this.winner.take(),
                    exceptions: std::mem::take(&mut this.exceptions),
                }),
            });
        }
        if let Err(cancelled) = this.wait.suspend(cx, WaitsFor::Other("race")) {
            this.request(cancelled);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<I, T, E> Drop for Racing<I, T, E> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<I, T, E> fmt::Debug for Racing<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Racing")
            .field("running", &self.running.len())
            .finish()
    }
}
