//! The places of an iteration at which something can happen.
//!
//! An iteration runs what was carried over, then what the driver brought, then due timers. What is
//! done at once comes before all of that, a callback queued now before what the driver brings, a
//! timer that is due behind it, and before the tasks which that wakes. So everything that races with
//! a completion can be put on either side of each step of its way.

use ringloop::{AbstractEventLoop, EventLoopExt, sleep};
use std::rc::Rc;
use std::time::Duration;

use crate::Rng;
use crate::lab::Lab;

/// Does it at a place that `rng` chooses.
///
/// # Panics
/// When the loop is closed.
pub fn at_some_moment(
    event_loop: &Rc<dyn AbstractEventLoop>,
    rng: &mut Rng,
    act: impl FnOnce() + 'static,
) {
    match rng.below(5) {
        0 => act(),
        1 => drop(event_loop.call_soon(act).expect("the loop is open")),
        // The kernel is asked, and this comes behind its answer.
        2 | 3 => drop(event_loop.call_at(0, act).expect("the loop is open")),
        _ => {
            let inner = event_loop.clone();
            let twice = move || drop(inner.call_soon(act).expect("the loop is open"));
            drop(event_loop.call_at(0, twice).expect("the loop is open"));
        }
    }
}

impl Lab {
    /// Lets something pass, or nothing: up to three iterations, or those around a question to the
    /// kernel.
    ///
    /// # Panics
    /// When the test is cancelled.
    pub async fn pass(&self, rng: &mut Rng) {
        match rng.below(5) {
            0 => {}
            1 | 2 => self.turns(1 + rng.below(3)).await,
            3 => sleep(Duration::from_nanos(1)).await.expect("not cancelled"),
            _ => self.settle().await,
        }
    }
}
