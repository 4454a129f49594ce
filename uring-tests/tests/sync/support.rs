//! A loop that is turned by hand.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use ringloop::{Builder, DriverKind, EventLoopExt, JoinError, Task};
use uring_tests::lab::Lab;

/// A loop; when it goes, nothing may be left in it.
pub struct Turned(Option<Lab>);

impl Turned {
    pub fn new(kind: DriverKind) -> Self {
        Self(Some(Lab::new(&Builder::new().driver(kind))))
    }

    pub fn lab(&self) -> &Lab {
        self.0.as_ref().expect("until it is dropped")
    }

    /// So many iterations, none of which waits.
    pub fn turns(&self, count: usize) {
        for _ in 0..count {
            self.lab().event_loop.stop();
            self.lab().event_loop.run_forever().expect("the loop runs");
        }
    }

    pub fn turn(&self) {
        self.turns(1);
    }

    pub fn spawn<F: Future + 'static>(&self, body: F) -> Task<F::Output> {
        let task = self.lab().event_loop.create_task(body);
        task.expect("the loop takes tasks")
    }

    pub fn run<F: Future + 'static>(&self, body: F) -> F::Output
    where
        F::Output: 'static,
    {
        self.lab().run(body)
    }
}

impl Drop for Turned {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.take().expect("dropped once").close();
        }
    }
}

/// What a task that ended gave.
#[track_caller]
pub fn ended<T>(task: &mut Task<T>) -> T {
    match task.result() {
        Some(Ok(value)) => value,
        Some(Err(error)) => panic!("{error}"),
        None => panic!("the task has not ended"),
    }
}

/// The task ended cancelled.
#[track_caller]
pub fn cancelled<T>(task: &mut Task<T>) {
    match task.result() {
        Some(Err(JoinError::Cancelled(_))) => {}
        Some(_) => panic!("not cancelled"),
        None => panic!("the task has not ended"),
    }
}

/// Polls once, outside any task.
pub fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
