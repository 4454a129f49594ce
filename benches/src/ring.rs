//! The least that a hand-written loop needs of io_uring: one ring, one ring of receive buffers.
//!
//! Used by the load generator and by the hand-written server. A [`Ring`] lives until the process
//! ends: it is leaked, so that its halves can be used without borrowing each other.

use io_uring::types::BufRingEntry;
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, squeue};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// One io_uring of one thread, with deferred task work.
pub struct Ring {
    submitter: Submitter<'static>,
    sq: squeue::SubmissionQueue<'static>,
    cq: cqueue::CompletionQueue<'static>,
    flags: EnterFlags,
}

/// What one completion says.
#[derive(Clone, Copy, Debug)]
pub struct Cqe {
    /// The submission's user data.
    pub data: u64,
    /// Its result, or an errno below 0.
    pub result: i32,
    flags: u32,
}

impl Cqe {
    /// Whether more completions of the same submission follow.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer that it fills, if one.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

impl Ring {
    /// Makes a ring; `watched` asks the kernel to set a flag when work waits ([`Ring::work_waits`]).
    pub fn new(sq: u32, cq: u32, watched: bool) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_clamp()
            .setup_cqsize(cq);
        if watched {
            builder.setup_taskrun_flag();
        }
        let ring: &'static mut IoUring = Box::leak(Box::new(builder.build(sq)?));
        let mut flags = EnterFlags::GETEVENTS;
        if ring.params().is_feature_no_iowait() {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let (mut submitter, sq, cq) = ring.split();
        submitter.register_ring_fd()?;
        Ok(Ring {
            submitter,
            sq,
            cq,
            flags,
        })
    }

    /// Adds a submission; a full queue is submitted first, without waiting.
    ///
    /// # Safety
    /// What the entry points to must stay valid, and untouched where the kernel writes, until the
    /// operation is over.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: passed on to the caller.
        while unsafe { self.sq.push(entry) }.is_err() {
            self.submit(0, EnterFlags::empty())?;
        }
        Ok(())
    }

    /// Submissions that no enter has taken yet.
    pub fn pending(&self) -> usize {
        self.sq.len()
    }

    /// Submits everything, waits for `want` completions, runs what the kernel deferred.
    pub fn enter(&mut self, want: u32) -> io::Result<()> {
        self.submit(want, self.flags)
    }

    fn submit(&mut self, mut want: u32, flags: EnterFlags) -> io::Result<()> {
        loop {
            self.sq.sync();
            // Publishes the head: the kernel counts what lies there unread as completions.
            self.cq.sync();
            if !self.cq.is_empty() {
                want = 0;
            }
            let pending = self.sq.len();
            // SAFETY: no argument; the flags take none.
            let entered = unsafe {
                self.submitter
                    .enter::<()>(pending as u32, want, flags.bits(), None)
            };
            match entered {
                Ok(taken) if taken < pending => {}
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.sq.sync();
        Ok(())
    }

    /// Whether an enter would bring completions; only of a watched ring.
    pub fn work_waits(&self) -> bool {
        self.sq.taskrun() || self.sq.cq_overflow()
    }

    /// Whether completions wait in the kernel because the queue was full.
    pub fn overflowed(&self) -> bool {
        self.sq.cq_overflow()
    }

    /// Takes the next completion.
    pub fn completion(&mut self) -> Option<Cqe> {
        let entry = match self.cq.next() {
            Some(entry) => entry,
            None => {
                self.cq.sync();
                self.cq.next()?
            }
        };
        Some(Cqe {
            data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        })
    }
}

/// Receive buffers that the kernel picks from: group 0 of one ring, published a step at a time.
pub struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    size: usize,
    limit: u16,
    published: u16,
    tail: u16,
}

impl Buffers {
    /// The group that receives name.
    pub const GROUP: u16 = 0;

    /// Registers room for `limit` (a power of two) buffers of `size` bytes and publishes `first`.
    pub fn new(ring: &Ring, size: usize, first: u16, limit: u16) -> io::Result<Buffers> {
        let entries: *mut BufRingEntry =
            map(limit as usize * std::mem::size_of::<BufRingEntry>())?.cast();
        let memory = map(limit as usize * size)?;
        // SAFETY: the mapping is page-aligned, large enough and never unmapped.
        unsafe {
            ring.submitter
                .register_buf_ring_with_flags(entries as u64, limit, Self::GROUP, 0)?;
        }
        let mut buffers = Buffers {
            entries,
            memory,
            size,
            limit,
            published: 0,
            tail: 0,
        };
        buffers.grow(first);
        Ok(buffers)
    }

    /// Publishes up to `count` more buffers; false if all are.
    pub fn grow(&mut self, count: u16) -> bool {
        let before = self.published;
        while self.published < self.limit && self.published - before < count {
            self.give(self.published);
            self.published += 1;
        }
        self.publish();
        self.published > before
    }

    /// What the kernel wrote: `length` bytes from `offset` in buffer `id`. The caller holds that
    /// buffer: it came with a completion and was not given back.
    pub fn bytes(&self, id: u16, offset: usize, length: usize) -> &[u8] {
        assert!(id < self.limit && offset + length <= self.size);
        // SAFETY: within the mapping, by the assertion; the kernel does not write to a buffer
        // between its completion and `give`.
        unsafe { std::slice::from_raw_parts(self.address(id).add(offset), length) }
    }

    /// Where buffer `id` starts.
    pub fn address(&self, id: u16) -> *mut u8 {
        self.memory.wrapping_add(id as usize * self.size)
    }

    /// Gives a buffer back; the kernel sees it after [`Buffers::publish`].
    pub fn give(&mut self, id: u16) {
        let index = (self.tail & (self.limit - 1)) as usize;
        let (address, size) = (self.address(id), self.size);
        // SAFETY: the index is masked to the ring; the kernel does not read entries beyond the
        // tail. Written field by field, because the tail lies in entry 0.
        let entry = unsafe { &mut *self.entries.add(index) };
        entry.set_addr(address as u64);
        entry.set_len(size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub fn publish(&mut self) {
        // SAFETY: the tail of a registered buffer ring is a u16 that both sides use atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Anonymous memory, zeroed, for the life of the process; pages are real once touched.
fn map(length: usize) -> io::Result<*mut u8> {
    // SAFETY: a new private mapping touches nothing that exists.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(memory.cast())
}
