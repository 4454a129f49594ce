//! The end of a program: every task is cancelled and waited for. asyncio: `_cancel_all_tasks`.
//!
//! **Guarantees.** What is waited for is what was cancelled. Tasks that those start meanwhile are left to
//! the close of the loop, else a supervisor that restarts its child would never end.

use super::core::Core;
use crate::task::{LocalTask, all_tasks};
use std::io;

impl Core {
    /// Cancels every task of the loop, and calls `run`, which runs the loop until those have ended; not
    /// when there are none. What they start meanwhile is not waited for.
    ///
    /// # Errors
    /// Those of `run`.
    pub(crate) fn cancel_all_tasks(&self, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        /// However the run ends.
        struct Forget<'a>(&'a Core);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.awaited.take();
            }
        }
        let tasks = all_tasks(Some(self.tasks.loop_id())).unwrap_or_default();
        let local = tasks.iter().filter_map(|task| self.tasks.local(task));
        let cancelled: Vec<_> = local.filter(LocalTask::cancel).collect();
        if cancelled.is_empty() {
            return Ok(());
        }
        self.awaited.replace(Some(cancelled));
        let _forget = Forget(self);
        run()
    }

    /// Whether the run ends with this iteration.
    #[inline]
    pub(super) fn is_to_stop(&self) -> bool {
        self.stopping.get() || self.awaited.borrow().is_some() && self.have_ended()
    }

    /// Whether all that is waited for has ended.
    fn have_ended(&self) -> bool {
        let mut awaited = self.awaited.borrow_mut();
        awaited.as_mut().is_some_and(|awaited| {
            while awaited.pop_if(|task| task.done()).is_some() {}
            awaited.is_empty()
        })
    }
}
