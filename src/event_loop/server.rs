//! A server: its listeners and its connections.
//!
//! ```text
//!   Bound ──start_serving──▶ Serving ──close──▶ Closed ──last connection lost──▶ wait_closed returns
//!     └──────────────────────close────────────────▲
//! ```
//!
//! **Guarantees.** The listeners belong to the server. While it serves, the loop keeps it: dropping
//! every handle does not end it. Closing it ends listening at once and leaves connections alone; a
//! connection that the kernel accepted but that was not seen yet is closed.

use super::abstract_event_loop::{AbstractEventLoop, ProtocolFactory};
use super::accept::Accepting;
use super::connect::Context;
use super::connections::{Connections, WaitClosed};
use super::error::LoopError;
use super::exception::ExceptionContext;
use super::factory::SocketParts;
use super::future::Future as LoopFuture;
use super::listener::Listener;
use super::time::yield_now;
use crate::driver::Fd;
use crate::protocol::Address;
use crate::task::is_loop_exit;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::{Rc, Weak};

/// A server; clones name the same one. asyncio: `Server`.
///
/// Made by `create_server` and `create_unix_server`. Dropping the last handle of a server that
/// serves does not close it; one that does not serve yet is closed then.
#[derive(Clone)]
pub struct Server(Rc<Inner>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Bound,
    Serving,
    Closed,
}

pub(super) struct Inner {
    pub(super) context: Context,
    factory: ProtocolFactory,
    backlog: u32,
    state: Cell<State>,
    listeners: RefCell<Vec<Rc<Listener>>>,
    connections: Rc<Connections>,
    /// Who is in `serve_forever`.
    forever: RefCell<Option<LoopFuture<()>>>,
}

impl Inner {
    fn is_closed(&self) -> bool {
        self.state.get() == State::Closed
    }

    fn live(&self) -> Vec<Rc<Listener>> {
        let listeners = self.listeners.borrow();
        listeners
            .iter()
            .filter(|listener| !listener.is_closed())
            .cloned()
            .collect()
    }

    fn start(self: &Rc<Self>) -> io::Result<()> {
        self.context.core.check_closed()?;
        match self.state.get() {
            State::Closed => return Err(self.error("is closed")),
            State::Serving => return Ok(()),
            State::Bound => {}
        }
        let listeners = self.live();
        for listener in &listeners {
            listener.listen(self.backlog)?;
        }
        self.state.set(State::Serving);
        for listener in listeners {
            Accepting::start(self.clone(), listener);
        }
        Ok(())
    }

    fn close(&self) {
        if self.state.replace(State::Closed) == State::Closed {
            return;
        }
        for listener in self.listeners.take() {
            listener.close(&self.context.core);
        }
        if let Some(forever) = self.forever.take() {
            forever.cancel();
        }
        self.connections.close();
    }

    /// Makes a protocol and a transport of a connection that was accepted.
    pub(super) fn accepted(self: &Rc<Self>, connection: Fd) {
        let made = catch_unwind(AssertUnwindSafe(|| {
            let protocol = (self.factory)();
            if self.is_closed() {
                // The factory closed the server: no connection comes after that.
                return Ok(());
            }
            let parts = SocketParts {
                connections: self.connections.clone(),
                event_loop: self.context.outer.clone(),
                socket: connection,
                protocol,
                made: None,
                peer: None,
                accepted: true,
            };
            self.context.factory.make_socket_transport(parts).map(drop)
        }));
        let message = "Error on transport creation for incoming connection";
        let context = match made {
            Ok(Ok(())) => return,
            Ok(Err(error)) => ExceptionContext::error(message, error),
            Err(payload) if is_loop_exit(&*payload) => resume_unwind(payload),
            Err(payload) => ExceptionContext::panic(message, payload),
        };
        self.context.core.report(context);
    }

    fn error(&self, what: &str) -> io::Error {
        io::Error::other(format!("server {self:?} {what}"))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self
            .live()
            .iter()
            .filter_map(|l| Some(l.address()?.to_string()))
            .collect();
        write!(
            f,
            "<Server {:?} sockets=[{}]>",
            self.state.get(),
            addresses.join(", ")
        )
    }
}

impl Server {
    pub(super) fn new(
        context: Context,
        listeners: Vec<Listener>,
        factory: ProtocolFactory,
        backlog: u32,
    ) -> Self {
        Self(Rc::new(Inner {
            connections: Connections::new(&context.core),
            context,
            factory,
            backlog,
            state: Cell::new(State::Bound),
            listeners: RefCell::new(listeners.into_iter().map(Rc::new).collect()),
            forever: RefCell::default(),
        }))
    }

    /// The listening sockets; none once the server is closed.
    pub fn sockets(&self) -> Vec<ServerSocket> {
        self.0
            .live()
            .iter()
            .map(|listener| ServerSocket(Rc::downgrade(listener)))
            .collect()
    }

    /// The addresses that are listened on; none once the server is closed.
    pub fn local_addrs(&self) -> Vec<Address> {
        self.0
            .live()
            .iter()
            .filter_map(|listener| listener.address())
            .collect()
    }

    /// The loop of the server: the outermost one, where loops wrap each other.
    ///
    /// # Errors
    /// [`LoopError::Closed`] when the loop is gone.
    pub fn get_loop(&self) -> Result<Rc<dyn AbstractEventLoop>, LoopError> {
        self.0.context.outer.upgrade().ok_or(LoopError::Closed)
    }

    /// Whether connections are accepted.
    pub fn is_serving(&self) -> bool {
        self.0.state.get() == State::Serving
    }

    /// Begins to listen and to accept, and gives way for one iteration. Harmless when serving.
    ///
    /// # Errors
    /// Closed; the error of `listen(2)`, after which nothing is accepted; or
    /// [`Cancelled`](crate::task::Cancelled), after which the server serves.
    pub async fn start_serving(&self) -> io::Result<()> {
        self.0.start()?;
        Ok(yield_now().await?)
    }

    /// Serves until cancelled: then closes the server, waits until its connections are gone, and
    /// returns the [`Cancelled`](crate::task::Cancelled) as an error. [`close`](Self::close) from
    /// elsewhere ends it the same way. Never returns `Ok`. Dropping the future does not close the server.
    ///
    /// # Errors
    /// Closed, or somebody else is in `serve_forever`; the errors of
    /// [`start_serving`](Self::start_serving); else [`Cancelled`](crate::task::Cancelled).
    pub async fn serve_forever(&self) -> io::Result<()> {
        /// Only one at a time.
        struct Leave<'a>(&'a Inner);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                drop(self.0.forever.take());
            }
        }
        if self.0.forever.borrow().is_some() {
            return Err(self.0.error("is already being awaited on serve_forever()"));
        }
        self.0.start()?;
        let forever = LoopFuture::<()>::of_running_loop()?;
        *self.0.forever.borrow_mut() = Some(forever.clone());
        let leave = Leave(&self.0);
        let Err(cancelled) = forever.wait().await else {
            unreachable!("nothing sets its result");
        };
        drop(leave);
        self.close();
        // Cancelled again: the first request is the answer.
        let _ = self.wait_closed().await;
        Err(cancelled.into())
    }

    /// Ends listening: from now on connections are refused. Those that were accepted stay. Harmless
    /// when closed.
    ///
    /// The socket file of a Unix server is removed. A socket that was given to `create_server` may
    /// be shared with others: it is closed here, and connections are refused once everybody has
    /// closed it.
    pub fn close(&self) {
        self.0.close();
    }

    /// Waits until the server is closed and its connections are lost. At once when they are.
    ///
    /// # Errors
    /// [`Cancelled`](crate::task::Cancelled).
    pub fn wait_closed(&self) -> WaitClosed {
        self.0.connections.wait_closed()
    }

    /// Closes the connections that exist now, each after what was written to it was sent. Usually
    /// called after [`close`](Self::close).
    pub fn close_clients(&self) {
        for transport in self.0.connections.all() {
            transport.close();
        }
    }

    /// Closes the connections that exist now at once.
    pub fn abort_clients(&self) {
        for transport in self.0.connections.all() {
            transport.abort();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A listening socket as its server shows it: it can be looked at and have options set, but not be
/// read, accepted from or closed. asyncio: `TransportSocket`.
#[derive(Clone)]
pub struct ServerSocket(Weak<Listener>);

impl ServerSocket {
    fn fd(&self) -> Option<Fd> {
        self.0.upgrade()?.fd()
    }

    /// The address it is bound to; `None` once the server is closed.
    pub fn local_addr(&self) -> Option<Address> {
        self.0.upgrade()?.address()
    }

    /// Calls `f` with the descriptor, while there is one, to set an option or the like.
    pub fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        if let Some(fd) = self.fd() {
            f(fd.as_fd());
        }
    }
}

impl fmt::Debug for ServerSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.fd().map_or(-1, |fd| fd.as_raw_fd());
        write!(f, "<ServerSocket fd={number}")?;
        if let Some(address) = self.local_addr() {
            write!(f, ", laddr={address}")?;
        }
        f.write_str(">")
    }
}
