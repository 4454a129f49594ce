//! Which cancellations a value carries, for combinators that judge how a body ended.
//!
//! **Guarantees.** A [`Cancelled`](super::Cancelled) counts for the scope whose request it is, and
//! a scope knows how many of its values live. So a combinator that compares the number before its
//! body began with the number after it ended learns whether the body's value carries one, of
//! whatever type that value is; and one that has to drop such a value can leave the request pending.

use super::handle::RawTask;
use super::running;
use super::slot::{BARE, FORGIVEN, Header, ROOT};
use super::tasks::Tasks;

impl Tasks {
    /// Calls `f` with every scope from the current one to the task itself.
    fn each_scope(&self, slot: &Header, mut f: impl FnMut(u32)) {
        let mut scope = slot.scope().get();
        while scope != BARE {
            f(scope);
            if scope == ROOT {
                break;
            }
            scope = self.scopes.parent(scope);
        }
    }

    /// How many values of the scope's requests live; with `last`, of its last request only.
    fn held(&self, slot: &Header, scope: u32, last: bool) -> usize {
        if scope == ROOT {
            slot.cold().map_or(0, |cold| {
                let requests = cold.requests.borrow();
                if last {
                    requests.held_of_last()
                } else {
                    requests.held()
                }
            })
        } else {
            self.scopes.held(scope, last)
        }
    }
}

/// How many cancellations of the running task's current scope, and of those outside it, are alive.
/// One more after a body than before it: the body's value carries one, or it was put away.
/// 0 outside any task.
pub fn cancellations_held() -> usize {
    running::with(|tasks| {
        let Some((tasks, slot)) = tasks.and_then(|tasks| Some((tasks, tasks.current_slot()?)))
        else {
            return 0;
        };
        let mut held = 0;
        tasks.each_scope(slot, |scope| held += tasks.held(slot, scope, false));
        held
    })
}

/// Drops a value whose cancellation something more important takes the place of. The requests to
/// the current scope and those outside it whose cancellation went with the value are pending
/// again: the next await that would suspend takes them. The counts of `cancelling()` stay.
/// asyncio: `task.uncancel(); task.cancel()`.
pub fn give_back<T>(value: T) {
    let Some(tasks) = running::owned() else {
        return drop(value);
    };
    let Some(slot) = tasks.current_slot() else {
        return drop(value);
    };
    let mut before = Vec::new();
    tasks.each_scope(slot, |scope| {
        before.push((scope, tasks.held(slot, scope, true)));
    });
    drop(value);
    for (scope, held) in before {
        let asked = scope != ROOT || tasks.cancelling(slot) > 0;
        if asked && tasks.held(slot, scope, true) < held {
            tasks.keep(slot, scope, true);
        }
    }
}

/// How often the running task was asked to stop, minus `uncancel`s; `None` outside any task of an
/// arena. As `current()` and its `cancelling()`.
pub fn current_cancelling() -> Option<u32> {
    running::with(|tasks| {
        let tasks = tasks?;
        Some(tasks.cancelling(tasks.current_slot()?))
    })
}

impl RawTask {
    /// A panic of the task, now or later, is not reported: who began it stopped waiting on purpose.
    pub(crate) fn forgive(&self) {
        self.slot().set(FORGIVEN);
    }

    /// As awaiting the task does: nothing drives a pending task of another loop meanwhile.
    ///
    /// # Panics
    /// When it is one.
    pub(crate) fn assert_driven(&self) {
        assert!(
            self.done() || running::is(self.tasks()),
            "the awaited task is attached to a different loop"
        );
    }
}
