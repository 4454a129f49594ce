//! SIGINT while a main task runs.
//!
//! ```text
//!   SIGINT ─▶ handler: eventfd ─▶ the loop's poll ─▶ the main task is cancelled
//!   SIGINT once more ─▶ handler: default action, the process ends
//! ```
//!
//! **Guarantees.** Installed only in the main thread and only while SIGINT's action is the default
//! one; where that, or a descriptor for it, is not to be had, SIGINT keeps its meaning. Put back when
//! [`Interrupts`] goes, however the run ends. No SIGINT is lost: one that the main task did not hear
//! of takes its default action after the run.

use crate::driver::{Complete, Event, Fd, Key, Op, Target};
use crate::event_loop::{AbstractEventLoop, Core};
use crate::sys::signals::{self, Catch};
use crate::task::LocalTask;
use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;

/// See the module.
pub(super) struct Interrupts {
    core: Rc<Core>,
    poll: Key,
    cancel: Rc<CancelMain>,
    /// Taken by the drop.
    catch: Option<Catch>,
}

struct CancelMain {
    main: LocalTask,
    cancelled: Cell<bool>,
}

impl Complete for CancelMain {
    fn complete(self: Rc<Self>, event: Event) {
        // Below 0 the loop was closed, or the poll refused.
        if event.result >= 0 {
            self.cancelled.set(self.main.cancel());
        }
    }
}

impl Interrupts {
    /// Has SIGINT cancel `main`. `None`: SIGINT keeps its meaning.
    pub(super) fn watch(event_loop: &dyn AbstractEventLoop, main: LocalTask) -> Option<Self> {
        if !signals::is_main_thread() || !signals::is_default(libc::SIGINT).unwrap_or(false) {
            return None;
        }
        let core = event_loop.core()?.clone();
        let catch = Catch::new(libc::SIGINT, 2).ok()?;
        let fd = Fd::new(catch.as_fd().try_clone_to_owned().ok()?);
        let cancel = Rc::new(CancelMain {
            main,
            cancelled: Cell::new(false),
        });
        let events = libc::POLLIN as u32;
        let poll = core.submit(Op::Poll { fd, events }, Target::Callback(cancel.clone()));
        Some(Self {
            core,
            poll,
            cancel,
            catch: Some(catch),
        })
    }

    /// The run is over. Whether SIGINT cancelled the main task.
    pub(super) fn end(self) -> bool {
        self.cancel.cancelled.get()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.core.abandon(self.poll);
        let heard = u32::from(self.cancel.cancelled.get());
        let came = self.catch.take().map_or(0, Catch::end);
        if came > heard {
            signals::take_default(libc::SIGINT);
        }
    }
}
