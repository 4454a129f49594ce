//! Contexts: which values the context variables have in one strand of execution.
//!
//! **Guarantees.** Every task and every callback has variables of its own: a copy, taken when it is
//! made, of its maker's. Copying is O(1) and takes nothing from the heap; the first change after it
//! copies the list. A program without context variables pays one null word per task and callback.
//! User code (clones and destructors of values) never runs while anything here is borrowed.
//!
//! ```text
//!                      copy (spawn, call_soon, …)
//!   (none) ── set ──▶ Changed ───────────────────▶ Copied ── set, or get_context ──▶ Changed
//!                        ▲ named by: the place it is current in, Context, Token
//! ```
//!
//! What is current is a pointer to the *place* that holds the variables: the slot of the task that
//! runs, the callback's frame, the frame of [`Context::run`]. Where none is entered the thread has a
//! place of its own, which goes with the thread.
//!
//! **Who may touch it.** `step.rs` and `callbacks.rs` enter places; `context_var.rs` reads and
//! changes the current one. Contexts belong to one thread; [`ContextSnapshot`] crosses.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::ptr::null;
use std::rc::Rc;
use std::sync::Arc;

/// The value of a variable.
pub(super) type Value = Arc<dyn Any + Send + Sync>;

/// What a variable is, without its type.
#[derive(Clone, Copy)]
pub(super) struct Var {
    pub(super) id: u64,
    pub(super) name: &'static str,
    pub(super) inherited: bool,
}

#[derive(Clone)]
struct Entry {
    var: Var,
    value: Value,
}

/// Values, in the order in which they were first set.
#[derive(Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    /// What a copy gets, where that is not all.
    heirs: OnceCell<Option<Rc<Node>>>,
}

impl Entries {
    pub(super) fn find(&self, id: u64) -> Option<&Value> {
        let entry = self.list.iter().find(|entry| entry.var.id == id);
        entry.map(|entry| &entry.value)
    }

    /// Sets a value, or removes it; what it was is the caller's to drop.
    fn change(&mut self, var: Var, value: Option<Value>) -> Old {
        let heirs = self.heirs.take();
        let at = self.list.iter().position(|entry| entry.var.id == var.id);
        let value = match (at, value) {
            (Some(at), Some(value)) => Some(std::mem::replace(&mut self.list[at].value, value)),
            (Some(at), None) => Some(self.list.remove(at).value),
            (None, Some(value)) => {
                self.list.push(Entry { var, value });
                None
            }
            (None, None) => None,
        };
        Old {
            value,
            _heirs: heirs,
        }
    }
}

/// What a change left over.
pub(super) struct Old {
    pub(super) value: Option<Value>,
    _heirs: Option<Option<Rc<Node>>>,
}

pub(super) enum Node {
    /// A copy that nobody changed; others may have it too.
    Copied(Entries),
    /// One context. What it holds now is a `Copied`.
    Changed(RefCell<Option<Rc<Node>>>),
}

impl Node {
    /// Nothing, or what a copy of this list gets.
    fn heirs(self: &Rc<Self>) -> Option<Rc<Self>> {
        let Self::Copied(entries) = &**self else {
            return None;
        };
        if entries.list.iter().all(|entry| entry.var.inherited) {
            return Some(self.clone());
        }
        let heirs = entries.heirs.get_or_init(|| {
            let list = entries.list.iter().filter(|entry| entry.var.inherited);
            Self::of(list.cloned().collect())
        });
        heirs.clone()
    }

    fn of(list: Vec<Entry>) -> Option<Rc<Self>> {
        let entries = Entries {
            list,
            heirs: OnceCell::new(),
        };
        (!entries.list.is_empty()).then(|| Rc::new(Self::Copied(entries)))
    }
}

/// The variables of one strand of execution; one word.
#[derive(Clone, Default)]
pub(super) struct Vars(Option<Rc<Node>>);

impl Vars {
    pub(super) const NONE: Self = Self(None);

    /// A copy of the current ones, for a task or callback that is made now.
    #[inline]
    pub(super) fn inherit() -> Self {
        with_current(|place| {
            look(place, |vars| match &vars.0 {
                None => Self::NONE,
                Some(_) => vars.copy(),
            })
        })
        .unwrap_or(Self::NONE)
    }

    #[inline(never)]
    fn copy(&self) -> Self {
        match self.0.as_deref() {
            // Of what is named and was never changed, such as the context of a whole program.
            Some(Node::Changed(now)) if now.borrow().is_none() => Self::NONE,
            _ => Self(self.entries().and_then(|entries| entries.heirs())),
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The list as it is now; it does not change any more while the caller holds it.
    pub(super) fn entries(&self) -> Option<Rc<Node>> {
        match self.0.as_deref()? {
            Node::Copied(_) => self.0.clone(),
            Node::Changed(now) => now.borrow().clone(),
        }
    }

    /// The context of this strand, from now on named.
    fn context(&mut self) -> Context {
        if let Some(node) = &self.0
            && matches!(**node, Node::Changed(_))
        {
            return Context(node.clone());
        }
        let node = Rc::new(Node::Changed(RefCell::new(self.0.take())));
        self.0 = Some(node.clone());
        Context(node)
    }
}

thread_local! {
    /// The place of what runs now; null is the thread's own.
    static CURRENT: Cell<*const Cell<Vars>> = const { Cell::new(null()) };
    static THREADS_OWN: Cell<Vars> = const { Cell::new(Vars::NONE) };
}

/// The place that was current before.
#[must_use = "what was entered must be left"]
pub(super) struct Outer(*const Cell<Vars>);

/// Makes the variables in `place` the current ones.
///
/// # Safety
/// `place` stays where it is until [`leave`] is called with what this returns; entering and leaving
/// nest.
#[inline]
pub(super) unsafe fn enter(place: &Cell<Vars>) -> Outer {
    Outer(CURRENT.with(|current| current.replace(place)))
}

/// Ends what [`enter`] began.
#[inline]
pub(super) fn leave(outer: Outer) {
    CURRENT.with(|current| current.set(outer.0));
}

/// Calls `f` with the current place. `None`: it is the thread's own, and the thread is at its end.
/// `f` must not run code of others.
#[inline]
fn with_current<R>(f: impl FnOnce(&Cell<Vars>) -> R) -> Option<R> {
    let place = CURRENT.with(Cell::get);
    // SAFETY: null, or a place that `enter`'s caller keeps until `leave`.
    match unsafe { place.as_ref() } {
        Some(place) => Some(f(place)),
        None => THREADS_OWN.try_with(f).ok(),
    }
}

/// Looks at what stands in a place. `f` must not come back to the place, nor run code of others.
#[inline]
fn look<R>(place: &Cell<Vars>, f: impl FnOnce(&Vars) -> R) -> R {
    // SAFETY: one thread, and by the rule above nobody writes the place meanwhile.
    f(unsafe { &*place.as_ptr() })
}

/// Changes what stands in a place. `f` must not come back to the place.
#[inline]
fn alter<R>(place: &Cell<Vars>, f: impl FnOnce(&mut Vars) -> R) -> R {
    let mut vars = place.take();
    let result = f(&mut vars);
    place.set(vars);
    result
}

/// The current values, to be searched.
#[inline]
pub(super) fn current_entries() -> Option<Rc<Node>> {
    with_current(|place| look(place, Vars::entries)).flatten()
}

/// Changes one variable of the current context, and says which context that is. `None`: the thread
/// is at its end, and nothing was changed.
pub(super) fn change(var: Var, value: Option<Value>) -> Option<(Old, Context)> {
    let context = with_current(|place| alter(place, Vars::context))?;
    let old = context.change(var, value);
    Some((old, context))
}

/// Calls `f` with the variables that stand in a place, from outside it: what `f` sets is lost where
/// nobody has named them.
pub(super) fn run_as_in<R>(place: &Cell<Vars>, f: impl FnOnce() -> R) -> R {
    look(place, Vars::clone).run(f)
}

/// The context of what stands in a place, from now on named.
pub(super) fn context_in(place: &Cell<Vars>) -> Context {
    alter(place, Vars::context)
}

/// A copy of the current context: what a task made now would begin with. O(1).
///
/// Variables that are declared not to be inherited ([`ContextVar::not_inherited`]) are left out of
/// every copy. asyncio: `contextvars.copy_context()`.
///
/// # Examples
/// ```
/// use ringloop::{ContextVar, copy_context};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
/// USER.set("ann");
/// let context = copy_context();
/// USER.set("bob");
/// assert_eq!(context.run(|| USER.get()), Some("ann"));
/// ```
///
/// [`ContextVar::not_inherited`]: super::ContextVar::not_inherited
pub fn copy_context() -> Context {
    Context::named(Vars::inherit())
}

/// The values of all context variables in one strand of execution, by name: clones name the same
/// context. asyncio: `contextvars.Context`.
///
/// It belongs to one thread; what other threads may run in is a [`ContextSnapshot`].
#[derive(Clone)]
pub struct Context(Rc<Node>);

impl Context {
    /// A context in which no variable has a value.
    pub fn new() -> Self {
        Self::named(Vars::NONE)
    }

    fn named(mut vars: Vars) -> Self {
        vars.context()
    }

    /// What a place holds to run in this context.
    pub(super) fn vars(&self) -> Vars {
        Vars(Some(self.0.clone()))
    }

    /// Calls `f` in this context: it sees the values set here, and what it sets stays here. The
    /// context may be the current one already. (asyncio refuses that.)
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        self.vars().run(f)
    }

    /// A copy, as [`copy_context`] makes one. asyncio: `Context.copy()`.
    pub fn copy(&self) -> Self {
        Self::named(self.vars().copy())
    }

    /// A copy that other threads may run in: of all variables that are inherited.
    pub fn snapshot(&self) -> ContextSnapshot {
        ContextSnapshot::of(&self.vars())
    }

    pub(super) fn entries(&self) -> Option<Rc<Node>> {
        self.vars().entries()
    }

    /// Whether it is the current one.
    pub(super) fn is_current(&self) -> bool {
        let current = with_current(|place| {
            look(place, |vars| {
                vars.0
                    .as_ref()
                    .is_some_and(|node| Rc::ptr_eq(node, &self.0))
            })
        });
        current == Some(true)
    }

    fn change(&self, var: Var, value: Option<Value>) -> Old {
        let Node::Changed(now) = &*self.0 else {
            unreachable!("a context that is named is a `Changed`")
        };
        let mut now = now.borrow_mut();
        let node = now.get_or_insert_with(|| Rc::new(Node::Copied(Entries::default())));
        if Rc::get_mut(node).is_none()
            && let Node::Copied(entries) = &**node
        {
            let list = entries.list.clone();
            let heirs = OnceCell::new();
            *node = Rc::new(Node::Copied(Entries { list, heirs }));
        }
        match Rc::get_mut(node) {
            Some(Node::Copied(entries)) => entries.change(var, value),
            _ => unreachable!("just made, and lists stand in contexts"),
        }
    }
}

impl Vars {
    /// Calls `f` with these variables as the current ones.
    pub(super) fn run<R>(self, f: impl FnOnce() -> R) -> R {
        struct Leave(Option<Outer>);
        impl Drop for Leave {
            fn drop(&mut self) {
                if let Some(outer) = self.0.take() {
                    leave(outer);
                }
            }
        }
        let place = Cell::new(self);
        // SAFETY: `place` outlives the guard, which leaves; nesting follows from the frames.
        let _leave = Leave(Some(unsafe { enter(&place) }));
        f()
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

fn list_names(f: &mut fmt::Formatter<'_>, list: &[Entry]) -> fmt::Result {
    f.write_str("Context ")?;
    f.debug_set()
        .entries(list.iter().map(|entry| entry.var.name))
        .finish()
}

impl fmt::Debug for Context {
    /// Names the variables that have a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entries().as_deref() {
            Some(Node::Copied(entries)) => list_names(f, &entries.list),
            _ => list_names(f, &[]),
        }
    }
}

/// The inherited values of a context at one time, for other threads.
///
/// [`call_soon_threadsafe`](crate::LoopHandle::call_soon_threadsafe) takes one along, so that its
/// callback sees the values of the thread that called.
///
/// # Examples
/// ```
/// use ringloop::{ContextSnapshot, ContextVar};
///
/// static JOB: ContextVar<u32> = ContextVar::new("job");
/// JOB.set(7);
/// let context = ContextSnapshot::new();
/// let seen = std::thread::spawn(move || (JOB.get(), context.run(|| JOB.get())));
/// assert_eq!(seen.join().unwrap(), (None, Some(7)));
/// ```
#[derive(Clone)]
pub struct ContextSnapshot(Option<Arc<[Entry]>>);

impl ContextSnapshot {
    /// What a task made now would begin with. Takes nothing from the heap when no variable has a
    /// value.
    pub fn new() -> Self {
        Self::of(&Vars::inherit())
    }

    fn of(vars: &Vars) -> Self {
        let heirs = vars.copy().0;
        Self(heirs.and_then(|node| match &*node {
            Node::Copied(entries) => Some(entries.list.as_slice().into()),
            Node::Changed(_) => None,
        }))
    }

    fn vars(&self) -> Vars {
        Vars(self.0.as_ref().and_then(|list| Node::of(list.to_vec())))
    }

    /// Calls `f` in a context of its own with these values.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        self.vars().run(f)
    }

    /// A context with these values, for this thread.
    pub fn to_context(&self) -> Context {
        Context::named(self.vars())
    }
}

impl Default for ContextSnapshot {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ContextSnapshot {
    /// Names the variables that have a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list_names(f, self.0.as_deref().unwrap_or_default())
    }
}
