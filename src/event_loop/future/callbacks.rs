//! Callbacks, and telling who waits.

use super::Future;
use crate::task::{CallOnce, Context, call_all, copy_context};
use std::any::type_name;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::Location;
use std::task::Waker;

/// Who waits for a future.
pub(super) enum Waiter<T> {
    /// Somebody who awaits it.
    Waker(Waker),
    /// A callback.
    Callback(Callback<T>),
}

pub(super) struct Callback<T> {
    id: CallbackId,
    pub(super) name: &'static str,
    created: Place,
    context: Context,
    call: Box<dyn Call<T>>,
}

impl<T: 'static> Callback<T> {
    fn queue(self, future: &Future<T>) {
        self.call.queue(future.clone(), self.created, &self.context);
    }
}

type Place = &'static Location<'static>;

/// A callback whose type is erased.
trait Call<T> {
    /// Has the loop call it.
    fn queue(self: Box<Self>, future: Future<T>, created: Place, context: &Context);
}

impl<T: 'static, F: FnOnce(&Future<T>) + 'static> Call<T> for F {
    fn queue(self: Box<Self>, future: Future<T>, created: Place, context: &Context) {
        done_callback(self, future, created, context);
    }
}

/// What the loop calls bears the names of this function and, with it, of the callback.
fn done_callback<T: 'static, F: FnOnce(&Future<T>) + 'static>(
    call: Box<F>,
    future: Future<T>,
    created: Place,
    context: &Context,
) {
    let event_loop = future.0.event_loop.clone();
    let body = CallOnce::new(move || call(&future)).in_context(context);
    let mut body = body.created_at(created);
    // Closed: the callback goes with `body`.
    let _ = event_loop.call_soon(&mut body);
}

/// Names done callbacks, to remove them. Each callback has one of its own unless it was registered
/// under a given one, which may stand for several callbacks and futures: asyncio compares the
/// functions, closures can not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId(u64, PhantomData<*const ()>);

impl CallbackId {
    /// An id that no callback of this thread has.
    pub fn new() -> Self {
        thread_local! {
            static NEXT: Cell<u64> = const { Cell::new(0) };
        }
        let id = NEXT.get();
        NEXT.set(id + 1);
        Self(id, PhantomData)
    }
}

impl Default for CallbackId {
    fn default() -> Self {
        Self::new()
    }
}

/// How a done callback is registered.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallbackOptions {
    /// Under which id; `None` is one of its own.
    pub id: Option<CallbackId>,
    /// The context it runs in, as it is; `None` is a copy of the current one.
    pub context: Option<Context>,
}

impl CallbackOptions {
    /// Options with an id.
    pub fn of(id: CallbackId) -> Self {
        Self {
            id: Some(id),
            context: None,
        }
    }

    /// The same options, to run in this context as it is: what the callback sets is seen by all who
    /// have it.
    #[must_use]
    pub fn in_context(mut self, context: &Context) -> Self {
        self.context = Some(context.clone());
        self
    }
}

impl<T: 'static> Future<T> {
    /// Has `callback` called with the future when it is done: through the loop, in the order of
    /// registration, also when it is done already; in a copy of the context in which it is registered.
    /// Dropped uncalled when the loop is closed first. asyncio: `add_done_callback`.
    ///
    /// A callback that keeps a handle of the future it waits for keeps it alive; it is given one.
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(&Self) + 'static) -> CallbackId {
        self.add_done_callback_with(callback, CallbackOptions::default())
    }

    /// As [`add_done_callback`](Self::add_done_callback), under an id and in a context of the caller's
    /// choice.
    #[track_caller]
    pub fn add_done_callback_with(
        &self,
        callback: impl FnOnce(&Self) + 'static,
        options: CallbackOptions,
    ) -> CallbackId {
        let id = options.id.unwrap_or_default();
        let callback = Callback {
            id,
            name: name_of(&callback),
            created: Location::caller(),
            context: options.context.unwrap_or_else(copy_context),
            call: Box::new(callback),
        };
        if self.done() {
            callback.queue(self);
        } else {
            let mut waiters = self.0.waiters.borrow_mut();
            waiters.push(Waiter::Callback(callback));
        }
        id
    }
}

fn name_of<F>(_: &F) -> &'static str {
    type_name::<F>()
}

impl<T: 'static> Future<T> {
    /// Removes the callbacks with this id, and says how many. One that was queued already, because
    /// the future is done, runs. asyncio: `remove_done_callback`.
    pub fn remove_done_callback(&self, id: CallbackId) -> usize {
        let has_id = |waiter: &Waiter<T>| matches!(waiter, Waiter::Callback(c) if c.id == id);
        let removed = self.0.waiters.borrow_mut().remove_all(has_id);
        removed.len()
    }

    /// The future is done: everybody who waits is told, whatever one of them does.
    pub(super) fn tell(&self) {
        let waiters = self.0.waiters.borrow_mut().take();
        call_all(waiters, |waiter| match waiter {
            Waiter::Waker(waker) => waker.wake(),
            Waiter::Callback(callback) => callback.queue(self),
        });
    }
}
