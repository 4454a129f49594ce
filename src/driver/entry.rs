//! An entry of the op table: what it owns, and where it stands in its life.
//!
//! **Who may touch it.** The [`OpTable`](super::OpTable), which hands nothing of it out but the operation.
//!
//! ```text
//!                           final completion                  poll
//!           ┌─▶ Waiter ──────────────────────▶ Result ─────────────┐
//!           │    │  ▲ set_target                                   │
//!    insert │    │  │                                      deliver │
//!   Vacant ─┼────│─▶ Callback ───────────────▶ Callback, done ─────┼─▶ Vacant
//!           │    │  │                            │ orphan          │
//!           │    ▼  ▼ orphan                     ▼         deliver │
//!           └─▶ Orphan ───────────────┐        Orphan, done ───────┤
//!                                     └──────── adopted at once ───┘
//! ```

use super::op::Op;
use super::target::{Complete, Target};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;

/// Where an entry stands in its life, see the module, with what it needs there. `done`: its final
/// completion waits in the ready queue.
///
/// Each variant has the generation, so that it stands beside the tag, where there is room.
#[repr(u8)]
pub(super) enum State {
    Vacant {
        generation: u32,
        /// The next vacant entry.
        next: u32,
    },
    Waiter {
        generation: u32,
        waker: Waker,
    },
    Callback {
        done: bool,
        generation: u32,
        target: Rc<dyn Complete>,
    },
    Orphan {
        done: bool,
        generation: u32,
    },
    /// For a waiter: what the final completion said, and the descriptor that came with it.
    Result {
        generation: u32,
        result: i32,
        fd: Option<OwnedFd>,
    },
}

impl State {
    #[inline(always)]
    pub(super) const fn generation(&self) -> u32 {
        match self {
            Self::Vacant { generation, .. }
            | Self::Waiter { generation, .. }
            | Self::Callback { generation, .. }
            | Self::Orphan { generation, .. }
            | Self::Result { generation, .. } => *generation,
        }
    }

    #[inline(always)]
    pub(super) const fn is_in_flight(&self) -> bool {
        match self {
            Self::Waiter { .. } => true,
            Self::Callback { done, .. } | Self::Orphan { done, .. } => !*done,
            Self::Vacant { .. } | Self::Result { .. } => false,
        }
    }

    #[inline(always)]
    pub(super) fn in_flight(generation: u32, target: Target) -> Self {
        match target {
            Target::Waiter(waker) => Self::Waiter { generation, waker },
            Target::Callback(target) => Self::Callback {
                done: false,
                generation,
                target,
            },
            Target::Orphan => Self::Orphan {
                done: false,
                generation,
            },
        }
    }

    pub(super) fn into_target(self) -> Target {
        match self {
            Self::Waiter { waker, .. } => Target::Waiter(waker),
            Self::Callback { target, .. } => Target::Callback(target),
            Self::Vacant { .. } | Self::Orphan { .. } | Self::Result { .. } => Target::Orphan,
        }
    }
}

/// One slot. Its members are changed in place: what an entry owns is moved twice in its life, in
/// and out.
pub(super) struct Entry {
    pub(super) state: State,
    /// `None` exactly while vacant.
    pub(super) op: Option<Op>,
}

// Part of the price of an idle connection.
const _: () = assert!(size_of::<Entry>() == 48);

impl Entry {
    /// The key is stale from now on.
    #[inline(always)]
    pub(super) fn vacate(&mut self, next: u32) -> State {
        let generation = self.state.generation().wrapping_add(1);
        std::mem::replace(&mut self.state, State::Vacant { generation, next })
    }

    /// Notes that nobody waits for the operation any more.
    pub(super) fn make_orphan(&mut self, done: bool) -> Target {
        let generation = self.state.generation();
        let orphan = State::Orphan { done, generation };
        let target = std::mem::replace(&mut self.state, orphan).into_target();
        if !matches!(target, Target::Orphan)
            && let Some(fd) = self.op.as_ref().and_then(Op::takes)
        {
            fd.add_orphan();
        }
        target
    }
}
