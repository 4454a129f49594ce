//! Tasks: what their creator gets, done callbacks, eager start, factories, reports.

mod branches;
mod clean_up;
mod done;
mod eager;
mod foreign;
mod rows;
mod small_loop;

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ringloop::task::{LocalTask, current, panic_message};
use uring_tests::lab::Lab;

/// The task that runs now.
fn me() -> LocalTask {
    current().expect("inside a task")
}

/// The text of a panic that `f` ends with.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it returned"),
        Err(payload) => panic_message(&*payload).to_owned(),
    }
}

/// The iterations that awaiting it takes.
async fn ticks(l: &Lab, future: impl Future) -> u64 {
    let before = l.core().iterations();
    drop(future.await);
    l.core().iterations() - before
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Order(Rc<RefCell<Vec<&'static str>>>);

impl Order {
    fn add(&self, what: &'static str) {
        self.0.borrow_mut().push(what);
    }

    /// What happened since the last call.
    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}
