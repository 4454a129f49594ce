//! `Event`: something happened, for everyone who waits.

use super::leaf::{Bound, Leaf, Turn};
use super::waiters::Waiters;
use crate::task::Cancelled;
use std::cell::Cell;
use std::fmt;
use std::future::Future;

/// A flag that tasks wait for. asyncio: `Event`.
///
/// # Examples
/// ```
/// use ringloop::EventLoopExt;
/// use ringloop::sync::Event;
/// use std::rc::Rc;
///
/// # ringloop::run(async {
/// let ready = Rc::new(Event::new());
/// let setting = ready.clone();
/// let task = ringloop::get_running_loop().create_task(async move { setting.set() })?;
/// ready.wait().await?;
/// assert!(ready.is_set());
/// # task.await?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Event {
    set: Cell<bool>,
    waiters: Waiters,
    bound: Bound,
}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Self {
        Self {
            set: Cell::new(false),
            waiters: Waiters::new(),
            bound: Bound::new(),
        }
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Sets it and wakes everyone who waits now; they return even if it is cleared before they run.
    pub fn set(&self) {
        if !self.set.replace(true) {
            self.waiters.give_all();
        }
    }

    /// Clears it: who waits from now on waits for the next [`Event::set`].
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Waits until it is set; returns at once when it is.
    ///
    /// # Errors
    /// [`Cancelled`].
    ///
    /// # Panics
    /// When it has to wait and another loop runs than the first that waited for this event.
    pub fn wait(&self) -> impl Future<Output = Result<(), Cancelled>> {
        Leaf::new(EventTurn(self))
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .field("waiters", &self.waiters.waiting())
            .finish()
    }
}

struct EventTurn<'a>(&'a Event);

impl Turn for EventTurn<'_> {
    type Output = ();
    const NAME: &'static str = "Event";
    const WHAT: &'static str = "event";

    fn waiters(&self) -> &Waiters {
        &self.0.waiters
    }

    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    fn enter(&mut self) -> Option<()> {
        self.0.is_set().then_some(())
    }

    fn taken(&mut self, _: u32) -> Option<()> {
        Some(())
    }

    fn left(&mut self, _: bool) {}
}
