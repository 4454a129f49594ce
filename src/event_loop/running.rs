//! The loop that runs in this thread.

use super::abstract_event_loop::AbstractEventLoop;
use super::error::LoopError;
use std::cell::RefCell;
use std::rc::Rc;

struct Slot {
    event_loop: Rc<dyn AbstractEventLoop>,
    /// In a forked child the slot counts as empty.
    process: u32,
}

thread_local! {
    static RUNNING: RefCell<Option<Slot>> = const { RefCell::new(None) };
}

/// The loop that runs in this thread, or an error. asyncio: `get_running_loop`.
///
/// # Errors
/// [`LoopError::NoRunningLoop`].
pub fn try_get_running_loop() -> Result<Rc<dyn AbstractEventLoop>, LoopError> {
    RUNNING
        .try_with(|slot| slot.borrow().as_ref().map(|slot| slot.event_loop.clone()))
        .ok()
        .flatten()
        .ok_or(LoopError::NoRunningLoop)
}

/// The loop that runs in this thread: the outermost one, where loops wrap each other. asyncio:
/// `get_running_loop`.
///
/// # Panics
/// Outside a running loop; see [`try_get_running_loop`].
///
/// # Examples
/// ```
/// # ringloop::run(async {
/// let started = ringloop::get_running_loop().time();
/// assert!(started > 0);
/// # }).unwrap();
/// ```
#[track_caller]
pub fn get_running_loop() -> Rc<dyn AbstractEventLoop> {
    try_get_running_loop().unwrap_or_else(|error| panic!("{error}"))
}

/// Publishes a loop as the running one, until dropped.
pub(super) struct Running(());

impl Running {
    /// # Errors
    /// [`LoopError::AnotherRunning`]; the running loop stays the running one.
    pub(super) fn publish(event_loop: Rc<dyn AbstractEventLoop>) -> Result<Self, LoopError> {
        let process = std::process::id();
        RUNNING.with(|slot| {
            let mut slot = slot.borrow_mut();
            if slot.as_ref().is_some_and(|slot| slot.process == process) {
                return Err(LoopError::AnotherRunning);
            }
            *slot = Some(Slot {
                event_loop,
                process,
            });
            Ok(Self(()))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Dropped outside the borrow: the last reference to a loop closes it.
        let slot = RUNNING.try_with(|slot| slot.borrow_mut().take());
        drop(slot);
    }
}
