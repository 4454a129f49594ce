//! Connections that belong together: those of one server, or those of a loop that are no server's.
//!
//! **Guarantees.** A transport stands here once, from when it is made until it has let go of everything.
//! So a server finds its connections and knows when there are none, and a loop that closes tells all of
//! them. It costs a connection one list entry, and its transport one pointer for this and for the
//! [`Core`].
//!
//! **Who may touch it.** Transports enter themselves and leave; a [`Server`](super::Server), or whoever
//! makes servers of another kind, waits for the end of its own; the core knows every such list and takes
//! it when the loop is closed.

use super::core::Core;
use crate::protocol::Transport;
use crate::task::{Cancelled, Wait, WaitsFor, call_all};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// A transport that is told when its loop is closed. It and its protocol usually hold each other, so
/// dropping the loop's own references would not be enough.
pub trait LoopClosed: Transport {
    /// The loop is closed. Lets go of everything, without callbacks.
    fn loop_closed(&self);
}

/// See the module.
pub struct Connections {
    core: Rc<Core>,
    list: RefCell<Slab<Weak<dyn LoopClosed>>>,
    /// Those who wait for the end; `None` once they were woken, until they are polled again.
    waiting: RefCell<Slab<Option<Waker>>>,
    /// No more are expected.
    closed: Cell<bool>,
}

impl Connections {
    /// A list of connections, none so far, of the loop with this core.
    pub fn new(core: &Rc<Core>) -> Rc<Self> {
        let this = Rc::new(Self {
            core: core.clone(),
            list: RefCell::default(),
            waiting: RefCell::default(),
            closed: Cell::new(false),
        });
        core.know(&this);
        this
    }

    /// The core of the loop.
    #[inline]
    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Enters a transport; the number is for [`forget`](Self::forget).
    pub fn remember(&self, transport: Weak<dyn LoopClosed>) -> u32 {
        let mut list = self.list.borrow_mut();
        if list.len() == list.capacity() {
            // By a quarter, because what doubles is half empty on average.
            let more = (list.len() / 4).max(64);
            list.reserve_exact(more);
        }
        u32::try_from(list.insert(transport)).expect("fewer connections than descriptors can name")
    }

    /// The transport with this number has let go of everything.
    pub fn forget(&self, number: u32) {
        let forgotten = self.list.borrow_mut().try_remove(number as usize);
        drop(forgotten);
        self.wake_if_over();
    }

    /// No more are expected: those who wait are woken when the last one is gone.
    pub fn close(&self) {
        self.closed.set(true);
        self.wake_if_over();
    }

    /// Waits until no more are expected and none is left. At once when that is so.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn wait_closed(self: &Rc<Self>) -> WaitClosed {
        WaitClosed {
            connections: self.clone(),
            slot: None,
            wait: Wait::new(),
        }
    }

    fn is_over(&self) -> bool {
        self.closed.get() && self.list.borrow().is_empty()
    }

    fn wake_if_over(&self) {
        if self.is_over() {
            let mut waiting = self.waiting.borrow_mut();
            let wakers: Vec<_> = waiting.iter_mut().map(|(_, waker)| waker.take()).collect();
            drop(waiting);
            call_all(wakers.into_iter().flatten(), Waker::wake);
        }
    }

    /// Those that exist now.
    pub fn all(&self) -> Vec<Rc<dyn LoopClosed>> {
        let list = self.list.borrow();
        list.iter().filter_map(|(_, weak)| weak.upgrade()).collect()
    }
}

/// The future of [`Server::wait_closed`](super::Server::wait_closed) and
/// [`Connections::wait_closed`].
pub struct WaitClosed {
    connections: Rc<Connections>,
    slot: Option<usize>,
    wait: Wait,
}

impl Future for WaitClosed {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.wait.check()?;
        // Cloned, and the old one dropped, where both may do what they like, so also close the server.
        let waker = Some(cx.waker().clone());
        let mut waiting = this.connections.waiting.borrow_mut();
        let old = match this.slot {
            Some(slot) => std::mem::replace(&mut waiting[slot], waker),
            None => {
                this.slot = Some(waiting.insert(waker));
                None
            }
        };
        drop(waiting);
        drop(old);
        if this.connections.is_over() {
            this.wait.finish();
            return Poll::Ready(Ok(()));
        }
        this.wait
            .suspend(cx, WaitsFor::Other("the end of a server"))?;
        Poll::Pending
    }
}

impl Drop for WaitClosed {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let waker = self.connections.waiting.borrow_mut().try_remove(slot);
            drop(waker);
        }
    }
}
