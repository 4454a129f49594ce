//! The arena of wait nodes: one for every pending ringloop await.
//!
//! **Guarantees.** Registering and unregistering is O(1) and takes nothing from the heap when
//! warm. The nodes of a task form a list that begins in its header. A node whose task ended is an
//! orphan (it has no slot): it can be unregistered and nothing else happens to it.
//!
//! What most waits do not have (a waker of others, a request, a time) stands in a table of its own: a
//! plain node is small, because every idle connection has one.
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
use super::noted::Noted;
use super::slot::Header;
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::task::Waker;

/// The mark of a node that no request was delivered to. Other marks are the scope that asked.
pub(super) const UNMARKED: u32 = NONE - 2;

/// What requests left on a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// The outermost scope that asked.
    pub(super) mark: u32,
    /// The scope that had asked before the task itself did.
    pub(super) under: u32,
    /// The request went to the awaited task; `mark` says whose it was.
    pub(super) forwarded: bool,
}

impl Marks {
    pub(super) const NONE: Self = Self {
        mark: UNMARKED,
        under: UNMARKED,
        forwarded: false,
    };
}

pub(super) struct Node {
    pub(super) what: Noted,
    /// The slot of the task; none in a free node and in an orphan.
    pub(super) slot: Option<NonNull<Header>>,
    /// The scope it stands in.
    pub(super) scope: u32,
    /// Where the rest of it stands, if it has one.
    extra: u32,
    prev: u32,
    next: u32,
}

const _: () = assert!(size_of::<Node>() == 32);

/// What few nodes have.
struct Extra {
    /// Who is woken; `None` is the task itself.
    waker: Option<Waker>,
    marks: Marks,
    /// When the node was made, if that is tracked, else 0.
    since: u64,
    next_free: u32,
}

/// What is left of a node that was removed.
pub(super) struct Removed {
    pub(super) waker: Option<Waker>,
    pub(super) slot: Option<NonNull<Header>>,
    pub(super) scope: u32,
    pub(super) marks: Marks,
}

struct Lists {
    nodes: Vec<Node>,
    extras: Vec<Extra>,
}

impl Lists {
    fn extra(&self, index: u32) -> Option<&Extra> {
        self.extras.get(self.nodes[index as usize].extra as usize)
    }
}

pub(super) struct Nodes {
    lists: UnsafeCell<Lists>,
    free: Cell<u32>,
    free_extra: Cell<u32>,
    /// What new nodes note as their time.
    time: Cell<u64>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            lists: UnsafeCell::new(Lists {
                nodes: Vec::new(),
                extras: Vec::new(),
            }),
            free: Cell::new(NONE),
            free_extra: Cell::new(NONE),
            time: Cell::new(0),
        }
    }
}

/// Makes room by an eighth: what doubles is half empty on average.
#[cold]
fn grow(nodes: &mut Vec<Node>) {
    nodes.reserve_exact((nodes.len() / 8).max(64));
}

impl Nodes {
    /// `f` must not run code of others (drop, clone or wake a waker) nor call back into this type.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut Lists) -> R) -> R {
        // SAFETY: one thread, and by the rule above, which this file keeps, `f` does not come here
        // again; references do not leave this file but through `update`, under the same rule.
        f(unsafe { &mut *self.lists.get() })
    }

    /// Reads or writes a node, under the rule of `with`.
    #[inline]
    pub(super) fn update<R>(&self, index: u32, f: impl FnOnce(&mut Node) -> R) -> R {
        self.with(|lists| f(&mut lists.nodes[index as usize]))
    }

    pub(super) fn set_time(&self, now: u64) {
        self.time.set(now);
    }

    /// Whether a request was delivered or forwarded.
    #[inline]
    pub(super) fn is_marked(&self, index: u32) -> bool {
        self.update(index, |node| node.extra != NONE) && self.marks(index).mark != UNMARKED
    }

    /// What requests left on a node.
    pub(super) fn marks(&self, index: u32) -> Marks {
        self.with(|lists| lists.extra(index).map_or(Marks::NONE, |extra| extra.marks))
    }

    pub(super) fn set_marks(&self, index: u32, marks: Marks) {
        if marks != self.marks(index) {
            self.with_extra(index, |extra| extra.marks = marks);
        }
    }

    /// Since when it waits, if that is tracked.
    pub(super) fn since(&self, index: u32) -> Option<u64> {
        self.with(|lists| {
            let since = lists.extra(index)?.since;
            (since != 0).then_some(since)
        })
    }

    /// Whether `f` holds for the waker of a node.
    pub(super) fn has_waker(&self, index: u32, f: impl FnOnce(Option<&Waker>) -> bool) -> bool {
        self.with(|lists| f(lists.extra(index).and_then(|extra| extra.waker.as_ref())))
    }

    /// Gives a node another waker; the old one is the caller's to drop.
    pub(super) fn replace_waker(&self, index: u32, new: Option<Waker>) -> Option<Waker> {
        if new.is_none() && !self.has_waker(index, |old| old.is_some()) {
            return None;
        }
        self.with_extra(index, |extra| std::mem::replace(&mut extra.waker, new))
    }

    /// As `update`, for what few nodes have.
    fn with_extra<R>(&self, index: u32, f: impl FnOnce(&mut Extra) -> R) -> R {
        self.with(|Lists { nodes, extras }| {
            let at = &mut nodes[index as usize].extra;
            if *at == NONE {
                *at = self.free_extra.get();
                match extras.get_mut(*at as usize) {
                    Some(free) => self.free_extra.set(free.next_free),
                    None => {
                        *at = extras.len() as u32;
                        extras.push(Extra {
                            waker: None,
                            marks: Marks::NONE,
                            since: 0,
                            next_free: NONE,
                        });
                    }
                }
            }
            f(&mut extras[*at as usize])
        })
    }

    #[cold]
    fn add_extra(&self, index: u32, waker: Option<Waker>) {
        let since = self.time.get();
        self.with_extra(index, |extra| {
            // A free one has no waker, so nothing of others is dropped here.
            extra.waker = waker;
            extra.since = since;
        });
    }

    /// Makes a node, first in the list of `slot`.
    #[inline(always)]
    pub(super) fn register(&self, slot: &Header, waker: Option<Waker>, what: Noted) -> u32 {
        let head = slot.nodes().get();
        let node = Node {
            what,
            slot: Some(NonNull::from(slot)),
            scope: slot.scope().get(),
            extra: NONE,
            prev: NONE,
            next: head,
        };
        let index = self.with(|Lists { nodes, .. }| {
            let index = self.free.get();
            let index = if let Some(place) = nodes.get_mut(index as usize) {
                self.free.set(place.next);
                *place = node;
                index
            } else {
                if nodes.len() == nodes.capacity() {
                    grow(nodes);
                }
                nodes.push(node);
                nodes.len() as u32 - 1
            };
            if head != NONE {
                nodes[head as usize].prev = index;
            }
            index
        });
        slot.nodes().set(index);
        if waker.is_some() || self.time.get() != 0 {
            self.add_extra(index, waker);
        }
        index
    }

    /// Unlinks a node and frees it. The waker is the caller's to drop.
    #[inline(never)]
    pub(super) fn remove(&self, index: u32) -> Removed {
        let extra = self.with(|Lists { nodes, extras }| {
            let at = nodes[index as usize].extra;
            let extra = extras.get_mut(at as usize)?;
            extra.since = 0;
            extra.next_free = self.free_extra.replace(at);
            let marks = std::mem::replace(&mut extra.marks, Marks::NONE);
            Some((extra.waker.take(), marks))
        });
        let (waker, marks) = extra.unwrap_or((None, Marks::NONE));
        let (slot, scope) = self.unlink(index);
        Removed {
            waker,
            slot,
            scope,
            marks,
        }
    }

    /// As `remove`, for a node with nothing but a slot and a scope. `None`: it has more, and stays.
    #[inline]
    pub(super) fn remove_plain(&self, index: u32) -> Option<(Option<NonNull<Header>>, u32)> {
        let plain = self.update(index, |node| node.extra == NONE);
        plain.then(|| self.unlink(index))
    }

    /// Takes a node out of its task's list, and frees it.
    #[inline(always)]
    fn unlink(&self, index: u32) -> (Option<NonNull<Header>>, u32) {
        self.with(|Lists { nodes, .. }| {
            let node = &mut nodes[index as usize];
            let (prev, next, scope) = (node.prev, node.next, node.scope);
            node.next = self.free.replace(index);
            let slot = node.slot.take();
            let Some(header) = slot else {
                return (None, scope);
            };
            if next != NONE {
                nodes[next as usize].prev = prev;
            }
            if prev != NONE {
                nodes[prev as usize].next = next;
            } else {
                // SAFETY: the slot stands in the arena of the same `Tasks` and never moves; headers
                // are only borrowed shared.
                unsafe { header.as_ref() }.nodes().set(next);
            }
            (slot, scope)
        })
    }

    /// Calls `f` for every node of the task, newest first. A node must not be removed by it.
    pub(super) fn for_each(&self, slot: &Header, mut f: impl FnMut(u32)) {
        let mut index = slot.nodes().get();
        while index != NONE {
            let next = self.update(index, |node| node.next);
            f(index);
            index = next;
        }
    }

    /// The task ended: its nodes belong to nobody.
    pub(super) fn orphan(&self, slot: &Header) {
        let mut index = slot.nodes().replace(NONE);
        while index != NONE {
            self.set_marks(index, Marks::NONE);
            index = self.update(index, |node| {
                node.slot = None;
                node.prev = NONE;
                std::mem::replace(&mut node.next, NONE)
            });
        }
    }

    /// How many nodes are taken.
    pub(super) fn in_use(&self) -> usize {
        self.with(|Lists { nodes, .. }| {
            let mut count = nodes.len();
            let mut free = self.free.get();
            while let Some(node) = nodes.get(free as usize) {
                count -= 1;
                free = node.next;
            }
            count
        })
    }
}
