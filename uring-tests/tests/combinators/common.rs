//! What these tests share.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use ringloop::{Cancelled, GroupError, Task, TaskGroup, sleep};
use uring_tests::tasks::{HOUR, seconds};
use uring_tests::watch::Watch;

/// An error that says what it is.
pub fn error(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

pub type Group = TaskGroup<io::Error>;

/// Makes a child that sleeps, and then fails.
pub fn fail_after(group: &Group, secs: u64, what: &'static str) {
    let child = async move {
        sleep(seconds(secs)).await?;
        Err::<(), _>(error(what))
    };
    group.create_task(child).unwrap();
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
