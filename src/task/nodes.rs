//! The arena of wait nodes: one for every pending ringloop await.
//!
//! **Guarantees.** Registering and unregistering is O(1) and takes nothing from the heap when
//! warm. The nodes of a task form a list that begins in its header. A node whose task ended is an
//! orphan (it has no slot): it can be unregistered and nothing else happens to it.
//!
//! **Who may touch it.** [`Wait`](super::Wait) owns its node; `cancel.rs` marks.
//!
//! ```text
//!              register                      request
//!   (no node) ──────────▶ waiting ─────────────────────────────▶ marked ──▶ delivered (node gone)
//!                            │  a join whose task is pending         │ uncancel to 0
//!                            ├──────────────▶ forwarded              ▼
//!                            ◀───────────────────────────────────────┘
//! ```

use super::arena::NONE;
use super::slot::Header;
use super::wait::WaitsFor;
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::task::Waker;

/// The mark of a node that no request was delivered to. Other marks are the scope that asked.
pub(super) const UNMARKED: u32 = NONE - 2;

pub(super) struct Node {
    /// Who is woken; `None` is the task itself.
    pub(super) waker: Option<Waker>,
    pub(super) what: WaitsFor,
    /// Slot and generation of the awaited task of the same loop; the slot is NONE for other waits.
    pub(super) join: (u32, u32),
    /// The slot of the task; none in a free node and in an orphan.
    pub(super) slot: Option<NonNull<Header>>,
    /// The scope it stands in.
    pub(super) scope: u32,
    /// The outermost scope that asked.
    pub(super) mark: u32,
    /// The scope that had asked before the task itself did.
    pub(super) under: u32,
    /// When it was made, if that is tracked, else 0.
    pub(super) since: u64,
    /// The request went to the awaited task; `mark` says whose it was.
    pub(super) forwarded: bool,
    prev: u32,
    next: u32,
}

/// What is left of a node that was removed.
pub(super) struct Removed {
    pub(super) waker: Option<Waker>,
    pub(super) slot: Option<NonNull<Header>>,
    pub(super) scope: u32,
    pub(super) mark: u32,
    pub(super) under: u32,
    pub(super) forwarded: bool,
}

pub(super) struct Nodes {
    list: UnsafeCell<Vec<Node>>,
    free: Cell<u32>,
    /// What new nodes note as their time.
    time: Cell<u64>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            list: UnsafeCell::default(),
            free: Cell::new(NONE),
            time: Cell::new(0),
        }
    }
}

impl Nodes {
    /// `f` must not run code of others (drop, clone or wake a waker) nor call back into this type.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut Vec<Node>) -> R) -> R {
        // SAFETY: one thread, and by the rule above, which this file keeps, `f` does not come here
        // again; references do not leave this file but through `update`, under the same rule.
        f(unsafe { &mut *self.list.get() })
    }

    /// Reads or writes a node, under the rule of `with`.
    #[inline]
    pub(super) fn update<R>(&self, index: u32, f: impl FnOnce(&mut Node) -> R) -> R {
        self.with(|list| f(&mut list[index as usize]))
    }

    pub(super) fn set_time(&self, now: u64) {
        self.time.set(now);
    }

    #[inline]
    pub(super) fn mark(&self, index: u32) -> u32 {
        self.update(index, |node| node.mark)
    }

    /// Makes a node, first in the list of `slot`.
    #[inline]
    pub(super) fn register(
        &self,
        slot: &Header,
        waker: Option<Waker>,
        what: WaitsFor,
        join: (u32, u32),
    ) -> u32 {
        let head = slot.nodes().get();
        let node = Node {
            waker,
            what,
            join,
            slot: Some(NonNull::from(slot)),
            scope: slot.scope().get(),
            mark: UNMARKED,
            under: UNMARKED,
            since: self.time.get(),
            forwarded: false,
            prev: NONE,
            next: head,
        };
        let index = self.with(|list| {
            let index = self.free.get();
            let index = if let Some(place) = list.get_mut(index as usize) {
                self.free.set(place.next);
                // A free node has no waker, so nothing of others is dropped here.
                *place = node;
                index
            } else {
                list.push(node);
                list.len() as u32 - 1
            };
            if head != NONE {
                list[head as usize].prev = index;
            }
            index
        });
        slot.nodes().set(index);
        index
    }

    /// Unlinks a node and frees it. The waker is the caller's to drop.
    #[inline]
    pub(super) fn remove(&self, index: u32) -> Removed {
        self.with(|list| {
            let node = &mut list[index as usize];
            let removed = Removed {
                waker: node.waker.take(),
                slot: node.slot.take(),
                scope: node.scope,
                mark: node.mark,
                under: node.under,
                forwarded: node.forwarded,
            };
            let (prev, next) = (node.prev, node.next);
            node.next = self.free.replace(index);
            let Some(slot) = removed.slot else {
                return removed;
            };
            if next != NONE {
                list[next as usize].prev = prev;
            }
            if prev != NONE {
                list[prev as usize].next = next;
            } else {
                // SAFETY: the slot stands in the arena of the same `Tasks` and never moves; headers
                // are only borrowed shared.
                unsafe { slot.as_ref() }.nodes().set(next);
            }
            removed
        })
    }

    /// Calls `f` for every node of the task, newest first, under the rule of `with`. A node must
    /// not be removed by it.
    pub(super) fn for_each(&self, slot: &Header, mut f: impl FnMut(u32, &mut Node)) {
        let mut index = slot.nodes().get();
        while index != NONE {
            index = self.with(|list| {
                let node = &mut list[index as usize];
                f(index, node);
                node.next
            });
        }
    }

    /// The task ended: its nodes belong to nobody.
    pub(super) fn orphan(&self, slot: &Header) {
        let mut index = slot.nodes().replace(NONE);
        while index != NONE {
            index = self.update(index, |node| {
                node.slot = None;
                node.mark = UNMARKED;
                node.under = UNMARKED;
                node.forwarded = false;
                node.prev = NONE;
                std::mem::replace(&mut node.next, NONE)
            });
        }
    }

    /// How many nodes are taken.
    pub(super) fn in_use(&self) -> usize {
        self.with(|list| {
            let mut count = list.len();
            let mut free = self.free.get();
            while let Some(node) = list.get(free as usize) {
                count -= 1;
                free = node.next;
            }
            count
        })
    }
}
