//! What these tests share.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringloop::event_loop::Core;
use ringloop::task::{LocalTask, current};
use ringloop::{Cancelled, GroupError, Task, get_running_loop, sleep};

use crate::support::Watch;

pub const HOUR: Duration = Duration::from_secs(3600);

pub const SECOND: u64 = 1_000_000_000;

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Seconds of the loop's clock, which starts at one.
pub fn now() -> u64 {
    get_running_loop().time() / SECOND - 1
}

/// The running task.
pub fn me() -> LocalTask {
    current().expect("inside a task")
}

/// An error that says what it is.
pub fn error(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

/// The texts of what failed in a group, in order.
#[track_caller]
pub fn failures<T>(ended: Result<T, GroupError<io::Error>>) -> Vec<String> {
    match ended {
        Ok(_) => panic!("the group did not fail"),
        Err(GroupError::Cancelled(error)) => panic!("the group was cancelled: {error}"),
        Err(GroupError::Failed(group)) => group.into_iter().map(|one| one.to_string()).collect(),
    }
}

/// Whether a group ended by a cancellation, which is dropped.
pub fn was_cancelled<T, E>(ended: Result<T, GroupError<E>>) -> bool {
    matches!(ended, Err(GroupError::Cancelled(_)))
}

/// Sleeps for an hour and counts how often that was cancelled; ends with the cancellation.
pub async fn counted(count: Rc<Cell<u32>>) -> Result<(), Cancelled> {
    let slept = sleep(HOUR).await;
    if slept.is_err() {
        count.set(count.get() + 1);
    }
    slept
}

/// Both, polled in turn by one task: a join as a program could write it.
pub async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(two)) => Poll::Ready((one, two)),
            rest => {
                (first, second) = rest;
                Poll::Pending
            }
        }
    })
    .await
}

/// The iterations that awaiting it takes.
pub async fn ticks(core: &Rc<Core>, future: impl Future) -> u64 {
    let before = core.iterations();
    drop(future.await);
    core.iterations() - before
}

/// Turns the loop until the task has ended.
pub fn finish<T>(l: &Watch, task: &Task<T>) {
    for _ in 0..100 {
        if task.done() {
            return;
        }
        l.turn();
    }
    panic!("the task does not end");
}
