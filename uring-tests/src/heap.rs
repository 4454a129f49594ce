//! Counts what is taken from the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The allocator that counts. A program that counts has one:
///
/// ```
/// use uring_tests::heap::{self, Counting};
///
/// #[global_allocator]
/// static HEAP: Counting = Counting;
///
/// let before = heap::taken();
/// drop(std::hint::black_box(Box::new(1)));
/// assert_eq!(heap::taken(), before + 1);
/// ```
pub struct Counting;

/// Bytes in use.
static HELD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    static GIVEN_BACK: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has taken memory.
pub fn taken() -> u64 {
    TAKEN.get()
}

/// How often this thread has given memory back.
pub fn given_back() -> u64 {
    GIVEN_BACK.get()
}

/// How many bytes all threads hold.
pub fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

fn take(size: usize) {
    HELD.fetch_add(size, Ordering::Relaxed);
    // While a thread ends there is nothing to count with.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
}

fn give_back(size: usize) {
    HELD.fetch_sub(size, Ordering::Relaxed);
    let _ = GIVEN_BACK.try_with(|given| given.set(given.get() + 1));
}

// SAFETY: everything is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as promised by our caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        give_back(layout.size());
        // SAFETY: as promised by our caller.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(place, layout) }
    }
}
