//! The accept loop of one listener.
//!
//! One multishot accept; each completion becomes a transport in the iteration that reaps it. What
//! ends the accept early is judged by its errno:
//!
//! | errno | meaning | what happens |
//! |---|---|---|
//! | ECONNABORTED, EPROTO, ENETDOWN, … | that connection died before it was accepted | armed again at once |
//! | EMFILE, ENFILE | no descriptor is free; remedy: raise the limit, close connections | pause |
//! | ENOBUFS, ENOMEM | no memory for a socket | pause |
//! | EPERM | a security policy refuses; it would refuse the next one too | pause |
//! | ECANCELED | somebody took the accept back | the listener is closed |
//! | others (EINVAL, EBADF, ENOTSOCK) | this is no listener any more | reported, the listener is closed |
//!
//! A pause keeps the listener, and the kernel keeps the connections. It ends after a second, or as
//! soon as this loop has closed a descriptor. The first one is reported; the others of the same
//! shortage are not. A shortage is over when there was none for a second after a pause: that a
//! connection was accepted does not say so, for it may have taken the only descriptor.
//!
//! `accept4(2)` fails for want of a descriptor even if no connection waits; io_uring goes by the
//! limit that stood when the accept was armed.

use super::base::duration_ns;
use super::core::AtIterationEnd;
use super::exception::ExceptionContext;
use super::ext::EventLoopExt;
use super::listener::{Listener, Pause};
use super::server::Inner;
use crate::driver::{Complete, Event, Fd, Op, Target, closed_count};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// How long a pause lasts if this loop closes no descriptor. asyncio: `ACCEPT_RETRY_DELAY`.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Who hears of a listener's accepts; keeps the server while one is armed or about to be.
pub(super) struct Accepting {
    server: Rc<Inner>,
    listener: Rc<Listener>,
}

enum Failure {
    /// The connection is lost, the listener is not.
    Connection,
    /// It would fail again at once.
    Shortage(&'static str),
    /// The accept was taken back.
    Cancelled,
    /// The listener is lost.
    Listener,
}

fn judge(errno: i32) -> Failure {
    match errno {
        libc::ECONNABORTED
        | libc::EPROTO
        | libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::ENONET
        | libc::ENOPROTOOPT
        | libc::ETIMEDOUT
        | libc::EINTR
        | libc::EAGAIN => Failure::Connection,
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
            Failure::Shortage("socket.accept() out of system resource")
        }
        libc::EPERM => Failure::Shortage("socket.accept() is not permitted"),
        libc::ECANCELED => Failure::Cancelled,
        _ => Failure::Listener,
    }
}

impl Accepting {
    /// Starts accepting.
    pub(super) fn start(server: Rc<Inner>, listener: Rc<Listener>) {
        Rc::new(Self { server, listener }).arm();
    }

    fn arm(self: Rc<Self>) {
        let core = &self.server.context.core;
        // On a closed loop nothing would ever take the target back.
        if let Some(fd) = self.listener.fd()
            && !core.is_closed()
        {
            let key = core.submit(Op::AcceptMulti { fd }, Target::Callback(self.clone()));
            self.listener.accept.set(Some(key));
        }
    }

    fn failed(self: Rc<Self>, errno: i32) {
        let error = io::Error::from_raw_os_error(errno);
        match judge(errno) {
            Failure::Connection => self.arm(),
            Failure::Shortage(message) => self.pause(message, error),
            Failure::Cancelled => self.listener.close(&self.server.context.core),
            Failure::Listener => {
                self.report("Accept failed on a socket", error);
                self.listener.close(&self.server.context.core);
            }
        }
    }

    fn report(&self, message: &str, error: io::Error) {
        let mut context = ExceptionContext::error(message, error);
        context.socket = self.listener.address();
        self.server.context.core.report(context);
    }

    fn pause(self: Rc<Self>, message: &str, error: io::Error) {
        let Some(event_loop) = self.server.context.outer.upgrade() else {
            return;
        };
        let now = event_loop.time();
        let over = now.saturating_add(2 * duration_ns(RETRY_DELAY));
        if self.listener.quiet_until.replace(over) <= now {
            self.report(message, error);
        }
        // The handler of the report may have closed the server.
        if self.listener.is_closed() {
            return;
        }
        let later = self.clone();
        // Refused only by a loop that is closed, which accepts nothing more.
        let Ok(timer) = event_loop.call_later(RETRY_DELAY, move || later.resume()) else {
            return;
        };
        *self.listener.pause.borrow_mut() = Some(Pause {
            timer,
            closed: closed_count(),
        });
        self.server.context.core.clone().at_next_iteration_end(self);
    }

    fn resume(self: Rc<Self>) {
        if let Some(pause) = self.listener.pause.take() {
            pause.timer.cancel();
            self.arm();
        }
    }
}

impl Complete for Accepting {
    fn complete(self: Rc<Self>, event: Event) {
        if !event.more {
            self.listener.accept.set(None);
        }
        let Some(connection) = event.fd else {
            return self.failed(-event.result);
        };
        let connection = match self.listener.fd() {
            Some(listener) => Fd::accepted(connection, &listener),
            None => Fd::new(connection),
        };
        if !event.more {
            self.clone().arm();
        }
        self.server.accepted(connection);
    }
}

/// While accepting is paused: has the loop closed a descriptor?
impl AtIterationEnd for Accepting {
    fn iteration_ended(self: Rc<Self>) {
        let closed = self
            .listener
            .pause
            .borrow()
            .as_ref()
            .map(|pause| pause.closed);
        match closed {
            None => {}
            Some(before) if before != closed_count() => self.resume(),
            Some(_) => self.server.context.core.clone().at_next_iteration_end(self),
        }
    }
}
