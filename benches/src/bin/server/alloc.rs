//! The system's allocator, counted in the shared page while that asks for it.

use ringloop_benches::page::Page;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicPtr, Ordering};

static IDLE: Page = Page::idle();
static PAGE: AtomicPtr<Page> = AtomicPtr::new((&raw const IDLE).cast_mut());

/// Counts in this page from now on.
pub fn report_to(page: &'static Page) {
    PAGE.store(std::ptr::from_ref(page).cast_mut(), Ordering::Release);
}

fn page() -> &'static Page {
    // SAFETY: always a `&'static Page`, of which only shared references exist.
    unsafe { &*PAGE.load(Ordering::Acquire) }
}

struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: everything is passed on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        page().allocated(layout.size() as i64);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        page().allocated(layout.size() as i64);
        // SAFETY: passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        page().allocated(size as i64 - layout.size() as i64);
        // SAFETY: passed on.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        page().freed(layout.size() as i64);
        // SAFETY: passed on.
        unsafe { System.dealloc(old, layout) }
    }
}
