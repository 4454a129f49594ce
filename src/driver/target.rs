//! Completion targets: who hears of a completion, and what it brings.
//!
//! **Guarantees.** Whatever a completion owns (a buffer of the pool, a descriptor) is in exactly one
//! of these values from the moment it was taken in, so that dropping the value lets go of it: no
//! completion leaks, whether somebody hears of it or not.

use super::chunk::Gather;
use super::fd::Fd;
use super::lease::Lease;
use super::op::{Op, own};
use super::pool::Pool;
use super::{FLAG_BUFFER, FLAG_FD, Key};
use crate::ready::ReadyEntry;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;

/// Receives the completions of an operation in the callback phase of an iteration. No borrow of the
/// loop is held: everything may be called from here.
pub trait Complete {
    /// One completion.
    fn complete(self: Rc<Self>, event: Event);

    /// A shorter way for the most frequent one: bytes of a multishot receive that goes on.
    fn received(self: Rc<Self>, key: Key, lease: Lease) {
        self.complete(Event {
            key,
            result: lease.len() as i32,
            more: true,
            lease: Some(lease),
            fd: None,
            op: None,
        });
    }

    /// A send whose whole success was silent: is that all there is to it? `true`: nothing waits for it,
    /// the target has noted it, and [`sent`](Self::sent) is not called. Asked as soon as the driver has
    /// settled the send, under a borrow of the loop: calls nothing.
    fn settled(&self, _sent: usize) -> bool {
        false
    }

    /// A shorter way for the next: the final completion of a send, with the operation.
    fn sent(self: Rc<Self>, key: Key, send: Op, result: i32) {
        self.complete(Event {
            key,
            result,
            more: false,
            lease: None,
            fd: None,
            op: Some(send),
        });
    }
}

/// What a completion brings to a [`Complete`] target.
pub(crate) enum Delivery {
    /// For [`Complete::received`].
    Data(Rc<dyn Complete>, Key, Lease),
    /// For [`Complete::sent`].
    Sent(Rc<dyn Complete>, Key, Op, i32),
    /// For [`Complete::complete`].
    Event(Rc<dyn Complete>, Event),
    /// The target is gone: for the operation's orphan rule.
    Adopt(Adopted),
    /// Nothing is left to do.
    Nothing,
}

impl Delivery {
    /// Calls the target.
    #[inline]
    pub(crate) fn call(self) {
        match self {
            Self::Data(target, key, lease) => target.received(key, lease),
            Self::Sent(target, key, send, result) => target.sent(key, send, result),
            Self::Event(target, event) => target.complete(event),
            Self::Adopt(adopted) => adopted.adopt(),
            Self::Nothing => {}
        }
    }

    /// Tells nobody any more; what nobody was to hear of is adopted all the same.
    pub(crate) fn discard(self) {
        if let Self::Adopt(adopted) = self {
            adopted.adopt();
        }
    }
}

/// Who hears of a completion.
pub enum Target {
    /// A future: its waker is woken and it takes the result from the table.
    Waiter(Waker),
    /// A callback: the completion goes through the ready queue.
    Callback(Rc<dyn Complete>),
    /// Nobody: the operation's orphan rule decides.
    Orphan,
}

/// A completion with everything it owns, as a [`Complete`] target gets it.
pub struct Event {
    /// The operation.
    pub key: Key,
    /// Zero or more on success, a negated errno on failure.
    pub result: i32,
    /// Whether more completions of this operation follow.
    pub more: bool,
    /// The received bytes.
    pub lease: Option<Lease>,
    /// The accepted connection or opened file.
    pub fd: Option<OwnedFd>,
    /// The operation itself with its buffers, on its final completion.
    pub op: Option<Op>,
}

impl Event {
    /// The result as `std` writes it.
    ///
    /// # Errors
    /// The errno of a negative result.
    pub fn outcome(&self) -> io::Result<u32> {
        u32::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// What [`Engine::poll`](super::Engine::poll) found.
pub enum Polled {
    /// The operation, its result, and the descriptor it made.
    Done(Op, i32, Option<OwnedFd>),
    /// It is in flight, and its waker is this one.
    Waits,
    /// It is in flight with another target.
    WantsWaker,
    /// Nobody can wait for it any more: its result was taken, or it was orphaned, as all are by a close.
    Gone,
}

/// What the loop has to do for a completion.
pub(crate) enum Dispatch {
    /// Push this entry to the ready queue.
    Ready(ReadyEntry),
    /// Wake the future.
    Wake(Waker),
    /// Drop this, outside any borrow.
    Drop(Adopted),
    /// Nothing.
    Nothing,
}

/// What became of a completion that was taken in.
pub(crate) enum Taken {
    /// It stands in the ready queue.
    Heard,
    /// It was a send that went whole and of which nobody has to hear. Drop what it owned, outside any
    /// borrow.
    Settled(Box<Gather>, Fd, Rc<dyn Complete>),
    /// Nothing: it is to be dispatched.
    Not,
}

/// What a completion owns besides its number.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) lease: Option<Lease>,
    pub(super) fd: Option<OwnedFd>,
}

impl Parts {
    /// Takes them out of the completion, once.
    #[inline]
    pub(super) fn take(result: i32, flags: u32, pool: &Rc<Pool>) -> Self {
        let lease = if flags & FLAG_BUFFER != 0 {
            pool.claim(flags, result)
        } else {
            None
        };
        // SAFETY: FLAG_FD says that the completion owns the descriptor, and only this consumes it:
        // every path of `dispatch` and `deliver` takes the parts of a completion at most once.
        let fd = (flags & FLAG_FD != 0).then(|| unsafe { own(result) });
        Self { lease, fd }
    }
}

/// A result nobody waits for, to be adopted by the rule of its operation.
#[must_use = "call adopt()"]
pub struct Adopted {
    pub(super) op: Op,
    pub(super) result: i32,
    pub(super) parts: Parts,
    /// Its descriptor counts it among the orphans.
    pub(super) counted: bool,
}

impl Adopted {
    /// Applies the operation's orphan rule.
    pub fn adopt(self) {
        self.op.adopt(self.result, self.parts);
        if self.counted
            && let Some(fd) = self.op.takes()
        {
            fd.drop_orphan();
        }
    }
}

/// What [`Engine::orphan`](super::Engine::orphan) found. The target that was taken away comes along, to be
/// dropped outside any borrow.
#[must_use = "call adopt()"]
pub enum Orphaned {
    /// The operation goes on without its target: ask the driver to cancel it.
    InFlight(Target),
    /// Its final completion waits in the ready queue and will be adopted from there.
    Queued(Target),
    /// It had completed already; its result needs adoption.
    Done(Adopted),
    /// The key was stale.
    Stale,
}

impl Orphaned {
    /// Whether the operation is still in flight.
    pub fn is_in_flight(&self) -> bool {
        matches!(self, Self::InFlight(_))
    }

    /// Drops the target and adopts the result, if there is one; whether the operation is still in
    /// flight.
    pub fn adopt(self) -> bool {
        match self {
            Self::InFlight(target) => {
                drop(target);
                true
            }
            Self::Done(adopted) => {
                adopted.adopt();
                false
            }
            Self::Queued(_) | Self::Stale => false,
        }
    }
}
