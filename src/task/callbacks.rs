//! The arena of callbacks: closures that run once, for `call_soon` and timers.
//!
//! **Guarantees.** Inserting a closure takes nothing from the heap when warm. A cancelled closure
//! is dropped at once, wherever its key is queued. A key that ran or was cancelled is stale and
//! does nothing.
//!
//! ```text
//!   insert ──▶ waiting ──run──▶ running ──▶ (slot free)
//!                 └────cancel / clear──────────▲
//! ```
//!
//! The generation goes up when a closure leaves `waiting`, before any of its code runs, so a
//! closure may cancel, insert and run others, itself included.
//!
//! A closure runs in a context (D11): the one it was given, else a copy of the one it was inserted in.

use super::arena::{Arena, Chunks, Room, Slot};
use super::context::{self, Context, Vars};
use super::place::Place;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

/// Names a callback: slot and generation, as a [`ReadyEntry`](crate::ready::ReadyEntry) carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey {
    /// Slot.
    pub index: u32,
    /// Generation of the slot; a key of another generation is stale.
    pub generation: u32,
}

/// How a closure is driven; made by [`CallOnce`] only.
pub struct CallVTable {
    room: Room,
    /// Moves the closure out of the place and calls it.
    call: unsafe fn(*mut u8),
    /// Moves the closure out of the place and drops it.
    drop: unsafe fn(*mut u8),
    name: fn() -> &'static str,
}

impl CallVTable {
    /// The closure's name, as the compiler writes it: the path of the function it stands in.
    pub fn name(&self) -> &'static str {
        (self.name)()
    }
}

/// A callback panicked.
#[derive(Debug)]
pub struct CallPanic {
    /// Its name; see [`CallVTable::name`].
    pub name: &'static str,
    /// Where it was scheduled; see [`CallBody::created`].
    pub created: &'static Location<'static>,
    /// The context it ran in.
    pub context: Context,
    /// The payload of the panic.
    pub payload: Box<dyn Any + Send>,
}

/// Something that writes itself into a slot of [`Callbacks`]; see [`CallOnce`].
///
/// # Safety
/// `write` writes a value of the layout of `vtable`, and one that the functions of `vtable` are for.
pub unsafe trait CallBody {
    /// How the closure is driven. Always the same table.
    fn vtable(&self) -> &'static CallVTable;

    /// Where it was scheduled.
    fn created(&self) -> &'static Location<'static>;

    /// The context it is to run in, as it is. `None`: a copy of the current one.
    fn context(&self) -> Option<&Context>;

    /// Moves the closure to `place`.
    ///
    /// # Safety
    /// `place` is valid for writes of the layout of `vtable`.
    ///
    /// # Panics
    /// When the closure was moved out already.
    unsafe fn write(&mut self, place: *mut u8);
}

/// The body of a callback made of a closure.
#[derive(Debug)]
pub struct CallOnce<F> {
    f: Option<F>,
    created: &'static Location<'static>,
    context: Option<Context>,
}

impl<F: FnOnce() + 'static> CallOnce<F> {
    const VTABLE: CallVTable = CallVTable {
        room: Place::<F>::ROOM,
        call: call::<F>,
        drop: drop_closure::<F>,
        name: std::any::type_name::<F>,
    };

    /// Wraps the closure, scheduled by the caller. (Known here and not where it arrives, because
    /// behind `dyn` a callee can not ask who called.)
    #[inline]
    #[track_caller]
    pub fn new(f: F) -> Self {
        Self {
            f: Some(f),
            created: Location::caller(),
            context: None,
        }
    }

    /// The same callback, scheduled there: for a callback that was registered long before it is queued.
    #[must_use]
    pub fn created_at(mut self, created: &'static Location<'static>) -> Self {
        self.created = created;
        self
    }

    /// The same callback, to run in this context as it is: what it sets is seen by all who have it.
    #[must_use]
    pub fn in_context(mut self, context: &Context) -> Self {
        self.context = Some(context.clone());
        self
    }
}

// SAFETY: writes an `F`, the type the table's functions are made for.
unsafe impl<F: FnOnce() + 'static> CallBody for CallOnce<F> {
    #[inline]
    fn vtable(&self) -> &'static CallVTable {
        &Self::VTABLE
    }

    #[inline]
    fn created(&self) -> &'static Location<'static> {
        self.created
    }

    #[inline]
    fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    #[inline]
    unsafe fn write(&mut self, place: *mut u8) {
        let f = self.f.take().expect("a callback is inserted once");
        // SAFETY: the caller gives a room of this table.
        unsafe { Place::<F>::new(place).make().write(f) };
    }
}

/// Moves the closure out.
unsafe fn take<F>(place: *mut u8) -> F {
    let place = Place::<F>::new(place);
    // SAFETY: the caller gives a room with an F and does not use it again.
    unsafe {
        let f = place.value().read();
        place.unmake();
        f
    }
}

unsafe fn call<F: FnOnce()>(place: *mut u8) {
    // SAFETY: the caller gives a room with an F and does not use it again.
    let f = unsafe { take::<F>(place) };
    f();
}

unsafe fn drop_closure<F>(place: *mut u8) {
    // SAFETY: as in `call`.
    drop(unsafe { take::<F>(place) });
}

#[repr(C)]
struct Header {
    vtable: Cell<Option<&'static CallVTable>>,
    created: Cell<&'static Location<'static>>,
    generation: Cell<u32>,
    index: u32,
    context: Cell<Vars>,
}

const _: () = assert!(size_of::<Header>() == 32);

// SAFETY: all is written; nothing here is read by other threads.
unsafe impl Slot for Header {
    unsafe fn init(this: *mut Self, index: u32) {
        let header = Self {
            vtable: Cell::new(None),
            created: Cell::new(Location::caller()),
            generation: Cell::new(0),
            index,
            context: Cell::new(Vars::NONE),
        };
        // SAFETY: the caller has the slot for itself.
        unsafe { this.write(header) };
    }
}

/// The arena; see the module.
pub struct Callbacks {
    arena: Arena<Header>,
    len: Cell<usize>,
}

/// Gives the slot back, also when the closure or its drop panics.
struct Free<'a> {
    callbacks: &'a Callbacks,
    header: &'a Header,
    vtable: &'static CallVTable,
    /// Goes after the slot: its destructors may do anything.
    context: Cell<Vars>,
}

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.callbacks.arena.free(self.header, &self.vtable.room);
    }
}

impl Default for Callbacks {
    fn default() -> Self {
        Self::new()
    }
}

impl Callbacks {
    /// An empty arena.
    pub fn new() -> Self {
        Self {
            arena: Arena::new(Chunks::new()),
            len: Cell::new(0),
        }
    }

    /// Takes a closure over until it is run, cancelled or cleared.
    ///
    /// # Panics
    /// When 2^24 callbacks wait.
    #[inline]
    pub fn insert<B: CallBody + ?Sized>(&self, body: &mut B) -> CallKey {
        let vtable = body.vtable();
        let header = self.arena.alloc(&vtable.room);
        // SAFETY: the arena gave a place of this layout.
        unsafe { body.write(header.body()) };
        header.vtable.set(Some(vtable));
        header.created.set(body.created());
        header.context.set(match body.context() {
            None => Vars::inherit(),
            Some(given) => given.vars(),
        });
        self.len.set(self.len.get() + 1);
        CallKey {
            index: header.index,
            generation: header.generation.get(),
        }
    }

    /// The closure leaves `waiting`: its key is stale from now on.
    #[inline]
    fn take(&self, key: CallKey) -> Option<(Free<'_>, &'static CallVTable)> {
        let header = self.arena.get(key.index)?;
        if header.generation.get() != key.generation {
            return None;
        }
        let vtable = header.vtable.take()?;
        header.generation.set(key.generation.wrapping_add(1));
        self.len.set(self.len.get() - 1);
        let free = Free {
            callbacks: self,
            header,
            vtable,
            context: Cell::new(header.context.take()),
        };
        Some((free, vtable))
    }

    /// Whether the callback still waits.
    #[inline]
    pub fn is_waiting(&self, key: CallKey) -> bool {
        self.arena.get(key.index).is_some_and(|header| {
            header.generation.get() == key.generation && header.vtable.get().is_some()
        })
    }

    /// Drops the closure at once. False when it ran, runs, or was cancelled before.
    /// asyncio: `Handle.cancel()`.
    ///
    /// # Panics
    /// When the closure's captured values panic while they are dropped.
    pub fn cancel(&self, key: CallKey) -> bool {
        let Some((free, vtable)) = self.take(key) else {
            return false;
        };
        // SAFETY: `insert` wrote the closure of this table; `take` gives it out once.
        unsafe { (vtable.drop)(free.header.body()) };
        true
    }

    /// Runs the closure. `Ok(false)` when the key is stale.
    ///
    /// # Errors
    /// The closure's panic, with its name; whether it leaves the loop says
    /// [`is_loop_exit`](super::is_loop_exit).
    #[inline]
    pub fn run(&self, key: CallKey) -> Result<bool, CallPanic> {
        let Some((free, vtable)) = self.take(key) else {
            return Ok(false);
        };
        let place = free.header.body();
        // SAFETY: `free` stays where it is until after `leave`, and nothing between unwinds.
        let outer = unsafe { context::enter(&free.context) };
        // SAFETY: `insert` wrote the closure of this table; `take` gives it out once.
        let called = catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.call)(place) }));
        context::leave(outer);
        let vars = free.context.take();
        let payload = match called {
            Ok(()) if vars.is_none() => return Ok(true),
            Ok(()) => match catch_unwind(AssertUnwindSafe(|| drop(vars))) {
                Ok(()) => return Ok(true),
                Err(payload) => payload,
            },
            Err(payload) => {
                free.context.set(vars);
                payload
            }
        };
        Err(CallPanic {
            name: vtable.name(),
            created: free.header.created.get(),
            context: context::context_in(&free.context),
            payload,
        })
    }

    /// The context that a closure which waits will run in.
    pub fn context(&self, key: CallKey) -> Option<Context> {
        self.is_waiting(key)
            .then(|| self.arena.get(key.index))
            .flatten()
            .map(|header| context::context_in(&header.context))
    }

    /// The name of a closure that waits; see [`CallVTable::name`].
    pub fn name(&self, key: CallKey) -> Option<&'static str> {
        let header = self.arena.get(key.index)?;
        let vtable = header.vtable.get()?;
        (header.generation.get() == key.generation).then(|| vtable.name())
    }

    /// Where a closure that waits was scheduled; see [`CallBody::created`].
    pub fn created(&self, key: CallKey) -> Option<&'static Location<'static>> {
        self.is_waiting(key)
            .then(|| self.arena.get(key.index).map(|header| header.created.get()))
            .flatten()
    }

    /// Drops every closure that waits, panics included: those are returned.
    pub fn clear(&self) -> Vec<Box<dyn Any + Send>> {
        let mut panics = Vec::new();
        while self.len.get() > 0 {
            for index in 0..self.arena.end() {
                let Some(header) = self.arena.get(index) else {
                    continue;
                };
                let key = CallKey {
                    index,
                    generation: header.generation.get(),
                };
                panics.extend(catch_unwind(AssertUnwindSafe(|| self.cancel(key))).err());
            }
        }
        panics
    }

    /// How many closures wait.
    pub fn len(&self) -> usize {
        self.len.get()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("len", &self.len())
            .finish()
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        drop(self.clear());
    }
}
