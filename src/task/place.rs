//! Where a value stands that was given to an arena: in the room of its slot, or in a box there.
//!
//! **Guarantees.** A value does not move from [`Place::make`] to [`Place::unmake`]. One that is larger
//! than [`MAX_INLINE`] or wants a larger alignment than [`ALIGN`] stands in an allocation of its own,
//! whose address stands in the room; the arena knows nothing of it.
//!
//! ```text
//!   (room) ──make──▶ memory of a T ── written, used, dropped by the caller ──unmake──▶ (room)
//! ```
//!
//! **Who may touch it.** The functions of the tables of bodies and callbacks, which know the type.

use super::arena::{ALIGN, MAX_INLINE, Room};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// The place of a `T`: a room of [`Place::ROOM`], which its owner keeps for it.
pub(super) struct Place<T> {
    room: *mut u8,
    of: PhantomData<T>,
}

impl<T> Place<T> {
    /// Whether it has an allocation of its own.
    pub(super) const BOXED: bool = size_of::<T>() > MAX_INLINE || align_of::<T>() > ALIGN;

    /// What it needs of a slot.
    pub(super) const ROOM: Room = if Self::BOXED {
        Room::of::<*mut T>()
    } else {
        Room::of::<T>()
    };

    #[inline]
    pub(super) const fn new(room: *mut u8) -> Self {
        Self {
            room,
            of: PhantomData,
        }
    }

    /// The memory of the value, which is to be written.
    ///
    /// # Safety
    /// The room is valid, empty, and the caller's.
    #[inline]
    pub(super) unsafe fn make(&self) -> *mut T {
        if !Self::BOXED {
            return self.room.cast();
        }
        let memory = Box::into_raw(Box::<T>::new_uninit()).cast::<T>();
        // SAFETY: `ROOM` is that of an address then.
        unsafe { self.room.cast::<*mut T>().write(memory) };
        memory
    }

    /// The memory of the value.
    ///
    /// # Safety
    /// It was made and not unmade, and is the caller's.
    #[inline]
    pub(super) unsafe fn value(&self) -> *mut T {
        if !Self::BOXED {
            return self.room.cast();
        }
        // SAFETY: `make` wrote it.
        unsafe { self.room.cast::<*mut T>().read() }
    }

    /// The room is empty again.
    ///
    /// # Safety
    /// It was made and not unmade, is the caller's, and what stood there is gone.
    #[inline]
    pub(super) unsafe fn unmake(&self) {
        if Self::BOXED {
            // SAFETY: `make` made it so; a `MaybeUninit` drops nothing.
            drop(unsafe { Box::from_raw(self.value().cast::<MaybeUninit<T>>()) });
        }
    }
}
