//! A run of the base loop, from its set-up to its clean-up.
//!
//! ```text
//!   run_forever_setup ──▶ Run ──run_once──▶ … ──▶ drop: clean-up
//! ```
//!
//! **Guarantees.** The loop is the running one of its thread, and reports that it runs, exactly
//! while a [`Run`] lives; a panic that leaves an iteration ends it like any other drop. A stop
//! request ends with the run in which it was seen.

use super::abstract_event_loop::AbstractEventLoop;
use super::base::BaseEventLoop;
use super::error::LoopError;
use super::running::Running;
use crate::task::Entered;
use std::fmt;
use std::io;

/// A run that its holder drives, such as the loop of a user interface. asyncio (3.13):
/// `_run_forever_setup`, `_run_once`, `_run_forever_cleanup`.
///
/// Dropping it is the clean-up.
pub struct Run<'a> {
    base: &'a BaseEventLoop,
    _entered: Entered,
    _running: Running,
}

impl<'a> Run<'a> {
    pub(super) fn begin(base: &'a BaseEventLoop) -> Result<Self, LoopError> {
        base.core.check_closed()?;
        if base.is_running() {
            return Err(LoopError::AlreadyRunning);
        }
        let outer = base.outer.upgrade().ok_or(LoopError::Closed)?;
        let running = Running::publish(outer)?;
        let entered = base.core.tasks.enter();
        let entered = entered.map_err(|_| LoopError::AnotherRunning)?;
        base.thread.set(Some(std::thread::current().id()));
        base.update_direct();
        Ok(Self {
            base,
            _entered: entered,
            _running: running,
        })
    }

    /// One iteration. It waits for something to do, unless something is ready or a stop was
    /// requested.
    ///
    /// # Errors
    /// When the driver is broken for good.
    pub fn run_once(&self) -> io::Result<()> {
        self.base.core.run_once()
    }

    /// Whether [`stop`](AbstractEventLoop::stop) was called: `run_forever` would return now.
    pub fn is_over(&self) -> bool {
        self.base.core.is_to_stop()
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.base.thread.set(None);
        self.base.update_direct();
        self.base.core.stopping.set(false);
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("is_over", &self.is_over())
            .finish()
    }
}
