//! The arena of wait nodes: one for every pending ringloop await.
//!
//! **Guarantees.** Registering and unregistering is O(1) and takes nothing from the heap when
//! warm. The nodes of a task form a list that begins in its header. A node whose task ended is an
//! orphan (`task` is [`NONE`]): it can be unregistered and nothing else happens to it.
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
use std::task::Waker;

/// The mark of a node that no request was delivered to. Other marks are the scope that asked.
pub(super) const UNMARKED: u32 = NONE - 2;

pub(super) struct Node {
    /// Who is woken; `None` is the task itself.
    pub(super) waker: Option<Waker>,
    pub(super) what: WaitsFor,
    /// Slot of the task, or NONE.
    pub(super) task: u32,
    /// The scope it stands in.
    pub(super) scope: u32,
    /// The outermost scope that asked.
    pub(super) mark: u32,
    /// The scope that had asked before the task itself did.
    pub(super) under: u32,
    /// The request went to the awaited task; `mark` says whose it was.
    pub(super) forwarded: bool,
    /// Slot and generation of the awaited task of the same loop.
    pub(super) join: Option<(u32, u32)>,
    prev: u32,
    next: u32,
}

#[derive(Default)]
pub(super) struct Nodes {
    list: UnsafeCell<Vec<Node>>,
    free: Cell<Option<u32>>,
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
        join: Option<(u32, u32)>,
    ) -> u32 {
        let head = slot.nodes().get();
        let node = Node {
            waker,
            what,
            task: slot.index(),
            scope: slot.scope().get(),
            mark: UNMARKED,
            under: UNMARKED,
            forwarded: false,
            join,
            prev: NONE,
            next: head,
        };
        let index = self.with(|list| {
            let index = match self.free.get() {
                Some(index) => {
                    let place = &mut list[index as usize];
                    let next = place.next;
                    self.free.set((next != NONE).then_some(next));
                    // A free node has no waker, so nothing of others is dropped here.
                    *place = node;
                    index
                }
                None => {
                    list.push(node);
                    list.len() as u32 - 1
                }
            };
            if head != NONE {
                list[head as usize].prev = index;
            }
            index
        });
        slot.nodes().set(index);
        index
    }

    /// Unlinks a node and frees it. `head` gives the header of the node's task. The waker is the
    /// caller's to drop.
    #[inline]
    pub(super) fn remove<'a>(
        &self,
        index: u32,
        head: impl FnOnce(u32) -> Option<&'a Header>,
    ) -> Option<Waker> {
        self.with(|list| {
            let node = &mut list[index as usize];
            let (task, prev, next) = (node.task, node.prev, node.next);
            let waker = node.waker.take();
            node.task = NONE;
            node.next = self.free.get().unwrap_or(NONE);
            self.free.set(Some(index));
            if task == NONE {
                return waker;
            }
            if next != NONE {
                list[next as usize].prev = prev;
            }
            if prev != NONE {
                list[prev as usize].next = next;
            } else if let Some(slot) = head(task) {
                slot.nodes().set(next);
            }
            waker
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
                node.task = NONE;
                node.mark = UNMARKED;
                node.under = UNMARKED;
                node.forwarded = false;
                node.prev = NONE;
                std::mem::replace(&mut node.next, NONE)
            });
        }
    }
}
