//! The ways in which a wait can be given up.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::Rng;
use crate::lab::Lab;
use crate::moments::at_some_moment;
use ringloop::{EventLoopExt, timeout};

/// How a wait is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its future is dropped, as `select!` does.
    Dropped,
    /// Its task is told to drop its body.
    Aborted,
    /// Its task is cancelled: the wait ends with an error.
    Cancelled,
    /// Its time is up.
    TimedOut,
}

/// Begins `wait`, lets `meanwhile` happen, and gives the wait up at some moment, if it has not ended
/// by then. Returns when it is over.
///
/// # Panics
/// When the loop is closed.
pub async fn give_up<F>(
    lab: &Lab,
    rng: &mut Rng,
    way: Way,
    wait: F,
    mut meanwhile: impl FnMut(&mut Rng),
) where
    F: Future<Output = ()> + 'static,
{
    let event_loop = lab.event_loop.clone();
    match way {
        Way::Dropped => {
            let mut wait: Pin<Box<F>> = Box::pin(wait);
            for _ in 0..rng.below(4) {
                if poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_ready())).await {
                    return;
                }
                meanwhile(rng);
                lab.pass(rng).await;
            }
            meanwhile(rng);
            at_some_moment(&event_loop, rng, move || drop(wait));
            // Wherever that was, it is behind us now.
            lab.settle().await;
        }
        Way::Aborted | Way::Cancelled => {
            let task = event_loop.create_task(wait).expect("the loop is open");
            for _ in 0..rng.below(3) {
                lab.pass(rng).await;
                meanwhile(rng);
            }
            let ended = task.local();
            at_some_moment(&event_loop, rng, move || {
                if way == Way::Aborted {
                    ended.abort();
                } else {
                    ended.cancel();
                }
            });
            meanwhile(rng);
            // Cancelled before its first step, or aborted, it ends with an error.
            let _ = task.await;
        }
        Way::TimedOut => {
            // Mostly up when the kernel is asked next, behind what it then brings.
            let time = if rng.chance(1, 3) { 30_000 } else { 1 };
            let time = Duration::from_nanos(time);
            let task = event_loop
                .create_task(async move {
                    // Whichever comes first.
                    let _ = timeout(time, wait).await;
                })
                .expect("the loop is open");
            meanwhile(rng);
            lab.pass(rng).await;
            meanwhile(rng);
            task.await.expect("the timeout ends it");
        }
    }
}
