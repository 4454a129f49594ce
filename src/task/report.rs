//! What the floor tells its loop when nobody else can be told.

use super::registry::TaskRef;
use std::any::Any;
use std::fmt;
use std::panic::Location;

/// One report; asyncio: the dictionary given to the exception handler.
pub struct Report {
    /// What happened, in the words of asyncio's catalogue.
    pub message: &'static str,
    /// The task it is about.
    pub task: Option<TaskRef>,
    /// Where the task was made, if that is known: in debug mode.
    pub created: Option<&'static Location<'static>>,
    /// The payload of the panic, if it was one.
    pub payload: Option<Box<dyn Any + Send>>,
}

impl Report {
    pub(super) const NEVER_RETRIEVED: &'static str = "Task exception was never retrieved";
    pub(super) const DESTROYED: &'static str = "Task was destroyed but it is pending!";
    pub(super) const DROP_PANICKED: &'static str = "panic while dropping a task's body or result";
    pub(super) const ENTER: &'static str =
        "Cannot enter into a task while another task is being executed";
    pub(super) const LEAVE: &'static str = "a task's step left another task entered";

    /// A destructor panicked, and it is not known of which task.
    pub(super) fn dropping(payload: Box<dyn Any + Send>) -> Self {
        Self {
            message: Self::DROP_PANICKED,
            task: None,
            created: None,
            payload: Some(payload),
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("message", &self.message)
            .field("task", &self.task)
            .field("panic", &self.payload.as_deref().map(panic_message))
            .finish()
    }
}

/// The text of a panic's payload, if it has one.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else if payload.is::<super::LoopExit>() {
        "LoopExit"
    } else {
        "(a panic without text)"
    }
}
