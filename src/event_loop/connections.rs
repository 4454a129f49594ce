//! Connections that belong together: those of one server, or those of a loop that are no server's.
//!
//! **Guarantees.** A transport stands here once, from when it is made until it has let go of everything.
//! So a server finds its connections and knows when there are none, and a loop that closes tells all of
//! them. It costs a connection one list entry, and its transport one pointer for this and for the
//! [`Core`].
//!
//! **Who may touch it.** Transports enter themselves and leave; a [`Server`](super::Server) waits for
//! the end of its own; the core knows every such list and takes it when the loop is closed.

use super::core::Core;
use crate::protocol::Transport;
use crate::task::call_all;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Waker;

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
    pub(super) waiting: RefCell<Slab<Option<Waker>>>,
    /// Whoever waits is woken when the last connection is gone.
    closed: Cell<bool>,
}

impl Connections {
    /// None so far.
    pub(super) fn new(core: &Rc<Core>) -> Rc<Self> {
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

    /// No more are expected.
    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    /// Whether no more are expected and none is left.
    pub(super) fn is_over(&self) -> bool {
        self.closed.get() && self.list.borrow().is_empty()
    }

    pub(super) fn wake_if_over(&self) {
        if self.is_over() {
            let mut waiting = self.waiting.borrow_mut();
            let wakers: Vec<_> = waiting.iter_mut().map(|(_, waker)| waker.take()).collect();
            drop(waiting);
            call_all(wakers.into_iter().flatten(), Waker::wake);
        }
    }

    /// Those that exist now.
    pub(super) fn all(&self) -> Vec<Rc<dyn LoopClosed>> {
        let list = self.list.borrow();
        list.iter().filter_map(|(_, weak)| weak.upgrade()).collect()
    }
}
