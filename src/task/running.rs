//! Which loop runs on this thread; and tasks of it that are made without asking it.
//!
//! **Guarantees.** The pointer is null or points to a [`Tasks`] that an [`Entered`] guard keeps
//! alive; a forgotten guard leaks its loop, so that holds then too. The thread-local has no
//! destructor and can be read while the thread ends.

use super::handle::Task;
use super::id::LoopId;
use super::tasks::Tasks;
use crate::sys::fork;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::ptr::null;
use std::rc::Rc;
use std::sync::Once;

thread_local! {
    static RUNNING: Cell<*const Tasks> = const { Cell::new(null()) };
}

/// In a forked child no loop runs and no task is current.
extern "C" fn forget() {
    with(|tasks| {
        if let Some(tasks) = tasks {
            tasks.shared.current.forget();
        }
    });
    RUNNING.set(null());
}

/// The loop that runs on this thread. The reference must not leave the function that asks:
/// the guard may go as soon as other code runs on this thread.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(Option<&Tasks>) -> R) -> R {
    let tasks = RUNNING.get();
    // SAFETY: null or alive, see the module. A guard dropped inside `f` may be the last owner of
    // nothing: whoever calls its methods during a run holds an `Rc` too (the loop that runs).
    f(unsafe { tasks.as_ref() })
}

/// Whether it is this one that runs on this thread.
#[inline]
pub(super) fn is(tasks: &Rc<Tasks>) -> bool {
    std::ptr::eq(RUNNING.get(), Rc::as_ptr(tasks))
}

/// The loop that runs on this thread, owned.
#[inline]
pub(super) fn owned() -> Option<Rc<Tasks>> {
    let tasks = RUNNING.get();
    (!tasks.is_null()).then(|| {
        // SAFETY: alive, see the module, and made by `Rc::as_ptr`.
        unsafe {
            Rc::increment_strong_count(tasks);
            Rc::from_raw(tasks)
        }
    })
}

/// Makes a task of the loop that runs on this thread, if it lets tasks be made without asking it; else
/// gives the future back.
#[inline]
pub(crate) fn create_task_directly<F: Future + 'static>(future: F) -> Result<Task<F::Output>, F> {
    match with(|tasks| tasks.is_some_and(Tasks::is_direct))
        .then(owned)
        .flatten()
    {
        Some(tasks) => Ok(tasks.create_plainly(future)),
        None => Err(future),
    }
}

/// The loop that runs on this thread.
/// asyncio: the identity of what `_get_running_loop()` returns.
pub fn running_loop_id() -> Option<LoopId> {
    with(|tasks| tasks.map(Tasks::loop_id))
}

/// While it lives, the loop's tasks run on this thread; see [`Tasks::enter`].
pub struct Entered {
    tasks: Rc<Tasks>,
}

impl Entered {
    pub(super) fn new(tasks: &Rc<Tasks>) -> Result<Self, AlreadyRunning> {
        if let Some(id) = running_loop_id() {
            return Err(AlreadyRunning(id));
        }
        static FORGETS: Once = Once::new();
        fork::in_child(&FORGETS, forget);
        RUNNING.set(Rc::as_ptr(tasks));
        Ok(Self {
            tasks: tasks.clone(),
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        RUNNING.set(null());
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entered")
            .field(&self.tasks.loop_id())
            .finish()
    }
}

/// A loop, which it names, already runs on this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyRunning(pub LoopId);

impl fmt::Display for AlreadyRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cannot run the event loop while another loop is running")
    }
}

impl std::error::Error for AlreadyRunning {}
