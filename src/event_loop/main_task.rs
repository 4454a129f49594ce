//! The task whose end stops the loop that runs for it.
//!
//! ```text
//!   new ──▶ run: the loop runs until the task ends, or is stopped otherwise ──▶ result
//! ```
//!
//! **Guarantees.** The loop is stopped by the task's end only during [`MainTask::run`]: a task that
//! outlives a run that was stopped early, or left by a loop exit, does not stop a later one.

use super::abstract_event_loop::AbstractEventLoop;
use super::ext::{EventLoopExt, RunError};
use super::running::try_get_running_loop;
use crate::task::{Task, TaskOptions};
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;

/// Stops the running loop when it is dropped, while it is armed.
struct StopWhenDropped(Rc<Cell<bool>>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        if self.0.get()
            && let Ok(event_loop) = try_get_running_loop()
        {
            event_loop.stop();
        }
    }
}

/// See the module.
pub(crate) struct MainTask<T> {
    task: Task<T>,
    armed: Rc<Cell<bool>>,
}

impl<T: 'static> MainTask<T> {
    /// A task of `future`, not reported when it is destroyed while pending: who stopped the loop
    /// knows of it, as in asyncio.
    ///
    /// # Errors
    /// [`RunError::Loop`]: closed.
    pub(crate) fn new(
        event_loop: &(impl AbstractEventLoop + ?Sized),
        future: impl Future<Output = T> + 'static,
        options: TaskOptions,
    ) -> Result<Self, RunError<T>> {
        let armed = Rc::new(Cell::new(true));
        let stop = StopWhenDropped(armed.clone());
        // Dropped with the future, however that ends: done, cancelled, panicked.
        let body = async move {
            let _stop = stop;
            future.await
        };
        let task = event_loop
            .create_task_with(body, options.quiet(true))
            .map_err(|error| RunError::Loop(error.into()))?;
        Ok(Self { task, armed })
    }

    /// The task.
    pub(crate) fn task(&self) -> &Task<T> {
        &self.task
    }

    /// Calls `run`, which runs the loop.
    ///
    /// # Errors
    /// Those of `run`. The task is aborted then: no later run shall find a future that nobody waits
    /// for.
    pub(crate) fn run(&mut self, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        struct Disarm<'a>(&'a Cell<bool>);
        impl Drop for Disarm<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        let disarm = Disarm(&self.armed);
        let ran = run();
        drop(disarm);
        if ran.is_err() {
            self.task.abort();
        }
        ran
    }

    /// How the task ended.
    ///
    /// # Errors
    /// [`RunError::Task`]; [`RunError::Stopped`] when it is pending.
    pub(crate) fn result(mut self) -> Result<T, RunError<T>> {
        match self.task.result() {
            Some(result) => result.map_err(RunError::Task),
            None => Err(RunError::Stopped(self.task)),
        }
    }
}
