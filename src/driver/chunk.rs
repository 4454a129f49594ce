//! What a send sends: chunks, gathered.
//!
//! **Guarantees.** A [`Gather`] owns its chunks; their bytes do not move while it does. The vectors
//! and the message header that the kernel reads stand in the same box and are made by
//! [`Gather::prepare`] just before the submission; nobody changes the chunks between that and the
//! final completion of the send.

use super::lease::Lease;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;

/// The most chunks one send gathers; more wait for the next send. Far below the kernel's limit of
/// 1024, where a longer vector no longer saves anything.
pub const MAX_VECTORS: usize = 64;

/// A piece of what is to be sent.
pub enum Chunk {
    /// A received buffer, or part of one, sent from where it was received.
    Lease(Lease),
    /// Shared bytes.
    Bytes(Bytes),
    /// An owned vector; bytes before the second field are already sent.
    Vec(Vec<u8>, usize),
}

impl Chunk {
    /// Drops the first `n` bytes.
    ///
    /// # Panics
    /// When the chunk is shorter.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advanced past the end of a chunk");
        match self {
            Self::Lease(lease) => lease.advance(n),
            Self::Bytes(bytes) => bytes::Buf::advance(bytes, n),
            Self::Vec(_, start) => *start += n,
        }
    }

    /// Whether the chunk holds a buffer of the receive pool.
    pub const fn is_lease(&self) -> bool {
        matches!(self, Self::Lease(_))
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Bytes(bytes) => bytes,
            Self::Vec(bytes, start) => &bytes[*start..],
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Lease(_) => "lease",
            Self::Bytes(_) => "bytes",
            Self::Vec(..) => "vec",
        };
        write!(f, "{kind}[{}]", self.len())
    }
}

impl From<Lease> for Chunk {
    fn from(lease: Lease) -> Self {
        Self::Lease(lease)
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Vec(bytes, 0)
    }
}

/// The chunks of one send and what the kernel needs to read them. Meant to be used again: clearing
/// keeps the memory.
pub struct Gather {
    chunks: Vec<Chunk>,
    total: usize,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.chunks).finish()
    }
}

impl Default for Gather {
    fn default() -> Self {
        // SAFETY: all zeroes is a valid msghdr (null pointers with zero lengths).
        let header = unsafe { std::mem::zeroed() };
        Self {
            chunks: Vec::new(),
            total: 0,
            vectors: Vec::new(),
            header,
        }
    }
}

impl Gather {
    /// An empty one.
    pub fn new() -> Box<Self> {
        Box::default()
    }

    /// Adds a chunk at the end.
    pub fn push(&mut self, chunk: Chunk) {
        self.total += chunk.len();
        self.chunks.push(chunk);
    }

    /// Takes chunks from the front of `queue`, up to [`MAX_VECTORS`].
    pub fn take_from(&mut self, queue: &mut VecDeque<Chunk>) {
        while self.chunks.len() < MAX_VECTORS
            && let Some(chunk) = queue.pop_front()
        {
            self.push(chunk);
        }
    }

    /// Gives what is unsent after `sent` bytes back to the front of `queue`, in order, and keeps
    /// nothing.
    pub fn give_back(&mut self, mut sent: usize, queue: &mut VecDeque<Chunk>) {
        let mut at = 0;
        for mut chunk in self.chunks.drain(..) {
            let skip = sent.min(chunk.len());
            sent -= skip;
            if skip < chunk.len() {
                chunk.advance(skip);
                queue.insert(at, chunk);
                at += 1;
            }
        }
        self.total = 0;
    }

    /// Drops the chunks, keeps the memory.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.total = 0;
    }

    /// How many bytes stand in it.
    #[inline]
    pub fn total(&self) -> usize {
        self.total
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Fills vectors and header from the chunks and returns the header, valid while neither the
    /// chunks change nor the box is dropped.
    pub(crate) fn prepare(&mut self) -> *const libc::msghdr {
        self.vectors.clear();
        self.vectors
            .extend(self.chunks.iter().map(|chunk| libc::iovec {
                // The kernel only reads through it: `iov_base` is mutable because receives share the type.
                iov_base: chunk.as_ptr().cast_mut().cast(),
                iov_len: chunk.len(),
            }));
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        &raw const self.header
    }
}
