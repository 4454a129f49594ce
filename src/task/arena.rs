//! Arenas of size classes: slots of a header and room for a body, which never move.
//!
//! **Guarantees.** A slot keeps its address and its index for the life of the arena. A freed slot
//! is the next one its class hands out, so a warm allocation touches memory that is in the cache
//! and takes nothing from the heap. Chunks start as zeroed memory and a slot's header is written
//! when the slot is used for the first time, so big classes cost no memory before that.
//!
//! ```text
//!   index ─▶ chunk (index / 64) ─▶ base + (index % 64) · stride ─▶ ┌────────┬───────────────┐
//!                                                                  │ header │ body          │
//!                                                                  └────────┴───────────────┘
//! ```
//!
//! Where the body stands follows from where the header stands, so no slot keeps it. Bodies that do not
//! fit, or want a larger alignment than [`ALIGN`], are boxed by who writes them (`place.rs`).
//!
//! **Who may touch it.** The arena belongs to one thread. Other threads may reach headers through
//! [`Chunks`] and touch nothing but the atomics at their beginning. A chunk stands in the locked list
//! before any of its slots is handed out, so who knows an index finds the slot. The model at the end
//! of this file runs every interleaving (`--cfg loom`).

use super::id::NO_INDEX;
#[cfg(loom)]
use loom::{
    alloc::{alloc_zeroed, dealloc},
    sync::Mutex,
};
use std::alloc::{Layout, handle_alloc_error};
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ptr::{self, NonNull, with_exposed_provenance_mut};
use std::sync::{Arc, PoisonError};
#[cfg(not(loom))]
use std::{
    alloc::{alloc_zeroed, dealloc},
    sync::Mutex,
};

/// Slots in a chunk.
pub(super) const CHUNK: u32 = 64;
/// Alignment of every slot and of the body in it.
pub(super) const ALIGN: usize = 16;
/// The largest body that stands in its slot.
pub(super) const MAX_INLINE: usize = 4096;
/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// Steps of 16 bytes up to 512, because tasks that wait are many, then four steps to each doubling.
const CLASSES: usize = 44;
/// As many lists, so that an index below is a mask.
const LISTS: usize = CLASSES.next_power_of_two();

const fn class_of(size: usize) -> usize {
    match size {
        0..=512 => size.saturating_sub(1) / ALIGN,
        513..=1024 => 32 + (size - 513) / 128,
        1025..=2048 => 36 + (size - 1025) / 256,
        _ => 40 + (size - 2049) / 512,
    }
}

const fn class_size(class: usize) -> usize {
    match class {
        0..=31 => (class + 1) * ALIGN,
        32..=35 => 512 + (class - 31) * 128,
        36..=39 => 1024 + (class - 35) * 256,
        _ => 2048 + (class - 39) * 512,
    }
}

/// What a body needs: the class of the slots it fits into, known when the program is compiled.
#[derive(Clone, Copy)]
pub(super) struct Room {
    class: u8,
}

impl Room {
    pub(super) const fn of<T>() -> Self {
        assert!(size_of::<T>() <= MAX_INLINE && align_of::<T>() <= ALIGN);
        Self {
            class: class_of(size_of::<T>()) as u8,
        }
    }
}

/// A header of slots.
///
/// # Safety
/// [`Slot::init`] makes it valid. What other threads may read of it is valid as zeroes, and `init` does
/// not write there but by atomic stores.
pub(super) unsafe trait Slot: Sized {
    /// Where the body stands, counted from the header.
    const BODY: usize = size_of::<Self>().next_multiple_of(ALIGN);

    /// Writes the header of a slot used for the first time.
    ///
    /// # Safety
    /// `this` points to zeroed memory of a slot that the caller has for itself.
    unsafe fn init(this: *mut Self, index: u32);

    /// The room of the body, if this is the header of a slot. (The chunk's provenance is exposed, since
    /// that of the borrow ends with the header.)
    #[inline]
    fn body(&self) -> *mut u8 {
        with_exposed_provenance_mut(ptr::from_ref(self).addr() + Self::BODY)
    }
}

#[derive(Clone, Copy)]
struct Chunk {
    base: NonNull<u8>,
    stride: u16,
    /// Slots whose header is written.
    used: u8,
}

impl Chunk {
    fn layout(self) -> Layout {
        Layout::from_size_align(self.stride as usize * CHUNK as usize, ALIGN)
            .expect("a chunk is small")
    }

    fn slot(self, index: u32) -> NonNull<u8> {
        let offset = self.stride as usize * (index % CHUNK) as usize;
        // SAFETY: the chunk has CHUNK slots of `stride` bytes.
        unsafe { self.base.add(offset) }
    }
}

/// The memory of an arena. Frees it when the arena and all readers are gone.
pub(super) struct Chunks {
    list: Mutex<Vec<Chunk>>,
}

// SAFETY: the chunks are plain memory; what is read through them from other threads are atomics
// (see the module), and freeing them is legal on any thread.
unsafe impl Send for Chunks {}
// SAFETY: as above; the list itself is behind a mutex.
unsafe impl Sync for Chunks {}

impl Chunks {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            list: Mutex::new(Vec::new()),
        })
    }

    /// Calls `f` with index and address of every slot. The memory stays while `self` lives.
    pub(super) fn for_each(&self, mut f: impl FnMut(u32, NonNull<u8>)) {
        let chunks = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, chunk) in chunks.iter().enumerate() {
            for i in 0..CHUNK {
                f(number as u32 * CHUNK + i, chunk.slot(i));
            }
        }
    }

    /// The address of a slot. The memory stays while `self` lives.
    pub(super) fn slot(&self, index: u32) -> Option<NonNull<u8>> {
        let chunks = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = chunks.get((index / CHUNK) as usize)?;
        Some(chunk.slot(index))
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let chunks = self.list.get_mut().unwrap_or_else(PoisonError::into_inner);
        for chunk in chunks.drain(..) {
            // SAFETY: allocated with this layout in `Arena::grow`; headers own nothing once their
            // slots are free, and arenas free their slots before they go.
            unsafe { dealloc(chunk.base.as_ptr(), chunk.layout()) };
        }
    }
}

/// An arena; see the module.
pub(super) struct Arena<H: Slot> {
    /// The owner's copy of the list, read without a lock.
    chunks: UnsafeCell<Vec<Chunk>>,
    memory: Arc<Chunks>,
    /// The rooms of the free slots of each class, each holding the next.
    free: [Cell<Option<NonNull<u8>>>; LISTS],
    /// The chunk of each class that has unused slots.
    fresh: [Cell<u32>; CLASSES],
    header: PhantomData<H>,
}

impl<H: Slot> Arena<H> {
    pub(super) fn new(memory: Arc<Chunks>) -> Self {
        const { assert!(align_of::<H>() <= ALIGN && H::BODY + MAX_INLINE <= u16::MAX as usize) };
        Self {
            chunks: UnsafeCell::new(Vec::new()),
            memory,
            free: [const { Cell::new(None) }; LISTS],
            fresh: [const { Cell::new(NONE) }; CLASSES],
            header: PhantomData,
        }
    }

    #[inline]
    fn chunk(&self, index: u32) -> Option<Chunk> {
        // SAFETY: one thread, and no code but this file's runs while the vector is borrowed here,
        // in `set_chunk` and in `grow`.
        let chunks = unsafe { &*self.chunks.get() };
        chunks.get((index / CHUNK) as usize).copied()
    }

    /// The header of a slot that was used at least once.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&H> {
        let chunk = self.chunk(index)?;
        // SAFETY: the slot's header is written, and its memory stays as long as the arena. Headers
        // are only ever borrowed shared.
        (index % CHUNK < u32::from(chunk.used))
            .then(|| unsafe { chunk.slot(index).cast().as_ref() })
    }

    /// How many slots were ever used, rounded up; every index is below.
    pub(super) fn end(&self) -> u32 {
        // SAFETY: as in `chunk`.
        let chunks = unsafe { &*self.chunks.get() };
        chunks.len() as u32 * CHUNK
    }

    /// Takes a slot with room for a body.
    ///
    /// # Panics
    /// When all of the 2^24 slots but the last chunk are taken.
    #[inline]
    pub(super) fn alloc(&self, room: &Room) -> &H {
        let class = usize::from(room.class);
        let list = &self.free[class % LISTS];
        let Some(room) = list.get() else {
            return self.alloc_fresh(class);
        };
        // SAFETY: the list holds rooms of this arena's slots that were used and freed: each holds
        // the next one (`free`), and behind it stands a written header. The memory stays as long
        // as the arena.
        unsafe {
            list.set(room.cast::<Option<NonNull<u8>>>().read());
            room.sub(H::BODY).cast().as_ref()
        }
    }

    #[cold]
    fn alloc_fresh(&self, class: usize) -> &H {
        let mut number = self.fresh[class].get();
        if number == NONE {
            number = self.grow(class);
            self.fresh[class].set(number);
        }
        // SAFETY: as in `chunk`; the borrow ends before anything else is called.
        let chunk = unsafe {
            let chunk = &mut (&mut *self.chunks.get())[number as usize];
            chunk.used += 1;
            *chunk
        };
        let index = number * CHUNK + u32::from(chunk.used) - 1;
        if u32::from(chunk.used) == CHUNK {
            self.fresh[class].set(NONE);
        }
        let slot = chunk.slot(index);
        // SAFETY: the slot was never used, so it is zeroed and this thread has it for itself, but
        // for the atomics that `init` does not write. Then the header is valid as `get` has it.
        unsafe {
            H::init(slot.cast().as_ptr(), index);
            slot.cast().as_ref()
        }
    }

    fn grow(&self, class: usize) -> u32 {
        let number = self.end() / CHUNK;
        assert!(
            (number + 1) * CHUNK <= NO_INDEX,
            "all of the 2^24 slots of one arena are in use"
        );
        let stride = H::BODY + class_size(class);
        let mut chunk = Chunk {
            base: NonNull::dangling(),
            stride: stride as u16,
            used: 0,
        };
        // SAFETY: the layout's size is above 0.
        let memory = unsafe { alloc_zeroed(chunk.layout()) };
        chunk.base = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(chunk.layout()));
        // For `Slot::body`.
        chunk.base.as_ptr().expose_provenance();
        let mut list = self
            .memory
            .list
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        list.push(chunk);
        // SAFETY: as in `chunk`.
        unsafe { &mut *self.chunks.get() }.push(chunk);
        number
    }

    /// Gives a slot back. `room` is what it was taken with; the body is gone already.
    #[inline]
    pub(super) fn free(&self, header: &H, room: &Room) {
        let list = &self.free[usize::from(room.class) % LISTS];
        let room = header.body();
        let next = list.replace(NonNull::new(room));
        // SAFETY: the room is the slot's own, of 16 bytes or more and aligned to 16, and empty.
        unsafe { room.cast::<Option<NonNull<u8>>>().write(next) };
    }
}

const _: () = {
    let mut size = 1;
    while size <= MAX_INLINE {
        let class = class_of(size);
        assert!(class < CLASSES && size <= class_size(class));
        assert!(class == 0 || size > class_size(class - 1));
        size += 1;
    }
};

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use loom::thread;

    /// What others read: 0, or the slot's index + 1. A word of std's, for the memory is zeroed.
    type Word = std::sync::atomic::AtomicUsize;

    #[repr(C)]
    struct Header {
        word: Word,
        index: u32,
    }

    // SAFETY: the index is valid when written, the word as zeroes, and `init` does not write that.
    unsafe impl Slot for Header {
        unsafe fn init(this: *mut Self, index: u32) {
            // SAFETY: the caller has the slot for itself.
            unsafe { std::ptr::addr_of_mut!((*this).index).write(index) };
        }
    }

    fn word(slot: NonNull<u8>) -> usize {
        // SAFETY: every slot begins with the word, and the reader holds the chunks.
        unsafe { slot.cast::<Word>().as_ref() }.load(Relaxed)
    }

    /// Slots of two classes, hence of two chunks, are handed out and given back while another thread
    /// lists them and looks up one that it was told of. Loom reports memory that is freed twice or
    /// not at all; the last of the two frees it.
    #[test]
    fn loom_a_slot_is_found_by_who_knows_its_index() {
        loom::model(|| {
            let chunks = Chunks::new();
            let told = Arc::new(AtomicUsize::new(0));
            let reader = {
                let (chunks, told) = (chunks.clone(), told.clone());
                thread::spawn(move || {
                    let mut slots = 0;
                    chunks.for_each(|index, slot| {
                        assert_eq!(index, slots);
                        assert!([0, index as usize + 1].contains(&word(slot)));
                        slots += 1;
                    });
                    assert_eq!(slots % CHUNK, 0);
                    let known = told.load(Relaxed);
                    if known != 0 {
                        let slot = chunks.slot(known as u32 - 1);
                        assert_eq!(word(slot.expect("it was handed out")), known);
                    }
                })
            };
            let arena = Arena::<Header>::new(chunks.clone());
            for room in [Room::of::<[u8; 32]>(), Room::of::<[u8; 64]>()] {
                let slot = arena.alloc(&room);
                let known = slot.index as usize + 1;
                slot.word.store(known, Relaxed);
                told.store(known, Relaxed);
                arena.free(slot, &room);
                assert!(std::ptr::eq(arena.alloc(&room), slot));
            }
            drop(arena);
            let mut used = 0;
            chunks.for_each(|_, slot| used += usize::from(word(slot) != 0));
            assert_eq!(used, 2);
            drop(chunks);
            reader.join().unwrap();
        });
    }
}
