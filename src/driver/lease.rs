//! A lease: a received buffer, lent by the pool.
//!
//! **Guarantees.** While any lease of a buffer lives, neither the kernel nor another lease of
//! another receive writes to it. The last one dropped gives it back at once. A lease belongs to its
//! thread (plain count); [`Lease::into_bytes`] makes what may travel.
//!
//! ```text
//!  Kernel ──claim──▶ Lent(1) ──split──▶ Lent(n) ──drop──▶ Lent(n-1) … ──drop──▶ Kernel | Free
//!                       └──into_bytes──▶ Lent (outside) ──drop, any thread──▶ return bit ──collect──▶ Kernel | Free
//! ```

use super::pool::{Pool, Segment};
use bytes::Bytes;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

/// Up to this many bytes, [`Lease::into_bytes`] copies instead of keeping a whole buffer away.
pub(crate) const SMALL: usize = 1024;

/// Bytes of a buffer that the receive pool lends; reads as `&[u8]`.
///
/// Drop it soon: it is part of the small hot set of buffers that all receives of the loop share.
/// To keep the bytes, use [`Lease::into_bytes`] or copy them.
pub struct Lease {
    owner: Owner,
    start: u32,
    len: u32,
}

enum Owner {
    Pool(Rc<Pool>, u16),
    /// Not the pool's: copied out of it, or made by a transport that has no pool. A vector in parts:
    /// its beginning and its capacity; it ends where the lease ends.
    Heap(NonNull<u8>, u32),
}

// Futures that read hold some, so they are part of the price of an idle connection.
const _: () = assert!(size_of::<Lease>() <= 24);

impl Lease {
    /// A lease of the first `len` bytes of buffer `id`, whose count was set to 1 by the pool.
    #[inline(always)]
    pub(super) fn new(pool: Rc<Pool>, id: u16, len: u32) -> Self {
        Self {
            owner: Owner::Pool(pool, id),
            start: 0,
            len,
        }
    }

    /// How many bytes it has.
    #[inline(always)]
    pub(super) fn length(&self) -> usize {
        self.len as usize
    }

    /// Drops the first `n` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len as usize, "advanced past the end of a lease");
        self.start += n as u32;
        self.len -= n as u32;
    }

    /// Splits off the first `n` bytes as a lease of their own; both keep a pool buffer lent.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn split_to(&mut self, n: usize) -> Self {
        assert!(n <= self.len as usize, "split past the end of a lease");
        let head = match &self.owner {
            Owner::Pool(pool, id) => {
                pool.add_lease(*id);
                Self {
                    owner: Owner::Pool(pool.clone(), *id),
                    start: self.start,
                    len: n as u32,
                }
            }
            Owner::Heap(..) => Self::from(self[..n].to_vec()),
        };
        self.advance(n);
        head
    }

    /// The same bytes with the pool's buffer given back: copies them unless they are on the heap
    /// already.
    #[must_use]
    pub fn detach(self) -> Self {
        if self.is_pooled() {
            Self::from(self.to_vec())
        } else {
            self
        }
    }

    /// Whether the bytes stand in a buffer of the pool.
    pub const fn is_pooled(&self) -> bool {
        matches!(self.owner, Owner::Pool(..))
    }

    /// Whether the bytes stand in a buffer of the pool and the pool runs short: who keeps this lease
    /// should copy it.
    #[inline]
    pub fn is_scarce(&self) -> bool {
        matches!(&self.owner, Owner::Pool(pool, _) if pool.is_short())
    }

    /// The bytes for writing, when this is the buffer's only lease.
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        let start = self.start as usize;
        match &mut self.owner {
            Owner::Heap(bytes, _) => {
                // SAFETY: the vector is this lease's alone and reaches to the end of the lease
                // (upheld since `from`).
                Some(unsafe {
                    std::slice::from_raw_parts_mut(bytes.as_ptr().add(start), self.len as usize)
                })
            }
            Owner::Pool(pool, id) if pool.is_unique(*id) => {
                let start = pool.address(*id).wrapping_add(start);
                // SAFETY: the buffer is lent and this is its only lease (checked), so nobody else
                // reads or writes it while self is borrowed; the range lies within the buffer
                // (upheld since `new`).
                Some(unsafe { std::slice::from_raw_parts_mut(start, self.len as usize) })
            }
            Owner::Pool(..) => None,
        }
    }

    /// The bytes as a value that may be kept and sent to other threads. Costs one allocation; up to
    /// 1024 bytes are copied and the buffer goes back at once, more keep the buffer until the last
    /// clone is dropped, on whatever thread, even after the loop has closed.
    pub fn into_bytes(mut self) -> Bytes {
        let range = self.start as usize..(self.start + self.len) as usize;
        match &mut self.owner {
            Owner::Heap(..) => Bytes::from(self.take_vec()).slice(range),
            Owner::Pool(pool, id) if self.len as usize > SMALL && pool.is_unique(*id) => {
                let segment = pool.lend_outside(*id);
                let outside = Outside {
                    segment,
                    start: self.start,
                    len: self.len,
                    id: *id,
                };
                // The buffer is `outside`'s now: this lease must not give it back.
                self.owner = Owner::Heap(NonNull::dangling(), 0);
                (self.start, self.len) = (0, 0);
                Bytes::from_owner(outside)
            }
            Owner::Pool(..) => Bytes::copy_from_slice(&self),
        }
    }

    /// Not part of what every message comes by.
    #[cold]
    #[inline(never)]
    fn free_vec(&mut self) {
        drop(self.take_vec());
    }

    /// Takes the vector out, from its beginning, and leaves an empty one.
    fn take_vec(&mut self) -> Vec<u8> {
        let Owner::Heap(bytes, capacity) = &mut self.owner else {
            return Vec::new();
        };
        let bytes = std::mem::replace(bytes, NonNull::dangling());
        let capacity = std::mem::take(capacity);
        let len = std::mem::take(&mut self.start) + std::mem::take(&mut self.len);
        // SAFETY: these are the parts of a vector that `from` took apart, or of an empty one, and they
        // are taken once; `len` is what it was, because the end of the lease never moves.
        unsafe { Vec::from_raw_parts(bytes.as_ptr(), len as usize, capacity as usize) }
    }
}

#[cfg(test)]
impl Lease {
    /// A buffer of the pool, as if it had been received.
    pub(crate) fn received_for_test(pool: &Rc<Pool>, bytes: &[u8]) -> Self {
        let filled = pool.fill(|buffer| {
            buffer[..bytes.len()].copy_from_slice(bytes);
            bytes.len() as isize
        });
        let (id, len) = filled.expect("a free buffer");
        let flags = u32::from(id) << 16 | super::FLAG_FILLED;
        pool.claim(flags, len as i32).expect("a filled buffer")
    }
}

impl From<Vec<u8>> for Lease {
    /// # Panics
    /// With 4 GiB or more.
    fn from(mut bytes: Vec<u8>) -> Self {
        let len = u32::try_from(bytes.len()).expect("a lease of less than 4 GiB");
        if u32::try_from(bytes.capacity()).is_err() {
            bytes.shrink_to_fit();
        }
        let capacity = u32::try_from(bytes.capacity()).expect("shrunk to less than 4 GiB");
        let mut bytes = ManuallyDrop::new(bytes);
        let start = NonNull::new(bytes.as_mut_ptr()).expect("a vector has a beginning");
        Self {
            owner: Owner::Heap(start, capacity),
            start: 0,
            len,
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let start = self.start as usize;
        match &self.owner {
            Owner::Pool(pool, id) => {
                let start = pool.address(*id).wrapping_add(start);
                // SAFETY: the buffer is lent, so nobody writes to it except through the unique
                // lease, and then self is that lease; the range lies within the buffer, whose
                // memory is initialised.
                unsafe { std::slice::from_raw_parts(start, self.len as usize) }
            }
            Owner::Heap(bytes, _) => {
                // SAFETY: as in `get_mut`, and borrowed shared.
                unsafe { std::slice::from_raw_parts(bytes.as_ptr().add(start), self.len as usize) }
            }
        }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes)", self.len)
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        match &self.owner {
            Owner::Pool(pool, id) => pool.drop_lease(*id),
            Owner::Heap(..) => self.free_vec(),
        }
    }
}

/// Owner of a buffer that left the loop as [`Bytes`].
struct Outside {
    segment: Arc<Segment>,
    start: u32,
    len: u32,
    id: u16,
}

impl AsRef<[u8]> for Outside {
    fn as_ref(&self) -> &[u8] {
        let start = self
            .segment
            .address(self.id)
            .wrapping_add(self.start as usize);
        // SAFETY: the buffer stays lent until the return bit is set in drop, so nobody writes to
        // it; the segment's memory lives as long as the Arc.
        unsafe { std::slice::from_raw_parts(start, self.len as usize) }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.segment.give_back(self.id);
    }
}
