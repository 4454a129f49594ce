//! Owned buffers for one-shot operations.
//!
//! **Guarantees.** The bytes stand on the heap and do not move while the buffer value is moved, so
//! the kernel may hold their address as long as the operation table holds the value.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// An owned buffer: a vector, or memory of a chosen alignment (for `O_DIRECT`).
pub enum Buf {
    /// The bytes of the vector, up to its length.
    Vec(Vec<u8>),
    /// Zeroed memory of the alignment asked for; made by [`Buf::aligned`].
    Aligned(AlignedBytes),
}

impl Buf {
    /// `len` zeroed bytes at a multiple of `align`, as files opened with `O_DIRECT` need it.
    ///
    /// # Panics
    /// When `align` is not a power of two, `len` is 0, or one of them does not fit into 32 bits.
    pub fn aligned(len: usize, align: usize) -> Self {
        Self::Aligned(AlignedBytes::new(len, align))
    }
}

impl From<Vec<u8>> for Buf {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Vec(bytes)
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Vec(bytes) => bytes,
            Self::Aligned(bytes) => bytes.as_slice(),
        }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Vec(bytes) => bytes,
            Self::Aligned(bytes) => bytes.as_mut_slice(),
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len())
    }
}

/// The aligned variant of [`Buf`].
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: u32,
    align: u32,
}

// SAFETY: the memory is owned by this value alone and plain.
unsafe impl Send for AlignedBytes {}

impl AlignedBytes {
    fn new(len: usize, align: usize) -> Self {
        assert!(len > 0, "an aligned buffer needs at least one byte");
        assert!(
            u32::try_from(len.max(align)).is_ok(),
            "an aligned buffer has less than 4 GiB"
        );
        let layout = Layout::from_size_align(len, align).expect("alignment must be a power of two");
        // SAFETY: the layout has a size above 0, asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self {
            start,
            len: layout.size() as u32,
            align: layout.align() as u32,
        }
    }

    fn layout(&self) -> Layout {
        // SAFETY: size and alignment are those of the layout that `new` made.
        unsafe { Layout::from_size_align_unchecked(self.len as usize, self.align as usize) }
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` bytes, zeroed at birth, owned by self alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout()) }
    }
}
