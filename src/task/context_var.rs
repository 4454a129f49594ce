//! Context variables: values that follow a task, and the tasks and callbacks it makes.
//!
//! **Guarantees.** Reading a variable that was never set anywhere costs one load. A variable's
//! identity is a number it takes when it is set first, so it may stand anywhere, usually in a
//! `static`.

use super::context::{Context, Node, Value, Var, change, current_entries};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A variable with a value in each context. asyncio: `contextvars.ContextVar`.
///
/// Tasks and callbacks begin with a copy of their maker's values; what they set is seen by them and
/// by what they make, and by nobody else. Values are `Send + Sync`, because callbacks sent from
/// other threads and jobs on other threads take them along.
///
/// Outside any task and callback a thread has a context of its own, which begins empty.
///
/// # Examples
/// ```
/// use ringloop::{ContextVar, EventLoopExt, get_running_loop};
///
/// static REQUEST: ContextVar<u64> = ContextVar::new("request");
///
/// # ringloop::run(async {
/// REQUEST.set(17);
/// let child = get_running_loop().create_task(async {
///     assert_eq!(REQUEST.get(), Some(17));
///     REQUEST.set(18);
/// });
/// child.unwrap().await.unwrap();
/// assert_eq!(REQUEST.get(), Some(17), "what the child sets is the child's");
/// # }).unwrap();
/// ```
pub struct ContextVar<T> {
    name: &'static str,
    default: Option<fn() -> T>,
    inherited: bool,
    /// 0 until it is first set.
    id: AtomicU64,
    value: PhantomData<fn() -> T>,
}

/// What brings a variable back to where it was before a [`set`](ContextVar::set); see
/// [`reset`](ContextVar::reset). asyncio: `contextvars.Token`.
pub struct Token<T> {
    var: u64,
    old: Option<Value>,
    /// `None`: set while its thread ended.
    context: Option<Context>,
    value: PhantomData<fn() -> T>,
}

impl<T> Token<T> {
    /// The value before; `None` if the variable had none. asyncio: `Token.old_value`.
    pub fn old_value(&self) -> Option<T>
    where
        T: Clone + 'static,
    {
        self.old.as_deref()?.downcast_ref().cloned()
    }
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("had_value", &self.old.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a token was refused. Nothing was changed. asyncio: `ValueError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It came from another variable.
    OtherVariable,
    /// It was made in another context.
    OtherContext,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherVariable => "the token was created by a different ContextVar",
            Self::OtherContext => "the token was created in a different Context",
        })
    }
}

impl std::error::Error for TokenError {}

impl<T> ContextVar<T> {
    /// A variable without a default. The name is for listings.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            default: None,
            inherited: true,
            id: AtomicU64::new(0),
            value: PhantomData,
        }
    }

    /// The same variable with a default, made anew by each read that finds no value.
    ///
    /// # Examples
    /// ```
    /// use ringloop::ContextVar;
    ///
    /// static DEPTH: ContextVar<usize> = ContextVar::new("depth").with_default(|| 0);
    /// assert_eq!(DEPTH.get(), Some(0));
    /// ```
    #[must_use]
    pub const fn with_default(mut self, default: fn() -> T) -> Self {
        self.default = Some(default);
        self
    }

    /// The same variable, not to be inherited: every copy of a context leaves it out, so that tasks
    /// and callbacks begin without it. For what belongs to one task alone, such as an open
    /// transaction. asyncio has no counterpart.
    ///
    /// # Examples
    /// ```
    /// use ringloop::{ContextVar, copy_context};
    ///
    /// static TRANSACTION: ContextVar<u32> = ContextVar::new("transaction").not_inherited();
    /// TRANSACTION.set(5);
    /// assert_eq!(copy_context().run(|| TRANSACTION.get()), None);
    /// assert_eq!(TRANSACTION.get(), Some(5));
    /// ```
    #[must_use]
    pub const fn not_inherited(mut self) -> Self {
        self.inherited = false;
        self
    }

    /// The name it was given.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn id(&self) -> Option<u64> {
        Some(self.id.load(Ordering::Relaxed)).filter(|&id| id != 0)
    }

    fn id_or_new(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        self.id().unwrap_or_else(|| {
            let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            let stored = self
                .id
                .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
            stored.map_or_else(|other| other, |_| new)
        })
    }
}

impl<T: Send + Sync + 'static> ContextVar<T> {
    fn var(&self) -> Var {
        Var {
            id: self.id_or_new(),
            name: self.name,
            inherited: self.inherited,
        }
    }

    /// Calls `f` with the value, or `None`; the default does not count. Copies nothing. `f` may
    /// read and change variables, this one too: what it was given stays as it was.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        match self.id() {
            Some(id) => with_value(current_entries().as_deref(), id, f),
            None => f(None),
        }
    }

    /// The value in the current context, else the default, else `None`. asyncio: `ContextVar.get()`,
    /// which raises instead.
    #[inline]
    pub fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        let value = self.with(|value| value.cloned());
        value.or_else(|| self.default.map(|default| default()))
    }

    /// The value in a context that need not be the current one, else the default, else `None`.
    /// asyncio: `context.get(var)`.
    pub fn get_in(&self, context: &Context) -> Option<T>
    where
        T: Clone,
    {
        let entries = context.entries();
        let value = self
            .id()
            .and_then(|id| with_value(entries.as_deref(), id, |value| value.cloned()));
        value.or_else(|| self.default.map(|default| default()))
    }

    /// Sets the value in the current context, and returns what brings the old one back. In the
    /// destructor of a thread-local of an ending thread it does nothing. asyncio: `ContextVar.set()`.
    pub fn set(&self, value: T) -> Token<T> {
        let var = self.var();
        let value: Value = Arc::new(value);
        let (old, context) = match change(var, Some(value)) {
            Some((old, context)) => (old.value, Some(context)),
            None => (None, None),
        };
        Token {
            var: var.id,
            old,
            context,
            value: PhantomData,
        }
    }

    /// Brings the value back to what it was before the [`set`](Self::set) that made the token, in
    /// the same context. asyncio: `ContextVar.reset()`.
    ///
    /// # Errors
    /// [`TokenError`]: of another variable, or another context.
    pub fn reset(&self, token: Token<T>) -> Result<(), TokenError> {
        if self.id() != Some(token.var) {
            return Err(TokenError::OtherVariable);
        }
        let Some(made_in) = &token.context else {
            return Ok(());
        };
        if !made_in.is_current() {
            return Err(TokenError::OtherContext);
        }
        let changed = change(self.var(), token.old);
        drop(changed);
        Ok(())
    }
}

fn with_value<T: 'static, R>(
    entries: Option<&Node>,
    id: u64,
    f: impl FnOnce(Option<&T>) -> R,
) -> R {
    match entries {
        Some(Node::Copied(entries)) => f(entries.find(id).and_then(|value| {
            let value: &(dyn Any + Send + Sync) = &**value;
            value.downcast_ref()
        })),
        _ => f(None),
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextVar")
            .field("name", &self.name)
            .field("inherited", &self.inherited)
            .finish_non_exhaustive()
    }
}
