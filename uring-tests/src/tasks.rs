//! What tests of tasks say in a word.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ringloop::event_loop::Core;
use ringloop::get_running_loop;
use ringloop::task::{LocalTask, LoopExit, current, panic_message};

/// Longer than any test.
pub const HOUR: Duration = Duration::from_secs(3600);

/// In nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// So many seconds.
pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Seconds of the running loop's clock, which starts at one (see [`Watch`](crate::watch::Watch)).
pub fn now() -> u64 {
    get_running_loop().time() / SECOND - 1
}

/// The task that runs now.
///
/// # Panics
/// Outside tasks.
pub fn me() -> LocalTask {
    current().expect("inside a task")
}

/// The iterations that awaiting it takes.
pub async fn ticks(core: &Rc<Core>, future: impl Future) -> u64 {
    let before = core.iterations();
    drop(future.await);
    core.iterations() - before
}

/// The value that left the run through `exit_loop`.
///
/// # Panics
/// When the run returned, or another panic left it.
pub fn exited<T: Any, R>(run: impl FnOnce() -> R) -> T {
    let Err(payload) = catch_unwind(AssertUnwindSafe(run)) else {
        panic!("the run returned");
    };
    let exit = payload.downcast::<LoopExit>().expect("a loop exit");
    *exit.0.downcast().expect("a value of this type")
}

/// The text of a panic that `f` ends with.
///
/// # Panics
/// When it returns.
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it returned"),
        Err(payload) => panic_message(&*payload).to_owned(),
    }
}
