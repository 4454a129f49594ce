//! What a loop's tasks wait for, and who waits for them, for people who look for what is stuck.
//!
//! **Guarantees.** Listing changes nothing, wakes nobody and runs no code of others. What a task
//! waits for, and which task awaits it directly, is always known: the wait nodes and the joiners'
//! wakers say it. Since when, and which task will wait for it later (a group for its children), is
//! known while [`Tasks::track`] is on: a program that does not look pays one load for it.
//!
//! **Who may touch it.** The loop's thread. `Core` tells the time, groups tell whom they wait for.

use super::handle::{LocalTask, RawTask};
use super::id::{TaskId, unpack};
use super::registry::TaskRef;
use super::slot::Header;
use super::tasks::Tasks;
use super::wait::WaitsFor;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// One pending task as [`Tasks::listing`] finds it.
#[derive(Clone, Debug)]
pub struct ListedTask {
    /// The task.
    pub task: TaskRef,
    /// The type of the future that is its body.
    pub body: &'static str,
    /// What it waits for, oldest first; empty when it runs, is queued, or waits only at futures of
    /// other crates.
    pub waits: Vec<ListedWait>,
    /// The tasks that are woken when it ends, or said that they will wait for it.
    pub awaited_by: Vec<TaskId>,
}

/// One pending await of a [`ListedTask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedWait {
    /// What it waits for.
    pub what: WaitsFor,
    /// Since when, by the loop's clock, if that was tracked.
    pub since: Option<u64>,
}

/// What is written down only while somebody looks.
#[derive(Default)]
pub(super) struct Tracked {
    on: Cell<bool>,
    /// Who will wait for whom: the keys are the awaited tasks. Pruned when it has doubled.
    awaiters: RefCell<HashMap<TaskId, Vec<TaskId>>>,
    prune_at: Cell<usize>,
}

/// The smallest table of awaiters that is pruned.
const PRUNE_FROM: usize = 64;

impl Tasks {
    /// Has waits note since when they wait, and groups note their children; or no more.
    pub fn track(&self, on: bool) {
        self.tracked.on.set(on);
        if !on {
            self.nodes.set_time(0);
            self.tracked.awaiters.borrow_mut().clear();
        }
    }

    /// Whether [`track`](Self::track) is on.
    #[inline]
    pub fn is_tracking(&self) -> bool {
        self.tracked.on.get()
    }

    /// The time that new waits note. To be called once in each iteration while tracking is on.
    pub fn set_time(&self, now: u64) {
        self.nodes.set_time(now);
    }

    /// All pending tasks of the arena.
    pub fn listing(&self) -> Vec<ListedTask> {
        let mut all = Vec::with_capacity(self.len());
        for index in 0..self.arena.end() {
            if let Some(slot) = self.arena.get(index)
                && let Some(listed) = self.list(slot)
            {
                all.push(listed);
            }
        }
        all.sort_by_key(|listed| listed.task.id());
        all
    }

    fn list(&self, slot: &Header) -> Option<ListedTask> {
        let task = self.task_ref(slot).filter(|_| slot.is_live())?;
        let mut waits = Vec::new();
        self.nodes.for_each(slot, |index| {
            waits.push(ListedWait {
                what: self.what(self.nodes.update(index, |node| node.what)),
                since: self.nodes.since(index),
            });
        });
        waits.reverse();
        let awaiters = self.tracked.awaiters.borrow();
        let mut awaited_by = awaiters.get(&task.id()).cloned().unwrap_or_default();
        awaited_by.retain(|id| *id != task.id());
        awaited_by.extend(self.joiner_of(slot));
        if let Some(cold) = slot.cold() {
            awaited_by.extend(cold.callbacks.borrow().awaiting());
        }
        Some(ListedTask {
            task,
            body: slot.vtable().map_or("?", |vtable| (vtable.name)()),
            waits,
            awaited_by,
        })
    }

    /// The task of this loop whose own waker is woken when `slot`'s task ends.
    fn joiner_of(&self, slot: &Header) -> Option<TaskId> {
        let word = slot.joiner_word();
        let awaiting = self.arena.get(unpack(word).0)?;
        (awaiting.is_live() && awaiting.word() == word)
            .then(|| awaiting.id())
            .flatten()
    }

    fn add_awaiter(&self, awaited: TaskId, awaiting: TaskId) {
        let tracked = &self.tracked;
        let mut awaiters = tracked.awaiters.borrow_mut();
        if awaiters.len() >= tracked.prune_at.get().max(PRUNE_FROM) {
            let shared = &self.shared;
            let live: std::collections::HashSet<TaskId> =
                shared.all().into_iter().map(|(_, id)| id).collect();
            awaiters.retain(|id, _| live.contains(id));
            tracked.prune_at.set(awaiters.len() * 2);
        }
        let list = awaiters.entry(awaited).or_default();
        if !list.contains(&awaiting) {
            list.push(awaiting);
        }
    }
}

impl LocalTask {
    /// Notes that this task will wait for the end of `awaited` though it does not await its handle
    /// now: a group for its child. Only for listings, and only while they are tracked. asyncio:
    /// `future_add_to_awaited_by`.
    pub fn will_await(&self, awaited: &RawTask) {
        let tasks = awaited.tasks();
        if tasks.is_tracking() {
            tasks.add_awaiter(awaited.id(), self.id());
        }
    }
}
