//! How a request finds the awaits it is delivered to.
//!
//! **The rules** (of a request to a task; a scope's is the same within its own subtree):
//!
//! | the task | the request |
//! |---|---|
//! | did not start | is kept; the first step drops the body without polling it |
//! | runs | is kept; the first await that would suspend takes it |
//! | waits at ringloop awaits | marks all its nodes and wakes them; a join of a pending task forwards it to that task instead |
//! | was woken and has no node | is kept |
//! | waits at foreign awaits only | the next step drops the body |
//! | ended | is refused |
//!
//! A step that ends pending with a request still kept has met no ringloop await that suspends:
//! nodes of other branches are marked, and without any the body is dropped. A marked node that
//! goes away unread gives the request back: it is kept again. What is undelivered when the body
//! returns makes the task cancelled.
//!
//! Wakers run code of others, so they are collected and fired at the end.

use super::call_all::call_all;
use super::cancelled::Cancelled;
use super::nodes::{Marks, UNMARKED};
use super::noted::Noted;
use super::requests::Requests;
use super::slot::{
    BARE, CANCELLING, DONE, DROP_BODY, Header, ROOT, RUNNING, SCHEDULED, STARTED, VISITED,
};
use super::tasks::Tasks;
use super::wait::WaitsFor;
use super::waker::drop_waker;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// What a request set off.
#[derive(Default)]
pub(super) struct Effects {
    /// Tasks that are joined by what was cancelled.
    joined: Vec<(u32, u32)>,
    wakers: Vec<Waker>,
}

/// Who is told of the request to a scope.
enum Told {
    Task((u32, u32)),
    Waker(Waker),
}

impl Tasks {
    /// The requests of a task (`ROOT`) or of one of its scopes.
    pub(super) fn requests<R>(
        &self,
        slot: &Header,
        scope: u32,
        f: impl FnOnce(&mut Requests) -> R,
    ) -> R {
        if scope == ROOT {
            f(&mut slot.cold_or_new().requests.borrow_mut())
        } else {
            self.scopes.requests(scope, f)
        }
    }

    /// Keeps a request, or keeps it no more; the header counts those that are kept.
    pub(super) fn keep(&self, slot: &Header, scope: u32, kept: bool) {
        let was = self.requests(slot, scope, |requests| {
            std::mem::replace(&mut requests.kept, kept)
        });
        match (was, kept) {
            (false, true) => slot.set_kept(slot.kept() + 1),
            (true, false) => slot.set_kept(slot.kept() - 1),
            _ => {}
        }
    }

    /// Cancels a task and, where it waits for other tasks, those. False: it has ended.
    pub(super) fn cancel(&self, slot: &Header, message: Option<Arc<str>>) -> bool {
        if slot.has(DONE) {
            return false;
        }
        let mut effects = Effects::default();
        let mut visited = Vec::new();
        effects.joined.push((slot.index(), slot.generation()));
        while let Some((index, generation)) = effects.joined.pop() {
            if let Some(slot) = self.pending(index, generation)
                && !slot.has(VISITED)
            {
                slot.set(VISITED);
                visited.push(slot);
                slot.set(CANCELLING);
                self.requests(slot, ROOT, |requests| requests.count += 1);
                self.request(slot, ROOT, message.clone(), &mut effects);
            }
        }
        for slot in visited {
            slot.clear(VISITED);
        }
        call_all(effects.wakers, Waker::wake);
        true
    }

    /// Cancels one scope of a task.
    pub(super) fn cancel_scope(&self, slot: &Header, scope: u32, message: Option<Arc<str>>) {
        let mut effects = Effects::default();
        self.request(slot, scope, message.clone(), &mut effects);
        let joined = effects.joined.into_iter().map(Told::Task);
        let wakers = effects.wakers.into_iter().map(Told::Waker);
        call_all(joined.chain(wakers), |told| match told {
            Told::Task((index, generation)) => {
                if let Some(joined) = self.pending(index, generation) {
                    self.cancel(joined, message.clone());
                }
            }
            Told::Waker(waker) => waker.wake(),
        });
    }

    fn request(&self, slot: &Header, scope: u32, message: Option<Arc<str>>, effects: &mut Effects) {
        self.requests(slot, scope, |requests| requests.ask(slot.id(), message));
        let active = if scope == ROOT {
            slot.has(RUNNING) || !slot.has(STARTED)
        } else {
            slot.has(RUNNING) && self.scopes.is_active(scope)
        };
        if active {
            self.keep(slot, scope, true);
        } else if !self.mark_nodes(slot, scope, effects) {
            self.keep(slot, scope, true);
            if scope != ROOT {
                let woken = slot.has(SCHEDULED | RUNNING);
                effects
                    .wakers
                    .extend(self.scopes.request_drop(scope, woken));
            } else if !slot.has(SCHEDULED) {
                slot.set(DROP_BODY);
                self.schedule(slot.word());
            }
        }
    }

    /// Marks the nodes within a scope. False: there is none.
    fn mark_nodes(&self, slot: &Header, scope: u32, effects: &mut Effects) -> bool {
        let mut found = Vec::new();
        self.nodes.for_each(slot, |index| {
            let stands_in = self.nodes.update(index, |node| node.scope);
            if scope == ROOT || self.scopes.is_within(stands_in, scope) {
                found.push(index);
            }
        });
        for &index in found.iter().rev() {
            self.mark_node(slot, scope, index, effects);
        }
        !found.is_empty()
    }

    fn mark_node(&self, slot: &Header, scope: u32, index: u32, effects: &mut Effects) {
        let Marks {
            mark, forwarded, ..
        } = self.nodes.marks(index);
        let join = self.nodes.update(index, |node| node.what.joined());
        let marked = mark != UNMARKED && !forwarded;
        let outer = !marked || self.scopes.is_within(mark, scope);
        if !marked && self.pending(join.0, join.1).is_some() {
            effects.joined.push(join);
            let mut marks = self.nodes.marks(index);
            marks.forwarded = true;
            if mark == UNMARKED || self.scopes.is_within(mark, scope) {
                marks.mark = scope;
            }
            self.nodes.set_marks(index, marks);
            self.requests(slot, scope, |requests| requests.delivered = true);
            return;
        }
        if !outer || (marked && mark == scope) {
            return;
        }
        if marked && scope != ROOT {
            // The outer scope's request stands for the inner one's.
            self.requests(slot, mark, |requests| {
                requests.marked -= 1;
                requests.delivered = true;
            });
        }
        self.requests(slot, scope, |requests| requests.marked += 1);
        // The waker is used up: whoever polls the leaf after this gives the node a new one.
        let hidden = marked && scope == ROOT;
        let marks = Marks {
            mark: scope,
            under: if hidden { mark } else { UNMARKED },
            forwarded: false,
        };
        self.nodes.set_marks(index, marks);
        match self.nodes.replace_waker(index, None) {
            Some(waker) => effects.wakers.push(waker),
            None => self.schedule(slot.word()),
        }
    }

    /// A marked node reads its mark. `None`: the request went to the awaited task instead.
    pub(super) fn deliver(&self, index: u32) -> Option<Cancelled> {
        let Marks {
            mark,
            under,
            forwarded,
        } = self.nodes.marks(index);
        if forwarded {
            return None;
        }
        self.nodes.set_marks(index, Marks::NONE);
        let slot = self.slot_of(self.nodes.update(index, |node| node.slot))?;
        if under != UNMARKED {
            self.requests(slot, under, |requests| {
                requests.marked -= 1;
                requests.delivered = true;
            });
        }
        Some(self.requests(slot, mark, |requests| {
            requests.marked -= 1;
            requests.delivered = true;
            requests.value()
        }))
    }

    /// The first await that would suspend takes the outermost request kept for it; inner ones are
    /// done with that. Returns whose it was.
    #[cold]
    pub(super) fn take_kept(&self, slot: &Header) -> Option<u32> {
        let mut found = None;
        let mut scope = slot.scope().get();
        while scope != BARE {
            if self.is_kept(slot, scope) {
                self.keep(slot, scope, false);
                self.requests(slot, scope, |requests| {
                    requests.delivered = true;
                    requests.drop_body = false;
                });
                found = Some(scope);
            }
            if scope == ROOT {
                break;
            }
            scope = self.scopes.parent(scope);
        }
        found
    }

    fn is_kept(&self, slot: &Header, scope: u32) -> bool {
        if scope == ROOT {
            slot.cold().is_some_and(|cold| cold.requests.borrow().kept)
        } else {
            self.scopes.is_kept(scope)
        }
    }

    /// A poll of a scope's body, or of a task's, ends and a request is still kept: other branches
    /// get it, or the body is dropped.
    #[cold]
    pub(super) fn settle(&self, slot: &Header, scope: u32) {
        if !self.is_kept(slot, scope) {
            return;
        }
        let mut effects = Effects::default();
        if self.mark_nodes(slot, scope, &mut effects) {
            self.keep(slot, scope, false);
            for (index, generation) in std::mem::take(&mut effects.joined) {
                if let Some(joined) = self.pending(index, generation) {
                    let message = self.requests(slot, scope, |requests| requests.message());
                    self.cancel(joined, message);
                }
            }
            call_all(effects.wakers, Waker::wake);
        } else if scope == ROOT {
            slot.set(DROP_BODY);
            self.schedule(slot.word());
        } else {
            self.requests(slot, scope, |requests| requests.drop_body = true);
        }
    }

    pub(super) fn cancelling(&self, slot: &Header) -> u32 {
        slot.cold().map_or(0, |cold| cold.requests.borrow().count)
    }

    /// One request less; at 0 what is undelivered is withdrawn.
    pub(super) fn uncancel(&self, slot: &Header) -> u32 {
        let Some(cold) = slot.cold() else { return 0 };
        let count = {
            let mut requests = cold.requests.borrow_mut();
            requests.count = requests.count.saturating_sub(1);
            requests.count
        };
        if count == 0 && !slot.has(DONE) {
            slot.clear(CANCELLING | DROP_BODY);
            self.keep(slot, ROOT, false);
            self.unmark(slot, ROOT);
        }
        count
    }

    /// Takes a scope's marks from the nodes. An inner scope's that was hidden below comes back.
    pub(super) fn unmark(&self, slot: &Header, scope: u32) {
        let mut removed = 0;
        self.nodes.for_each(slot, |index| {
            let mut marks = self.nodes.marks(index);
            if marks.mark == scope && !marks.forwarded {
                marks.mark = std::mem::replace(&mut marks.under, UNMARKED);
                removed += 1;
            } else if marks.under == scope {
                marks.under = UNMARKED;
                removed += 1;
            } else if marks.mark == scope {
                marks.mark = ROOT;
            }
            self.nodes.set_marks(index, marks);
        });
        self.requests(slot, scope, |requests| requests.marked -= removed);
    }

    /// Whether a body that just returned makes its task cancelled.
    #[cold]
    pub(super) fn ends_cancelled(&self, slot: &Header) -> bool {
        slot.cold().is_some_and(|cold| {
            let requests = cold.requests.borrow();
            requests.is_undelivered() || requests.is_carried()
        })
    }

    /// Adds a node for a wait of the running task.
    #[inline(always)]
    pub(super) fn add_node(&self, slot: &Header, waker: Option<Waker>, what: Noted) -> u32 {
        self.scopes.count_node(slot.scope().get(), 1);
        self.nodes.register(slot, waker, what)
    }

    /// The wait goes; a mark it did not read is given back.
    #[inline]
    pub(super) fn remove_node(&self, index: u32) {
        match self.nodes.remove_plain(index) {
            Some((None, _)) => {}
            Some((Some(_), scope)) => self.scopes.count_node(scope, -1),
            None => self.remove_with_extra(index),
        }
    }

    #[inline(never)]
    fn remove_with_extra(&self, index: u32) {
        let removed = self.nodes.remove(index);
        if let Some(slot) = self.slot_of(removed.slot) {
            self.scopes.count_node(removed.scope, -1);
            let marks = removed.marks;
            if marks.mark != UNMARKED && !marks.forwarded {
                self.lost_mark(slot, marks.mark, marks.under);
            }
        }
        if let Some(waker) = removed.waker {
            drop_waker(waker);
        }
    }

    /// The slot of a node of this loop.
    #[inline]
    fn slot_of(&self, slot: Option<NonNull<Header>>) -> Option<&Header> {
        // SAFETY: nodes name slots of the arena beside them, which never move and stay while
        // `self` lives; headers are only borrowed shared.
        slot.map(|slot| unsafe { slot.as_ref() })
    }

    #[cold]
    fn lost_mark(&self, slot: &Header, mark: u32, under: u32) {
        for scope in [mark, under] {
            if scope == UNMARKED {
                continue;
            }
            let lost = self.requests(slot, scope, |requests| {
                requests.marked -= 1;
                requests.marked == 0 && !requests.delivered
            });
            if lost {
                self.keep(slot, scope, true);
            }
        }
    }

    /// A wait is polled again by the same task: the waker may be another. `None` is the task's own.
    #[inline]
    pub(super) fn refresh(&self, index: u32, waker: Option<&Waker>) {
        let same = self.nodes.has_waker(index, |old| match (old, waker) {
            (None, None) => true,
            (Some(old), Some(new)) => old.will_wake(new),
            _ => false,
        });
        if !same {
            let old = self.nodes.replace_waker(index, waker.cloned());
            drop(old);
        }
    }

    /// The header of a task that is still pending.
    pub(super) fn pending(&self, index: u32, generation: u32) -> Option<&Header> {
        let slot = self.arena.get(index)?;
        (slot.generation() == generation && slot.is_live()).then_some(slot)
    }

    /// What the task waits for.
    pub(super) fn waits_for(&self, slot: &Header) -> Vec<WaitsFor> {
        let mut all = Vec::new();
        self.nodes.for_each(slot, |index| {
            all.push(self.what(self.nodes.update(index, |node| node.what)));
        });
        all.reverse();
        all
    }
}
