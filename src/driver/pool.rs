//! The pool of receive buffers.
//!
//! **Guarantees.** The pool owns the memory, not the ring: it is freed when the pool, every lease
//! and every `Bytes` made from one are gone, and never while the kernel may write to it
//! ([`Pool::leak`]). Every buffer is in exactly one state, and each move is checked, so that a
//! completion that names a buffer twice, or one that is not the kernel's, is refused instead of
//! believed (trap T19):
//!
//! ```text
//!   Free ──publish──▶ Kernel ────────claim──▶ Lent(n) ──last drop──▶ Kernel (ring attached) | Free
//!    └─fill─▶ Kernel ─▶ Filled ──claim──▶ Lent(n)
//! ```
//!
//! The pool is small and hot: one segment of 64 buffers at first, another when a receive found none and
//! few circulate (256, or as many as hold what fits in a cache), up to [`MAX_BUFFERS`]. It belongs to one
//! thread; only [`Segment`] crosses threads.

use super::lease::Lease;
use super::returned::{Returned, Starving};
use super::{FLAG_BROUGHT, FLAG_FILLED, Unpark};
use crate::ring::BufRing;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes in one receive buffer.
pub const BUFFER_SIZE: usize = 16 * 1024;
/// Buffers in a segment: what the pool starts with and grows by.
pub const SEGMENT_BUFFERS: usize = 64;
/// The most buffers a pool has: 16 MiB.
pub const MAX_BUFFERS: usize = 1024;
/// While so many buffers circulate, lent by nobody, the pool does not grow: receives that wait for the
/// rest of an iteration cost less then.
pub(super) const CIRCULATING: usize = 256;

/// State of a buffer that nobody holds; higher values below [`FILLED`] count leases.
const FREE: u32 = 0;
/// State of a buffer that the kernel (or the filling driver) may write to.
const KERNEL: u32 = u32::MAX;
/// State of a buffer that the driver filled and whose completion was not taken in yet. Kept apart, so
/// that a made-up completion can not get a buffer that the kernel writes to.
const FILLED: u32 = KERNEL - 1;

/// The memory of 64 buffers, and the bits by which other threads give them back.
pub(super) struct Segment {
    start: NonNull<u8>,
    first_id: u16,
    returned: Returned,
    shared: Arc<Shared>,
}

/// What the pool shares with buffers that left the thread.
struct Shared {
    starving: Starving,
    unpark: Mutex<Option<Arc<dyn Unpark>>>,
}

impl Shared {
    fn unpark(&self) -> MutexGuard<'_, Option<Arc<dyn Unpark>>> {
        self.unpark.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: the memory behind `start` is only written by the holder of a buffer (kernel, unique
// lease) and only read by its leases; which of them holds it is decided on the pool's thread, and
// handed over by `Returned`.
unsafe impl Send for Segment {}
// SAFETY: as above; all shared state is atomic.
unsafe impl Sync for Segment {}

/// Bytes of a segment.
const SEGMENT_SIZE: usize = BUFFER_SIZE * SEGMENT_BUFFERS;

impl Segment {
    fn new(first_id: u16, shared: Arc<Shared>) -> Arc<Self> {
        // Mapped, not allocated: the memory reads as zeroes and a page costs nothing before the
        // first byte arrives in it.
        // SAFETY: a fresh private mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SEGMENT_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(
            start != libc::MAP_FAILED,
            "no memory for receive buffers: {}",
            std::io::Error::last_os_error()
        );
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at 0");
        Arc::new(Self {
            start,
            first_id,
            returned: Returned::new(),
            shared,
        })
    }

    /// Address of buffer `id`, which must belong to this segment.
    pub(super) fn address(&self, id: u16) -> *mut u8 {
        self.start
            .as_ptr()
            .wrapping_add((id - self.first_id) as usize * BUFFER_SIZE)
    }

    /// Called on any thread by the owner of a buffer that left the loop.
    pub(super) fn give_back(&self, id: u16) {
        let index = id - self.first_id;
        if self.returned.give_back(index, &self.shared.starving) {
            let unpark = self.shared.unpark().clone();
            if let Some(unpark) = unpark {
                unpark.unpark();
            }
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; nobody holds a buffer of it any more, since every holder keeps the
        // Arc (and the kernel is drained or the Arc leaked).
        unsafe { libc::munmap(self.start.as_ptr().cast(), SEGMENT_SIZE) };
    }
}

/// A buffer that was claimed: its count stands at 1, for the lease that is to be made.
#[must_use = "the buffer would stay lent for good"]
pub(crate) struct Claim {
    id: u16,
    len: u32,
}

impl Claim {
    /// The lease, of the pool that the claim came from.
    #[inline(always)]
    pub(crate) fn lease(self, pool: &Rc<Pool>) -> Lease {
        Lease::new(pool.clone(), self.id, self.len)
    }
}

/// The pool; see the module.
pub struct Pool {
    segments: RefCell<Vec<Arc<Segment>>>,
    /// Where buffer `i` starts; fixed capacity so that reading it needs no borrow.
    addresses: Box<[Cell<*mut u8>]>,
    states: Box<[Cell<u32>]>,
    size: Cell<usize>,
    free: RefCell<Vec<u16>>,
    ring: RefCell<Option<BufRing>>,
    lent: Cell<usize>,
    outside: Cell<usize>,
    refused: Cell<u64>,
    /// Bytes on the heap that completions bring.
    brought: RefCell<Slab<Vec<u8>>>,
    limit: usize,
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool that may grow to `limit` buffers (at most [`MAX_BUFFERS`]), with its first segment.
    pub fn new(limit: usize) -> Rc<Self> {
        let pool = Rc::new(Self {
            segments: RefCell::default(),
            addresses: vec![Cell::new(std::ptr::null_mut()); MAX_BUFFERS].into(),
            states: vec![Cell::new(FREE); MAX_BUFFERS].into(),
            size: Cell::new(0),
            free: RefCell::default(),
            ring: RefCell::default(),
            lent: Cell::new(0),
            outside: Cell::new(0),
            refused: Cell::new(0),
            brought: RefCell::default(),
            limit: limit.clamp(1, MAX_BUFFERS),
            shared: Arc::new(Shared {
                starving: Starving::new(),
                unpark: Mutex::default(),
            }),
        });
        pool.grow(CIRCULATING);
        pool
    }

    /// Who is woken when another thread gives a buffer back while receives are parked.
    pub(crate) fn set_unpark(&self, unpark: Arc<dyn Unpark>) {
        // A second driver of the same pool would be a mistake; the first waker stays.
        self.shared.unpark().get_or_insert(unpark);
    }

    /// Nobody is woken any more.
    pub(crate) fn forget_unpark(&self) {
        let gone = self.shared.unpark().take();
        drop(gone);
    }

    /// Adds a segment (or what the limit leaves of one); false when the limit is reached, or so many
    /// circulate.
    pub(crate) fn grow(&self, circulating: usize) -> bool {
        let size = self.size.get();
        let count = SEGMENT_BUFFERS.min(self.limit - size);
        // To the nearest segment.
        if count == 0 || size - self.lent.get() + SEGMENT_BUFFERS / 2 >= circulating {
            return false;
        }
        let segment = Segment::new(size as u16, self.shared.clone());
        for id in (size as u16)..(size + count) as u16 {
            self.addresses[id as usize].set(segment.address(id));
        }
        self.segments.borrow_mut().push(segment);
        self.size.set(size + count);
        for id in (size as u16)..(size + count) as u16 {
            self.make_available(id);
        }
        true
    }

    /// Hands all free buffers to the kernel through `ring`, and from now on every one that comes
    /// back.
    pub(crate) fn attach(&self, ring: BufRing) {
        *self.ring.borrow_mut() = Some(ring);
        for id in std::mem::take(&mut *self.free.borrow_mut()) {
            self.make_available(id);
        }
    }

    /// Takes the ring away: the kernel has been told to forget it, its buffers are free.
    pub(crate) fn detach(&self) -> Option<BufRing> {
        let ring = self.ring.borrow_mut().take()?;
        for (id, state) in self.states.iter().enumerate().take(self.size.get()) {
            if state.get() == KERNEL {
                state.set(FREE);
                self.free.borrow_mut().push(id as u16);
            }
        }
        Some(ring)
    }

    /// Never frees the memory, because the kernel may still write to it.
    pub(crate) fn leak(&self) {
        for segment in self.segments.borrow().iter() {
            std::mem::forget(segment.clone());
        }
    }

    #[inline(always)]
    fn make_available(&self, id: u16) {
        let index = id as usize;
        match &*self.ring.borrow() {
            Some(ring) => {
                self.states[index].set(KERNEL);
                ring.publish(self.addresses[index].get(), BUFFER_SIZE as u32, id);
            }
            None => {
                self.states[index].set(FREE);
                self.free.borrow_mut().push(id);
            }
        }
    }

    /// For drivers that fill buffers themselves: takes a free buffer, lets `fill` write to it and,
    /// when that returns a count above 0, leaves it ready for a completion
    /// ([`Completion::received`](super::Completion::received)) that names it.
    /// `None` when no buffer is free and the pool may not grow.
    pub fn fill(&self, fill: impl FnOnce(&mut [u8]) -> isize) -> Option<(u16, isize)> {
        let popped = self.free.borrow_mut().pop();
        let id = match popped {
            Some(id) => id,
            None => {
                self.collect();
                if self.free.borrow().is_empty() && !self.grow(CIRCULATING) {
                    return None;
                }
                self.free.borrow_mut().pop()?
            }
        };
        self.states[id as usize].set(KERNEL);
        // SAFETY: the buffer was free, so nobody else holds it; its memory is initialised (zeroed at
        // birth) and lives as long as the pool.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.address(id), BUFFER_SIZE) };
        let count = fill(bytes);
        if count > 0 {
            self.states[id as usize].set(FILLED);
        } else {
            self.make_available(id);
        }
        Some((id, count))
    }

    /// Whether a completion can name one more piece of [`bring`](Self::bring)'s.
    pub(super) fn may_bring(&self) -> bool {
        self.brought.borrow().len() < usize::from(u16::MAX)
    }

    /// Takes bytes on the heap over, which a completion is to bring that names this number.
    pub(super) fn bring(&self, bytes: Vec<u8>) -> u16 {
        // The slab's keys are below the most it ever held at once.
        self.brought.borrow_mut().insert(bytes) as u16
    }

    /// What [`bring`](Self::bring) took over.
    #[cold]
    fn claim_brought(&self, number: u16) -> Option<Lease> {
        let bytes = self.brought.borrow_mut().try_remove(number as usize);
        bytes.map(Lease::from).or_else(|| self.refuse())
    }

    /// The lease of a buffer that just got `len` bytes; `flags` are the completion's and say which
    /// and from whom. `None`, counted in [`Pool::refused`], when the buffer is not in that state: the
    /// completion lies.
    pub(super) fn claim(self: &Rc<Self>, flags: u32, len: i32) -> Option<Lease> {
        if flags & FLAG_BROUGHT != 0 {
            return self.claim_brought((flags >> 16) as u16);
        }
        match self.claim_buffer(flags, len) {
            Some(claim) => Some(claim.lease(self)),
            None => self.refuse(),
        }
    }

    /// The same for a buffer of the pool itself. Who is refused asks [`claim`](Self::claim), which counts.
    #[inline(always)]
    pub(super) fn claim_buffer(&self, flags: u32, len: i32) -> Option<Claim> {
        let id = (flags >> 16) as u16;
        let held_by = match flags & FLAG_FILLED {
            0 => KERNEL,
            _ => FILLED,
        };
        // A negative one is above every size.
        let len = len as u32;
        match self.states.get(id as usize) {
            Some(state) if state.get() == held_by && len as usize <= BUFFER_SIZE => {
                state.set(1);
                self.lent.set(self.lent.get() + 1);
                Some(Claim { id, len })
            }
            _ => None,
        }
    }

    #[cold]
    fn refuse<T>(&self) -> Option<T> {
        self.refused.set(self.refused.get() + 1);
        None
    }

    #[inline]
    pub(super) fn address(&self, id: u16) -> *mut u8 {
        self.addresses[id as usize].get()
    }

    #[inline]
    pub(super) fn is_unique(&self, id: u16) -> bool {
        self.states[id as usize].get() == 1
    }

    pub(super) fn add_lease(&self, id: u16) {
        let state = &self.states[id as usize];
        // Leases may be forgotten, so nothing else bounds them.
        assert!(state.get() < FILLED - 1, "too many leases of one buffer");
        state.set(state.get() + 1);
    }

    #[inline(always)]
    pub(super) fn drop_lease(&self, id: u16) {
        let state = &self.states[id as usize];
        let count = state.get() - 1;
        state.set(count);
        if count == 0 {
            self.lent.set(self.lent.get() - 1);
            self.make_available(id);
        }
    }

    /// The buffer leaves the thread: its one lease becomes an owner that gives it back by a bit.
    pub(super) fn lend_outside(&self, id: u16) -> Arc<Segment> {
        self.outside.set(self.outside.get() + 1);
        self.segments.borrow()[id as usize / SEGMENT_BUFFERS].clone()
    }

    /// Takes back what other threads gave back; how many.
    #[inline]
    pub(crate) fn collect(&self) -> usize {
        if self.outside.get() == 0 {
            return 0;
        }
        self.collect_returned()
    }

    #[cold]
    fn collect_returned(&self) -> usize {
        let mut collected = 0;
        for segment in self.segments.borrow().iter() {
            let mut bits = segment.returned.take();
            while bits != 0 {
                let id = segment.first_id + bits.trailing_zeros() as u16;
                bits &= bits - 1;
                collected += 1;
                self.lent.set(self.lent.get() - 1);
                self.make_available(id);
            }
        }
        self.outside.set(self.outside.get() - collected);
        collected
    }

    /// Says whether receives wait for a buffer; while they do, a buffer given back by another
    /// thread wakes the loop. Call [`Pool::collect`] after setting it.
    pub(crate) fn set_starving(&self, starving: bool) {
        if self.outside.get() > 0 || !starving {
            self.shared.starving.set(starving);
        }
    }

    /// Buffers that exist now.
    pub fn size(&self) -> usize {
        self.size.get()
    }

    /// Buffers lent now, to leases and to `Bytes` made from leases.
    pub fn lent(&self) -> usize {
        self.lent.get()
    }

    /// Whether a receive could have a buffer now, possibly by growing.
    pub fn has_room(&self) -> bool {
        self.lent.get() < self.limit
    }

    /// Whether buffers run short: fewer than an eighth of the pool's limit are left, or none. Who
    /// keeps leases for long copies them out and drops them.
    pub fn is_short(&self) -> bool {
        self.limit - self.lent.get() < (self.limit / 8).max(1)
    }

    /// Completions refused because they named a buffer that was not the kernel's.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_only_while_few_buffers_circulate() {
        let pool = Pool::new(MAX_BUFFERS);
        while pool.grow(CIRCULATING) {}
        assert_eq!(pool.size(), CIRCULATING);
        let kept: Vec<Lease> = (0..MAX_BUFFERS)
            .map(|_| Lease::received_for_test(&pool, b"kept"))
            .collect();
        assert_eq!(pool.size(), MAX_BUFFERS, "lent ones do not circulate");
        assert!(!pool.grow(CIRCULATING));
        drop(kept);
        assert_eq!(pool.lent(), 0);
    }
}
