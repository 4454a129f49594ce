//! How a future gets into a slot and is driven there without its type.
//!
//! **Guarantees.** A body is written once, straight into its place, also through `dyn`. It is
//! never moved after that. The output replaces the future in the same place. What stands there is
//! not written beside it, because every task has one: the flags of the slot say it.
//!
//! ```text
//!   future ──poll: ready──▶ output (FINISHED) ──take, clear──▶ nothing
//!      └────────────────────clear───────────────────────────────▲
//! ```
//!
//! **Who may touch it.** `step.rs` polls until the task is FINISHED, and clears once what ends in no
//! hands: a future that goes before it is ready, an output that nobody takes. The handle takes, once,
//! from a task that ended in no other way. After that the place is empty.
//!
//! `Task` handles come with a type that was erased in between; [`TaskVTable`] knows the type of
//! the output, and it is compared before anything is read.

use super::arena::{Room, Slot};
use super::place::Place;
use super::slot::{FINISHED, Header};
use std::any::TypeId;
use std::future::Future;
use std::mem::{ManuallyDrop, needs_drop};
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a task's body is driven; made by [`FutureBody`] only.
pub struct TaskVTable {
    pub(super) room: Room,
    /// The slot holds a future written by the wrapper that this table came from, which nobody else uses
    /// during the call. Ready, or a panic with FINISHED set: the output stands there instead.
    pub(super) poll: unsafe fn(&Header, &mut Context<'_>) -> Poll<()>,
    /// Empties the place of its future, or if FINISHED its output, also when that panics; same
    /// conditions.
    pub(super) clear: unsafe fn(&Header),
    /// Moves the output to the `Option<T>` at the second place, T being the type `output` names, and
    /// leaves the place empty; same conditions.
    pub(super) take: unsafe fn(&Header, *mut u8),
    /// Whether an output that nobody takes must be cleared.
    pub(super) clears_output: bool,
    pub(super) output: fn() -> TypeId,
    pub(super) name: fn() -> &'static str,
}

/// Something that writes itself into a task's slot; see [`FutureBody`].
///
/// It is object-safe, so that a spawn through `dyn` still moves the future straight into place.
///
/// # Safety
/// `write` writes a value of the layout of `vtable`, and one that the functions of `vtable` are for.
pub unsafe trait TaskBody {
    /// How the body is driven. Always the same table.
    fn vtable(&self) -> &'static TaskVTable;

    /// Moves the body to `place`.
    ///
    /// # Safety
    /// `place` is valid for writes of the layout of `vtable`.
    ///
    /// # Panics
    /// When the body was moved out already.
    unsafe fn write(&mut self, place: *mut u8);
}

/// What stands in the place: FINISHED says which.
union Body<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<F::Output>,
}

/// The body of a task made of a future.
#[derive(Debug)]
pub struct FutureBody<F> {
    future: Option<F>,
}

impl<F: Future + 'static> FutureBody<F> {
    const VTABLE: TaskVTable = TaskVTable {
        room: Place::<Body<F>>::ROOM,
        poll: poll::<F>,
        clear: clear::<F>,
        take: take::<F>,
        clears_output: needs_drop::<F::Output>() || Place::<Body<F>>::BOXED,
        output: TypeId::of::<F::Output>,
        name: std::any::type_name::<F>,
    };

    /// Wraps the future.
    #[inline]
    pub fn new(future: F) -> Self {
        Self {
            future: Some(future),
        }
    }
}

// SAFETY: writes a `Body<F>` where `ROOM` says, the type the table's functions are made for.
unsafe impl<F: Future + 'static> TaskBody for FutureBody<F> {
    #[inline]
    fn vtable(&self) -> &'static TaskVTable {
        &Self::VTABLE
    }

    #[inline]
    unsafe fn write(&mut self, place: *mut u8) {
        let future = self.future.take().expect("a body is spawned once");
        // SAFETY: the caller gives a room of this table, and the memory is that of a `Body<F>`.
        unsafe {
            Place::<Body<F>>::new(place)
                .make()
                .cast::<F>()
                .write(future)
        };
    }
}

fn place<F: Future>(slot: &Header) -> Place<Body<F>> {
    Place::new(slot.body())
}

/// Writes the output when it goes: also when the future's drop, which must come first, panics.
struct Finish<T> {
    output: ManuallyDrop<T>,
    to: *mut T,
}

impl<T> Drop for Finish<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `poll` names memory of a `Body<F>` whose future is gone; the output moves once.
        unsafe { self.to.write(ManuallyDrop::take(&mut self.output)) };
    }
}

unsafe fn poll<F: Future>(slot: &Header, cx: &mut Context<'_>) -> Poll<()> {
    // SAFETY: by the contract of the table, a future that nobody else uses.
    let future = unsafe { place::<F>(slot).value() }.cast::<F>();
    // SAFETY: as above; it does not move: it is dropped where it stands, below or by `clear`.
    let Poll::Ready(output) = unsafe { Pin::new_unchecked(&mut *future) }.poll(cx) else {
        return Poll::Pending;
    };
    slot.set(FINISHED);
    let _finish = Finish {
        output: ManuallyDrop::new(output),
        to: future.cast(),
    };
    // SAFETY: as above; by FINISHED it is not looked at again.
    unsafe { future.drop_in_place() };
    Poll::Ready(())
}

unsafe fn clear<F: Future>(slot: &Header) {
    struct Unmake<F: Future>(Place<Body<F>>);
    impl<F: Future> Drop for Unmake<F> {
        fn drop(&mut self) {
            // SAFETY: `clear` has it, and what stood there is gone.
            unsafe { self.0.unmake() };
        }
    }
    let place = Unmake(place::<F>(slot));
    // SAFETY: by the contract of the table a future, or if FINISHED an output, that nobody else uses.
    unsafe {
        let body = place.0.value();
        if slot.has(FINISHED) {
            ManuallyDrop::drop(&mut (*body).output);
        } else {
            ManuallyDrop::drop(&mut (*body).future);
        }
    }
}

unsafe fn take<F: Future>(slot: &Header, out: *mut u8) {
    let place = place::<F>(slot);
    // SAFETY: by the contract of the table an output that nobody else uses, and the caller's
    // `Option<F::Output>`, of which no old value needs a drop.
    unsafe {
        let output = place.value().cast::<F::Output>().read();
        out.cast::<Option<F::Output>>().write(Some(output));
        place.unmake();
    }
}
