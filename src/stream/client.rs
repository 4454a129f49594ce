//! The task of one client: what the callback of a server returned, watched.
//!
//! ```text
//!   Running ──Ok──▶ done (a writer that is still held stays open)
//!      ├── Err, panic ──▶ reported, transport closed
//!      └── Cancelled, or dropped ──▶ transport closed, silently
//! ```

use super::protocol::StreamReaderProtocol;
use crate::event_loop::ExceptionContext;
use crate::task::{Cancelled, is_loop_exit};
use pin_project_lite::pin_project;
use std::error::Error;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What a client callback may end with: nothing, or a `Result` whose error is reported.
pub trait ClientOutcome {
    /// The error, if it is one.
    fn into_error(self) -> Option<Box<dyn Error>>;
}

impl ClientOutcome for () {
    fn into_error(self) -> Option<Box<dyn Error>> {
        None
    }
}

impl<E: Into<Box<dyn Error>>> ClientOutcome for Result<(), E> {
    fn into_error(self) -> Option<Box<dyn Error>> {
        self.err().map(Into::into)
    }
}

const MESSAGE: &str = "Unhandled exception in client_connected_cb";

pin_project! {
    /// See the module.
    pub(super) struct Client<F> {
        #[pin]
        future: F,
        closer: Closer,
    }
}

impl<F> Client<F> {
    pub(super) fn new(future: F, stream: Rc<StreamReaderProtocol>) -> Self {
        Self {
            future,
            closer: Closer(Some(stream)),
        }
    }
}

/// Closes the transport when it is dropped.
struct Closer(Option<Rc<StreamReaderProtocol>>);

impl Closer {
    fn close(&mut self, report: Option<ExceptionContext>) {
        let Some(stream) = self.0.take() else { return };
        let transport = stream.transport();
        if let Some(mut context) = report {
            context.transport = transport.clone();
            stream.origin.report(context);
        }
        if let Some(transport) = transport {
            transport.close();
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.close(None);
    }
}

impl<F: Future<Output: ClientOutcome>> Future for Client<F> {
    /// The error of a cancelled one: it carries the `Cancelled` by which the loop knows.
    type Output = Option<Box<dyn Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = catch_unwind(AssertUnwindSafe(|| this.future.poll(cx)));
        let (report, cancelled) = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => match outcome.into_error() {
                None => {
                    this.closer.0 = None;
                    return Poll::Ready(None);
                }
                Some(error) if Cancelled::in_error(&*error).is_some() => (None, Some(error)),
                Some(error) => (Some(ExceptionContext::error(MESSAGE, error)), None),
            },
            Err(payload) if is_loop_exit(&*payload) => resume_unwind(payload),
            Err(payload) => (Some(ExceptionContext::panic(MESSAGE, payload)), None),
        };
        this.closer.close(report);
        Poll::Ready(cancelled)
    }
}
