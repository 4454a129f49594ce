//! The loop that runs in this thread.

use super::abstract_event_loop::AbstractEventLoop;
use super::error::LoopError;
use crate::sys::fork;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Once;

thread_local! {
    static RUNNING: RefCell<Option<Rc<dyn AbstractEventLoop>>> = const { RefCell::new(None) };
}

/// A forked child has no running loop; the parent's is left as it is, not even dropped.
extern "C" fn forget() {
    let _ = RUNNING.try_with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut() {
            std::mem::forget(slot.take());
        }
    });
}

/// The loop that runs in this thread, or an error. asyncio: `get_running_loop`.
///
/// # Errors
/// [`LoopError::NoRunningLoop`].
pub fn try_get_running_loop() -> Result<Rc<dyn AbstractEventLoop>, LoopError> {
    RUNNING
        .try_with(|slot| slot.borrow().clone())
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

/// A loop is published as the running one of this thread until this is dropped. For loops of your
/// own: a loop with a base has this done by it. asyncio: `_set_running_loop`.
#[derive(Debug)]
pub struct Running(());

impl Running {
    /// Makes a loop the one that [`get_running_loop`] answers.
    ///
    /// # Errors
    /// [`LoopError::AnotherRunning`]; the running loop stays the running one.
    pub fn publish(event_loop: Rc<dyn AbstractEventLoop>) -> Result<Self, LoopError> {
        static FORGETS: Once = Once::new();
        fork::in_child(&FORGETS, forget);
        RUNNING.with(|slot| {
            let mut slot = slot.borrow_mut();
            if slot.is_some() {
                return Err(LoopError::AnotherRunning);
            }
            *slot = Some(event_loop);
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
