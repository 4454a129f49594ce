//! Cancel scopes: the part of a task that a timeout or a group may cancel alone.
//!
//! **Guarantees.** The scopes of a task form a tree with the task itself as its root. A request to
//! a scope is delivered only to waits within it. Opening, entering and closing is O(1) and takes
//! nothing from the heap when warm, as long as nobody cancels.
//!
//! ```text
//!   open ──▶ (enter ──▶ body polled ──▶ guard dropped)* ──▶ drop: closed
//!                         │
//!      current scope of the task = this one, so that new waits stand in it
//! ```
//!
//! A combinator (a timeout, say) uses it like this:
//!
//! ```text
//!   poll:  if scope.must_drop() { drop the body; the scope was cancelled }
//!          { let _inside = scope.enter(cx); polled = body.poll(cx); }
//!          Ready(v): if scope.cancelled_inside(): v carries this scope's Cancelled
//!          Pending:  if scope.must_drop() { as above }
//!   timer: canceller.cancel(None)
//! ```
//!
//! When a scope closes, what is left of its requests goes: undelivered ones are forgotten, values
//! that still live count for the scope outside from then on, nodes and scopes inside move there.

use super::arena::NONE;
use super::id::unpack;
use super::requests::Requests;
use super::running;
use super::slot::{BARE, Header, ROOT};
use super::tasks::Tasks;
use super::waker::{clone_waker, drop_waker};
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

struct State {
    /// The word of the task's waker.
    task: u64,
    generation: u32,
    parent: u32,
    /// Nodes that stand directly in it.
    nodes: u32,
    /// Scopes that stand directly in it.
    children: u32,
    /// It is entered.
    active: bool,
    /// It was entered at least once.
    polled: bool,
    open: bool,
    requests: Option<Box<Requests>>,
    /// Who polls the combinator.
    waker: Option<Waker>,
}

/// The arena of scopes of one loop.
pub(super) struct Scopes {
    list: UnsafeCell<Vec<State>>,
    free: Cell<u32>,
}

impl Default for Scopes {
    fn default() -> Self {
        Self {
            list: UnsafeCell::default(),
            free: Cell::new(NONE),
        }
    }
}

impl Scopes {
    /// `f` must not run code of others (drop, clone or wake a waker) nor call back into this type.
    #[inline]
    fn all<R>(&self, f: impl FnOnce(&mut Vec<State>) -> R) -> R {
        // SAFETY: one thread, and by the rule above, which this floor keeps, `f` does not come here
        // again; references do not leave `f`.
        f(unsafe { &mut *self.list.get() })
    }

    /// Reads or writes a scope, under the rule of `all`.
    #[inline]
    fn with<R>(&self, scope: u32, f: impl FnOnce(&mut State) -> R) -> R {
        self.all(|list| f(&mut list[scope as usize]))
    }

    /// Under the rule of `all`.
    pub(super) fn requests<R>(&self, scope: u32, f: impl FnOnce(&mut Requests) -> R) -> R {
        self.with(scope, |state| f(state.requests.get_or_insert_default()))
    }

    pub(super) fn is_kept(&self, scope: u32) -> bool {
        self.with(scope, |state| {
            state
                .requests
                .as_ref()
                .is_some_and(|requests| requests.kept)
        })
    }

    /// How many values of its requests live; with `last`, of its last request only.
    pub(super) fn held(&self, scope: u32, last: bool) -> usize {
        self.with(scope, |state| {
            state.requests.as_ref().map_or(0, |requests| {
                if last {
                    requests.held_of_last()
                } else {
                    requests.held()
                }
            })
        })
    }

    pub(super) fn is_active(&self, scope: u32) -> bool {
        self.with(scope, |state| state.active)
    }

    pub(super) fn parent(&self, scope: u32) -> u32 {
        self.with(scope, |state| state.parent)
    }

    /// Whether `scope` is `outer` or stands somewhere inside it.
    pub(super) fn is_within(&self, mut scope: u32, outer: u32) -> bool {
        self.all(|list| {
            loop {
                if scope == outer || outer == ROOT {
                    return true;
                }
                match list.get(scope as usize) {
                    Some(state) => scope = state.parent,
                    None => return false,
                }
            }
        })
    }

    #[inline]
    pub(super) fn count_node(&self, scope: u32, change: i32) {
        if scope < BARE {
            self.with(scope, |state| {
                state.nodes = state.nodes.wrapping_add_signed(change);
            });
        }
    }

    /// The body waits at foreign awaits only, or was just `woken`. Returns whom to wake.
    pub(super) fn request_drop(&self, scope: u32, woken: bool) -> Option<Waker> {
        self.with(scope, |state| {
            if state.polled && !woken {
                state.requests.get_or_insert_default().drop_body = true;
            }
            state.waker.take()
        })
    }

    /// How many scopes are open.
    pub(super) fn in_use(&self) -> usize {
        self.all(|list| list.iter().filter(|state| state.open).count())
    }

    #[inline]
    fn open(&self, task: u64, parent: u32) -> u32 {
        self.all(|list| {
            if let Some(parent) = list.get_mut(parent as usize) {
                parent.children += 1;
            }
            let index = self.free.get();
            let Some(place) = list.get_mut(index as usize) else {
                list.push(State {
                    task,
                    generation: 0,
                    parent,
                    nodes: 0,
                    children: 0,
                    active: false,
                    polled: false,
                    open: true,
                    requests: None,
                    waker: None,
                });
                return list.len() as u32 - 1;
            };
            self.free.set(place.parent);
            // A closed scope has no requests and no waker.
            place.task = task;
            place.parent = parent;
            place.nodes = 0;
            place.children = 0;
            place.active = false;
            place.polled = false;
            place.open = true;
            index
        })
    }
}

/// A cancel scope of the task that opened it; see the module of the same name.
///
/// Outside any task, and inside `.bare()`, it does nothing.
/// asyncio has no object for it: `timeout` and `TaskGroup` cancel the whole task and count.
pub struct Scope {
    inner: Option<(Rc<Tasks>, u32)>,
}

impl Scope {
    /// Opens a scope inside the current scope of the running task.
    #[inline]
    pub fn open() -> Self {
        let inner = running::owned().and_then(|tasks| {
            let slot = tasks.waiting_slot()?;
            let index = tasks.scopes.open(slot.word(), slot.scope().get());
            Some((tasks, index))
        });
        Self { inner }
    }

    /// The body of the scope is polled while the guard lives. `cx` is the combinator's own
    /// context: it is woken when the scope is cancelled and no wait inside could hear of it.
    #[inline]
    pub fn enter(&self, cx: &Context<'_>) -> ScopeGuard<'_> {
        let nothing = ScopeGuard { entered: None };
        let Some((tasks, index)) = &self.inner else {
            return nothing;
        };
        let Some(slot) = tasks.waiting_slot() else {
            return nothing;
        };
        let word = slot.word();
        let (elsewhere, known) = tasks.scopes.with(*index, |state| {
            state.active = true;
            state.polled = true;
            let known = state
                .waker
                .as_ref()
                .is_some_and(|old| old.will_wake(cx.waker()));
            (state.task != word, known)
        });
        if !known {
            let new = clone_waker(cx.waker());
            let old = tasks.scopes.with(*index, |state| state.waker.replace(new));
            if let Some(old) = old {
                drop_waker(old);
            }
        }
        if elsewhere {
            tasks.move_scope(*index, slot);
        }
        let outer = slot.scope().replace(*index);
        ScopeGuard {
            entered: Some(Inside {
                tasks,
                slot,
                word,
                outer,
                scope: *index,
            }),
        }
    }

    /// Cancels what waits inside, and nothing else; see [`Canceller::cancel`].
    pub fn cancel(&self, message: Option<Arc<str>>) {
        self.canceller().cancel(message);
    }

    /// A handle that cancels the scope and does not keep it open.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            inner: self.inner.as_ref().map(|(tasks, index)| {
                let generation = tasks.scopes.with(*index, |state| state.generation);
                (tasks.clone(), *index, generation)
            }),
        }
    }

    /// Whether it does nothing: it was opened outside any task of an arena, or inside `.bare()`. A
    /// combinator that shall end its body all the same drops it.
    pub fn is_inert(&self) -> bool {
        self.inner.is_none()
    }

    /// The scope was cancelled and its body waits only at futures that can not be cancelled by a
    /// value: the combinator must drop it. To be asked before and after each poll of the body.
    #[inline]
    pub fn must_drop(&self) -> bool {
        self.inner.as_ref().is_some_and(|(tasks, index)| {
            tasks.scopes.with(*index, |state| {
                state
                    .requests
                    .as_ref()
                    .is_some_and(|requests| requests.drop_body)
            })
        })
    }

    /// Whether a [`Cancelled`](super::Cancelled) of this scope is still alive. After the body
    /// returned: its output carries it.
    pub fn cancelled_inside(&self) -> bool {
        self.inner.as_ref().is_some_and(|(tasks, index)| {
            tasks.scopes.with(*index, |state| {
                state
                    .requests
                    .as_ref()
                    .is_some_and(|requests| requests.is_carried())
            })
        })
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        if let Some((tasks, index)) = self.inner.take() {
            tasks.close_scope(index);
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("in_task", &self.inner.is_some())
            .field("must_drop", &self.must_drop())
            .finish()
    }
}

/// Cancels a [`Scope`] from elsewhere on the loop's thread: from a timer, from a child's end.
#[derive(Clone)]
pub struct Canceller {
    inner: Option<(Rc<Tasks>, u32, u32)>,
}

impl Canceller {
    /// Cancels what waits inside the scope, and nothing else. Each pending wait in it ends with
    /// `Cancelled`; if the body runs or was just woken, its next await does; if it waits at
    /// foreign futures only, [`Scope::must_drop`] becomes true and the combinator is woken.
    /// The task's own count of requests does not change. Does nothing when the scope is closed.
    pub fn cancel(&self, message: Option<Arc<str>>) {
        if let Some((tasks, index, generation)) = &self.inner {
            tasks.cancel_open_scope(*index, *generation, message);
        }
    }

    /// Index and generation of the scope, if it is one of `tasks`.
    #[inline]
    pub(super) fn scope_in(&self, tasks: &Tasks) -> Option<(u32, u32)> {
        let (of, index, generation) = self.inner.as_ref()?;
        std::ptr::eq(&raw const **of, tasks).then_some((*index, *generation))
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Inside<'a> {
    tasks: &'a Tasks,
    slot: &'a Header,
    /// The slot's, while the task is in it.
    word: u64,
    outer: u32,
    scope: u32,
}

/// The scope is the current one of its task; see [`Scope::enter`].
#[must_use = "the scope is left when the guard is dropped"]
pub struct ScopeGuard<'a> {
    entered: Option<Inside<'a>>,
}

impl fmt::Debug for ScopeGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeGuard").finish_non_exhaustive()
    }
}

impl Drop for ScopeGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(Inside {
            tasks,
            slot,
            word,
            outer,
            scope,
        }) = self.entered
        else {
            return;
        };
        tasks.scopes.with(scope, |state| state.active = false);
        if slot.word() == word && slot.is_live() {
            slot.scope().set(outer);
            if slot.kept() != 0 {
                tasks.settle(slot, scope);
            }
        }
    }
}

impl Tasks {
    /// The task that a scope belongs to, while it is pending.
    fn task_of_scope(&self, scope: u32) -> Option<&Header> {
        let (index, generation) = unpack(self.scopes.with(scope, |state| state.task));
        self.pending(index, generation)
    }

    /// Cancels a scope if it is still open; see [`Canceller::cancel`].
    pub(super) fn cancel_open_scope(&self, scope: u32, generation: u32, message: Option<Arc<str>>) {
        let task = self.scopes.with(scope, |state| {
            (state.open && state.generation == generation).then_some(state.task)
        });
        if let Some((index, generation)) = task.map(unpack)
            && let Some(slot) = self.pending(index, generation)
        {
            self.cancel_scope(slot, scope, message);
        }
    }

    /// Takes a scope out of its tree: what stands in it moves to the scope outside.
    fn detach_scope(&self, scope: u32) -> (Option<&Header>, u32) {
        let slot = self.task_of_scope(scope);
        let (parent, nodes, children) = self
            .scopes
            .with(scope, |state| (state.parent, state.nodes, state.children));
        if let Some(slot) = slot {
            if self.scopes.with(scope, |state| state.requests.is_some()) {
                self.forget_requests(slot, scope);
            }
            if nodes > 0 {
                self.nodes.for_each(slot, |index| {
                    self.nodes.update(index, |node| {
                        if node.scope == scope {
                            node.scope = parent;
                        }
                    });
                });
                self.scopes.count_node(parent, nodes as i32);
            }
        }
        self.scopes.all(|list| {
            if children > 0 {
                for state in list.iter_mut() {
                    if state.open && state.parent == scope {
                        state.parent = parent;
                    }
                }
            }
            if let Some(parent) = list.get_mut(parent as usize) {
                parent.children = parent.children + children - 1;
            }
        });
        (slot, parent)
    }

    #[cold]
    fn forget_requests(&self, slot: &Header, scope: u32) {
        self.unmark(slot, scope);
        self.keep(slot, scope, false);
    }

    #[inline]
    fn close_scope(&self, scope: u32) {
        let closed = self.scopes.all(|list| {
            let state = &mut list[scope as usize];
            if state.requests.is_some() || state.nodes > 0 || state.children > 0 || state.active {
                return None;
            }
            // Nothing stands in it, nobody asked it to stop, its last guard was dropped.
            let waker = state.waker.take();
            state.open = false;
            state.generation = state.generation.wrapping_add(1);
            let parent = std::mem::replace(&mut state.parent, self.scopes.free.replace(scope));
            if let Some(parent) = list.get_mut(parent as usize) {
                parent.children -= 1;
            }
            Some(waker)
        });
        match closed {
            None => self.close_used_scope(scope),
            Some(Some(waker)) => drop_waker(waker),
            Some(None) => {}
        }
    }

    fn close_used_scope(&self, scope: u32) {
        let (slot, parent) = self.detach_scope(scope);
        if let Some(slot) = slot
            && slot.scope().get() == scope
        {
            // Its guard was forgotten.
            slot.scope().set(parent);
        }
        let (requests, waker) = self.scopes.with(scope, |state| {
            let gone = (state.requests.take(), state.waker.take());
            state.open = false;
            state.generation = state.generation.wrapping_add(1);
            state.parent = self.scopes.free.replace(scope);
            gone
        });
        if let Some(slot) = slot
            && let Some(requests) = requests
        {
            for request in requests.into_alive() {
                self.requests(slot, parent, |requests| requests.track(request));
            }
        }
        drop(waker);
    }

    /// A combinator was moved to another task and is polled there. A request that reached nobody
    /// goes with it.
    #[cold]
    fn move_scope(&self, scope: u32, slot: &Header) {
        let undelivered = self.scopes.with(scope, |state| {
            state
                .requests
                .as_ref()
                .is_some_and(|requests| requests.is_undelivered())
        });
        self.detach_scope(scope);
        let parent = slot.scope().get();
        self.scopes.with(scope, |state| {
            state.task = slot.word();
            state.parent = parent;
            state.nodes = 0;
            state.children = 0;
        });
        self.scopes.all(|list| {
            if let Some(parent) = list.get_mut(parent as usize) {
                parent.children += 1;
            }
        });
        if undelivered {
            self.requests(slot, scope, Requests::restart);
            self.keep(slot, scope, true);
        }
    }
}
