//! A ring of buffers that the kernel picks from (`IORING_REGISTER_PBUF_RING`).
//!
//! **Guarantees.** The descriptors stand in page-aligned memory that lives as long as this value;
//! whoever drops it has unregistered it before (or leaks it). An entry is written field by field,
//! never as a whole: the tail shares the memory of entry 0 (cookbook §3.3). Address, length and
//! number are written anew each time, since some kernels shorten an entry they used.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// `struct io_uring_buf`; the tail of the ring overlays `reserved` of entry 0.
#[repr(C)]
struct Descriptor {
    address: u64,
    len: u32,
    id: u16,
    reserved: AtomicU16,
}

const _: () = assert!(size_of::<Descriptor>() == 16);
const _: () = assert!(std::mem::offset_of!(Descriptor, reserved) == 14);

/// The descriptors and their tail. Belongs to one thread.
pub struct BufRing {
    entries: NonNull<Descriptor>,
    mask: u16,
    tail: Cell<u16>,
    layout: Layout,
}

impl BufRing {
    /// Memory for `count` descriptors, a power of two up to 32768; not registered yet.
    pub fn new(count: u16) -> Self {
        assert!(count.is_power_of_two());
        let layout = Layout::from_size_align(count as usize * size_of::<Descriptor>(), 4096)
            .expect("a page-aligned layout of at most 512 KiB");
        // SAFETY: the layout's size is not 0.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast()) else {
            handle_alloc_error(layout)
        };
        Self {
            entries,
            mask: count - 1,
            tail: Cell::new(0),
            layout,
        }
    }

    /// Address for the registration.
    pub fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    /// Gives buffer `id` to the kernel. The caller must not touch it until a completion names it,
    /// and never gives more buffers than there are descriptors.
    #[inline]
    pub fn publish(&self, address: *mut u8, len: u32, id: u16) {
        let tail = self.tail.get();
        // SAFETY: the index is masked, so the entry lies within our allocation; the kernel only
        // reads entries between its head and the published tail, and this one is not among them.
        unsafe {
            let entry = self.entries.as_ptr().add((tail & self.mask) as usize);
            (&raw mut (*entry).address).write(address as u64);
            (&raw mut (*entry).len).write(len);
            (&raw mut (*entry).id).write(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: entry 0 lies within our allocation; its last two bytes are the ring's tail, which
        // the kernel only reads. Release: the entry is visible before the tail that covers it.
        unsafe { &(*self.entries.as_ptr()).reserved }
            .store(tail.wrapping_add(1), Ordering::Release);
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; unregistered before, see the module.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) }
    }
}
