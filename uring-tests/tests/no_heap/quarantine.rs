//! Freed memory is kept, filled and looked at later: who writes to it is found.
//!
//! **Guarantees.** While [`watch`]ed, a block that is freed, and a segment of receive buffers that is
//! unmapped, is filled with one byte and kept. [`sweep`] counts those that hold something else by
//! now, and really gives back what it has seen untouched twice. Nothing here allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringloop::driver::{BUFFER_SIZE, SEGMENT_BUFFERS};

/// See the module.
pub struct Quarantine;

/// What freed memory is filled with.
const FILL: u8 = 0xD7;
/// Smaller blocks are not kept: no operation owns so little.
const LEAST: usize = 64;
/// The most blocks kept; what is freed beyond that is freed.
const MOST: usize = 1 << 16;
/// The length of what the receive pool maps.
const SEGMENT: usize = BUFFER_SIZE * SEGMENT_BUFFERS;

static WATCHED: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy)]
struct Block {
    start: usize,
    len: usize,
    /// Of a freed block; 0: it was mapped.
    align: usize,
    /// How often it was looked at.
    seen: u8,
}

struct Kept {
    blocks: [Block; MOST],
    count: usize,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept {
    blocks: [Block {
        start: 0,
        len: 0,
        align: 0,
        seen: 0,
    }; MOST],
    count: 0,
});

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is freed from now on.
pub fn watch() {
    WATCHED.store(true, Ordering::SeqCst);
}

/// The same, unless the address sanitizer looks: it sees only what is really freed.
pub fn watch_or_sanitize() {
    if !cfg!(sanitizer) {
        watch();
    }
}

fn is_watched() -> bool {
    WATCHED.load(Ordering::Relaxed)
}

/// Fills the memory and keeps it; false when there is no room for more.
///
/// # Safety
/// The memory is writable and nobody's.
unsafe fn keep(start: *mut u8, len: usize, align: usize) -> bool {
    let mut kept = kept();
    let count = kept.count;
    if count == MOST {
        return false;
    }
    // SAFETY: the caller's contract.
    unsafe { start.write_bytes(FILL, len) };
    kept.blocks[count] = Block {
        start: start as usize,
        len,
        align,
        seen: 0,
    };
    kept.count += 1;
    true
}

impl Block {
    fn is_untouched(&self) -> bool {
        let start = self.start as *const u8;
        // Each byte is the one before it, and the first is right.
        // SAFETY: the memory is kept: readable, of this length, at least one byte.
        unsafe {
            *start == FILL && libc::memcmp(start.cast(), start.add(1).cast(), self.len - 1) == 0
        }
    }

    /// Gives it back.
    ///
    /// # Safety
    /// It is not kept any more.
    unsafe fn release(&self) {
        let start = self.start as *mut u8;
        if self.align == 0 {
            // SAFETY: it was to be unmapped when it came here.
            unsafe { unmap(start.cast(), self.len) };
        } else if let Ok(layout) = Layout::from_size_align(self.len, self.align) {
            // SAFETY: it was to be freed, with this layout, when it came here.
            unsafe { System.dealloc(start, layout) };
        }
    }
}

/// How many blocks were written to since they were freed. They are forgotten, so each counts once.
pub fn sweep() -> usize {
    let mut kept = kept();
    let mut found = 0;
    let mut left = 0;
    for index in 0..kept.count {
        let mut block = kept.blocks[index];
        block.seen += 1;
        if !block.is_untouched() {
            // Not given back: who writes to it might do so again.
            found += 1;
        } else if block.seen > 2 {
            // SAFETY: not put back below.
            unsafe { block.release() };
        } else {
            kept.blocks[left] = block;
            left += 1;
        }
    }
    kept.count = left;
    found
}

// SAFETY: all memory comes from the system's allocator and goes back to it, at once or later.
unsafe impl GlobalAlloc for Quarantine {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller gives the block up.
        let is_kept = is_watched()
            && layout.size() >= LEAST
            && unsafe { keep(start, layout.size(), layout.align()) };
        if !is_kept {
            // SAFETY: the caller's contract.
            unsafe { System.dealloc(start, layout) };
        }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_watched() {
            // SAFETY: the caller's contract.
            return unsafe { System.realloc(start, layout, new_size) };
        }
        // SAFETY: the caller promises that the new size fits the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the new size is above 0, as the caller promises.
        let to = unsafe { self.alloc(new) };
        if !to.is_null() {
            let common = layout.size().min(new_size);
            // SAFETY: two blocks of at least that length, one of them new; then the old one is
            // given up, as the caller does.
            unsafe {
                to.copy_from_nonoverlapping(start, common);
                self.dealloc(start, layout);
            }
        }
        to
    }
}

/// The system call.
///
/// # Safety
/// As `munmap(2)`.
unsafe fn unmap(start: *mut c_void, len: usize) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { libc::syscall(libc::SYS_munmap, start, len) as c_int }
}

/// Stands in for the C library's function in this program: segments of receive buffers are kept.
///
/// # Safety
/// As `munmap(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(start: *mut c_void, len: usize) -> c_int {
    // SAFETY: only the pool maps so much, readable and writable, and it gives the segment up.
    if is_watched() && len == SEGMENT && unsafe { keep(start.cast(), len, 0) } {
        return 0;
    }
    // SAFETY: the caller's contract.
    unsafe { unmap(start, len) }
}
