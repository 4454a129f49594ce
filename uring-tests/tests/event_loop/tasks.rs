//! Tasks that wait, and how they ended.

use ringloop::event_loop::{Future as LoopFuture, FutureError};
use ringloop::{Cancelled, EventLoopExt, JoinError, Task, sleep};

use uring_tests::tasks::HOUR;
use uring_tests::watch::Watch;
/// A task that waits for an hour and passes its cancellation on.
pub fn sleeper(l: &Watch) -> Task<Result<(), Cancelled>> {
    let task = l.create_task(sleep(HOUR)).unwrap();
    l.turn();
    task
}

/// A task that waits for a future, and the future.
pub fn waiter(l: &Watch) -> (Task<Result<i32, FutureError>>, LoopFuture<i32>) {
    let future = l.create_future();
    let task = l.create_task(future.wait()).unwrap();
    l.turn();
    (task, future)
}

/// The cancellation that a task ended with.
#[track_caller]
pub fn cancelled<T>(task: &mut Task<T>) -> Cancelled {
    assert!(task.cancelled());
    match task.result() {
        Some(Err(JoinError::Cancelled(cancelled))) => cancelled,
        Some(Err(JoinError::Panicked(_))) => panic!("it panicked"),
        Some(Ok(_)) => panic!("it returned"),
        None => panic!("it waits"),
    }
}

#[track_caller]
pub fn message<T>(task: &mut Task<T>) -> Option<String> {
    cancelled(task).message().map(str::to_owned)
}
