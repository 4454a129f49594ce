//! How a future gets into a slot and is driven there without its type.
//!
//! **Guarantees.** A body is written once, straight into its place, also through `dyn`. It is
//! never moved after that. The output replaces the future in the same place.
//!
//! ```text
//!   Running(future) ──poll: ready──▶ Finished(output) ──take──▶ Empty
//!         └────────────────drop──────────────────────────────────▲
//! ```
//!
//! `Task` handles come with a type that was erased in between; [`TaskVTable`] knows the type of
//! the output, and it is compared before anything is read.

use super::arena::Room;
use std::any::TypeId;
use std::future::Future;
use std::mem::needs_drop;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a task's body is driven; made by [`FutureBody`] only.
pub struct TaskVTable {
    pub(super) room: Room,
    /// The place holds a body written by the wrapper that this table came from, and nobody else
    /// uses it during the call. A body that is not running is ready.
    pub(super) poll: unsafe fn(*mut u8, &mut Context<'_>) -> Poll<()>,
    /// Makes the body Empty; same conditions.
    pub(super) clear: unsafe fn(*mut u8),
    /// Moves the output to the `Option<T>` at the second place; T is the type `output` names.
    pub(super) take: unsafe fn(*mut u8, *mut u8),
    /// Whether dropping the output does anything.
    pub(super) output_needs_drop: bool,
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

enum Stage<F: Future> {
    Running(F),
    Finished(F::Output),
    Empty,
}

/// The body of a task made of a future.
#[derive(Debug)]
pub struct FutureBody<F> {
    future: Option<F>,
}

impl<F: Future + 'static> FutureBody<F> {
    const VTABLE: TaskVTable = TaskVTable {
        room: Room::of::<Stage<F>>(),
        poll: poll::<F>,
        clear: clear::<F>,
        take: take::<F>,
        output_needs_drop: needs_drop::<F::Output>(),
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

// SAFETY: writes a `Stage<F>`, the type the table's functions are made for.
unsafe impl<F: Future + 'static> TaskBody for FutureBody<F> {
    #[inline]
    fn vtable(&self) -> &'static TaskVTable {
        &Self::VTABLE
    }

    #[inline]
    unsafe fn write(&mut self, place: *mut u8) {
        let future = self.future.take().expect("a body is spawned once");
        // SAFETY: the caller gives a place of this layout.
        unsafe { place.cast::<Stage<F>>().write(Stage::Running(future)) };
    }
}

unsafe fn poll<F: Future>(place: *mut u8, cx: &mut Context<'_>) -> Poll<()> {
    // SAFETY: by the contract of the table, a Stage<F> that nobody else uses.
    let stage = unsafe { &mut *place.cast::<Stage<F>>() };
    let Stage::Running(future) = stage else {
        return Poll::Ready(());
    };
    // SAFETY: the future does not move: it is dropped where it stands, by the assignment below or
    // by `clear`.
    let Poll::Ready(output) = unsafe { Pin::new_unchecked(future) }.poll(cx) else {
        return Poll::Pending;
    };
    *stage = Stage::Finished(output);
    Poll::Ready(())
}

unsafe fn clear<F: Future>(place: *mut u8) {
    // SAFETY: by the contract of the table, a Stage<F> that nobody else uses.
    unsafe { *place.cast::<Stage<F>>() = Stage::Empty };
}

unsafe fn take<F: Future>(place: *mut u8, out: *mut u8) {
    // SAFETY: by the contract of the table, a Stage<F> that nobody else uses.
    let stage = unsafe { &mut *place.cast::<Stage<F>>() };
    if let Stage::Finished(_) = stage
        && let Stage::Finished(output) = std::mem::replace(stage, Stage::Empty)
    {
        // SAFETY: the caller's `Option<F::Output>`.
        unsafe { *out.cast::<Option<F::Output>>() = Some(output) };
    }
}
