//! Reports: what went wrong where no caller could be told.
//!
//! Every report is an [`ExceptionContext`] given to the loop's exception handler (asyncio:
//! `call_exception_handler`). The default handler writes it to standard error.

use super::abstract_event_loop::AbstractEventLoop;
use crate::protocol::{Address, ProtocolKind, Transport};
use crate::task::{TaskRef, is_loop_exit};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::{Rc, Weak};

/// The error of a report.
pub enum Exception {
    /// A panic, with its payload.
    Panic(Box<dyn Any + Send>),
    /// An error value.
    Error(Box<dyn std::error::Error>),
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(payload) => f.write_str(panic_text(&**payload)),
            Self::Error(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(payload) => write!(f, "panic: {}", panic_text(&**payload)),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// The message of a panic, where it has one.
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a panic without a message)")
}

/// One report. Fields that do not apply are `None`.
#[derive(Default)]
#[non_exhaustive]
pub struct ExceptionContext {
    /// What happened.
    pub message: String,
    /// The panic or error.
    pub exception: Option<Exception>,
    /// The task it happened in.
    pub task: Option<TaskRef>,
    /// The future it is about, as text; in debug mode with the place where it was made.
    pub future: Option<String>,
    /// Where that task was made; in debug mode. asyncio: `source_traceback`.
    pub created: Option<&'static Location<'static>>,
    /// The callback it happened in: its name and, in debug mode, where it was scheduled.
    pub handle: Option<String>,
    /// The transport it happened on.
    pub transport: Option<Rc<dyn Transport>>,
    /// The protocol it happened in.
    pub protocol: Option<ProtocolKind>,
    /// The address of the listening socket it happened on.
    pub socket: Option<Address>,
    /// The report whose handler failed.
    pub context: Option<Box<Self>>,
}

impl ExceptionContext {
    /// A report that is only a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    /// A report of a panic.
    pub fn panic(message: impl Into<String>, payload: Box<dyn Any + Send>) -> Self {
        Self {
            exception: Some(Exception::Panic(payload)),
            ..Self::new(message)
        }
    }

    /// A report of an error.
    pub fn error(message: impl Into<String>, error: impl Into<Box<dyn std::error::Error>>) -> Self {
        Self {
            exception: Some(Exception::Error(error.into())),
            ..Self::new(message)
        }
    }
}

impl fmt::Display for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = if self.message.is_empty() {
            "Unhandled exception in event loop"
        } else {
            &self.message
        };
        f.write_str(message)?;
        if let Some(context) = &self.context {
            write!(f, "\n  context: {}", context.message)?;
        }
        if let Some(exception) = &self.exception {
            write!(f, "\n  exception: {exception:?}")?;
        }
        if let Some(future) = &self.future {
            write!(f, "\n  future: {future}")?;
        }
        if let Some(handle) = &self.handle {
            write!(f, "\n  handle: {handle}")?;
        }
        if let Some(task) = &self.task {
            write!(f, "\n  task: {task:?}")?;
        }
        if let Some(created) = &self.created {
            write!(f, "\n  created at: {created}")?;
        }
        if let Some(socket) = &self.socket {
            write!(f, "\n  socket: {socket}")?;
        }
        if let Some(peer) = self
            .transport
            .as_ref()
            .and_then(|t| t.get_extra_info("peername"))
        {
            write!(f, "\n  transport: {peer:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExceptionContext({self})")
    }
}

/// A handler; `None` in the loop means the default one.
pub type ExceptionHandler = Rc<dyn Fn(&ExceptionContext)>;

/// Holds the handler and calls it as the contract says.
#[derive(Default)]
pub(super) struct Reporter {
    /// Loop exits out of handlers wait, and the first of them.
    holding: Cell<bool>,
    held: RefCell<Option<Box<dyn Any + Send>>>,
    handler: RefCell<Option<ExceptionHandler>>,
    /// The loop the program sees, whose default handler counts.
    outer: RefCell<Option<Weak<dyn AbstractEventLoop>>>,
}

impl Reporter {
    pub(super) fn set(&self, handler: Option<ExceptionHandler>) {
        // Dropped without the borrow: its destructor may report.
        let old = self.handler.replace(handler);
        drop(old);
    }

    pub(super) fn get(&self) -> Option<ExceptionHandler> {
        self.handler.borrow().clone()
    }

    pub(super) fn belongs_to(&self, outer: Weak<dyn AbstractEventLoop>) {
        *self.outer.borrow_mut() = Some(outer);
    }

    /// Calls `f`. A [`LoopExit`](crate::task::LoopExit) out of a handler meanwhile goes on when `f`
    /// has ended; a panic of `f` itself, a driver's say, comes before it.
    pub(super) fn hold_exits(&self, f: impl FnOnce()) {
        self.holding.set(true);
        let ended = catch_unwind(AssertUnwindSafe(f));
        self.holding.set(false);
        let held = self.held.take();
        if let Some(payload) = ended.err().or(held) {
            resume_unwind(payload);
        }
    }

    /// Never panics, except to pass a [`LoopExit`](crate::task::LoopExit) on.
    pub(super) fn call(&self, context: ExceptionContext) {
        if !self.holding.get() {
            return self.tell(context);
        }
        if let Err(exit) = catch_unwind(AssertUnwindSafe(|| self.tell(context))) {
            let first = self.held.take().unwrap_or(exit);
            self.held.replace(Some(first));
        }
    }

    fn tell(&self, context: ExceptionContext) {
        let Some(handler) = self.get() else {
            return self.call_default(&context, "Exception in default exception handler");
        };
        if let Err(payload) = catch(|| handler(&context)) {
            let mut failed =
                ExceptionContext::panic("Unhandled error in exception handler", payload);
            failed.context = Some(Box::new(context));
            self.call_default(
                &failed,
                "Exception in default exception handler while handling an unexpected error in \
                 custom exception handler",
            );
        }
    }

    fn call_default(&self, context: &ExceptionContext, when_it_fails: &str) {
        let outer = self.outer.borrow().as_ref().and_then(Weak::upgrade);
        let called = catch(|| match outer {
            Some(outer) => outer.default_exception_handler(context),
            None => default_exception_handler(context),
        });
        if let Err(payload) = called {
            let text = panic_text(&*payload);
            let original = &context.context.as_deref().unwrap_or(context).message;
            write_error(format_args!(
                "{when_it_fails}\n  exception: panic: {text}\n  context: {original}"
            ));
        }
    }
}

/// Calls a handler; passes a loop exit on.
fn catch(handler: impl FnOnce()) -> std::thread::Result<()> {
    match catch_unwind(AssertUnwindSafe(handler)) {
        Err(payload) if is_loop_exit(&*payload) => resume_unwind(payload),
        called => called,
    }
}

fn write_error(text: fmt::Arguments<'_>) {
    use std::io::Write;
    // A closed standard error is nobody's business here.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes the report to standard error.
pub fn default_exception_handler(context: &ExceptionContext) {
    write_error(format_args!("{context}"));
}
