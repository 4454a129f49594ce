//! What a send sends: chunks, gathered.
//!
//! **Guarantees.** A [`Gather`] owns its chunks; their bytes do not move while it does. The vectors
//! and the message header that the kernel reads stand in the same box and are made by
//! [`Gather::prepare`] just before the submission; nobody changes the chunks between that and the
//! final completion of the send. The destructor of a [`Bytes`] is code of others: when it panics, the other
//! chunks are dealt with all the same, and the panic is kept for [`Gather::take_panic`].

use super::lease::Lease;
use bytes::Bytes;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The most chunks one send carries (the kernel's limit); more wait for the next send.
pub const MAX_VECTORS: usize = 1024;

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
    /// How many bytes it has.
    #[inline(always)]
    fn length(&self) -> usize {
        match self {
            Self::Lease(lease) => lease.length(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Vec(bytes, start) => bytes.len() - start,
        }
    }

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
    chunks: VecDeque<Chunk>,
    /// Bytes in all chunks.
    total: usize,
    /// Bytes in the chunks that `prepare` told the kernel of.
    prepared: usize,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
    /// A vector of an earlier use, for slices to be copied into.
    spare: Vec<u8>,
    /// What a destructor panicked with.
    panic: Option<Box<dyn Any + Send>>,
}

/// Up to this capacity a vector is kept for the next slice.
const SPARE_CAPACITY: usize = 64 * 1024;

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
            chunks: VecDeque::new(),
            total: 0,
            prepared: 0,
            vectors: Vec::new(),
            header,
            spare: Vec::new(),
            panic: None,
        }
    }
}

impl Drop for Gather {
    /// Panics once if destructors of chunks did.
    fn drop(&mut self) {
        self.clear();
        if let Some(payload) = self.panic.take()
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

impl Gather {
    /// An empty one.
    pub fn new() -> Box<Self> {
        Box::default()
    }

    /// Adds a chunk at the end.
    #[inline]
    pub fn push(&mut self, chunk: Chunk) {
        let len = chunk.length();
        self.push_measured(chunk, len);
    }

    /// Adds a chunk of `len` bytes at the end. (On every message's way: a chunk that is looked at while it
    /// is moved is moved in pieces, which stalls.)
    #[inline(always)]
    pub(crate) fn push_measured(&mut self, chunk: Chunk, len: usize) {
        self.total += len;
        self.chunks.push_back(chunk);
    }

    /// Adds a copy of `bytes` at the end, joined to a vector that stands there.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        if let Some(Chunk::Vec(last, _)) = self.chunks.back_mut() {
            last.extend_from_slice(bytes);
            return;
        }
        let mut copy = std::mem::take(&mut self.spare);
        copy.extend_from_slice(bytes);
        self.chunks.push_back(Chunk::Vec(copy, 0));
    }

    /// Moves all chunks of `other` to the end.
    pub fn append(&mut self, other: &mut Self) {
        self.total += other.total;
        self.chunks.append(&mut other.chunks);
        other.total = 0;
    }

    /// Drops the first `n` bytes: they are sent.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, mut n: usize) {
        assert!(n <= self.total, "advanced past the end of a gather");
        self.total -= n;
        while let Some(first) = self.chunks.front_mut() {
            if n < first.len() {
                first.advance(n);
                return;
            }
            n -= first.len();
            if let Some(chunk) = self.chunks.pop_front() {
                self.keep(chunk);
            }
        }
    }

    /// Copies out what stands in buffers of the receive pool and gives those back.
    pub fn release_leases(&mut self) {
        for chunk in &mut self.chunks {
            if let Chunk::Lease(lease) = chunk
                && lease.is_pooled()
            {
                *chunk = Chunk::Vec(lease.to_vec(), 0);
            }
        }
    }

    /// Drops a chunk, or keeps its memory.
    #[inline(always)]
    fn keep(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Lease(lease) => drop(lease),
            chunk => self.keep_other(chunk),
        }
    }

    fn keep_other(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Vec(mut bytes, _)
                if bytes.capacity() > self.spare.capacity()
                    && bytes.capacity() <= SPARE_CAPACITY =>
            {
                bytes.clear();
                self.spare = bytes;
            }
            Chunk::Vec(..) | Chunk::Lease(_) => {}
            Chunk::Bytes(bytes) => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(bytes))) {
                    self.panic.get_or_insert(payload);
                }
            }
        }
    }

    /// What the destructor of a chunk panicked with, the first one since it was asked for.
    #[inline(always)]
    pub fn take_panic(&mut self) -> Option<Box<dyn Any + Send>> {
        // On every message's way: looks before it writes.
        match self.panic {
            None => None,
            Some(_) => self.panic.take(),
        }
    }

    /// Drops the chunks, keeps the memory.
    #[inline(always)]
    pub fn clear(&mut self) {
        while let Some(chunk) = self.chunks.pop_front() {
            self.keep(chunk);
        }
        self.total = 0;
    }

    /// How many bytes stand in it.
    #[inline]
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many bytes the last `prepare` told the kernel of; all of them unless there are more than
    /// [`MAX_VECTORS`] chunks.
    #[inline]
    pub fn prepared(&self) -> usize {
        self.prepared
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &VecDeque<Chunk> {
        &self.chunks
    }

    /// The bytes if they stand in one piece (a plain send will do), having noted their count as
    /// `prepare` does.
    #[inline(always)]
    pub(crate) fn single(&mut self) -> Option<&[u8]> {
        if self.chunks.len() != 1 {
            return None;
        }
        self.prepared = self.total;
        self.chunks.front().map(|chunk| &**chunk)
    }

    /// Fills vectors and header from the chunks and returns the header, valid while neither the
    /// chunks change nor the box is dropped.
    pub(crate) fn prepare(&mut self) -> *const libc::msghdr {
        self.vectors.clear();
        self.prepared = 0;
        for chunk in self.chunks.iter().take(MAX_VECTORS) {
            self.prepared += chunk.len();
            self.vectors.push(libc::iovec {
                // Only read through: mutable because receives share the type.
                iov_base: chunk.as_ptr().cast_mut().cast(),
                iov_len: chunk.len(),
            });
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        &raw const self.header
    }

    /// Sends what the socket takes at this moment, with one system call.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`; `WouldBlock` when it takes nothing.
    pub(crate) fn send_now(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let header = self.prepare();
        // SAFETY: header, vectors and chunks live and stay unchanged during the call, which only
        // reads them.
        let sent = unsafe {
            libc::sendmsg(
                fd.as_raw_fd(),
                header,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
