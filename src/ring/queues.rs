//! The queues of one ring, and the one system call.
//!
//! **Guarantees.**
//! * One thread: a ring is neither `Send` nor `Sync` (`SINGLE_ISSUER` would answer `EEXIST`).
//! * The head of the completion queue is published before every [`Ring::enter`] (trap T13): reading
//!   goes through [`Ring::completions`], whose value publishes it when dropped and keeps the ring
//!   borrowed until then.
//! * What was pushed stays in the queue until the kernel consumed it, and *will* run by a later
//!   enter even if one fails (trap T15): the caller keeps everything an entry points to.
//! * A ring that is closed must not be used, nor any in a forked child, whose mappings are not
//!   there (`MADV_DONTFORK`): [`Ring::is_usable`] tells, at the price of a load. Whoever owns a ring
//!   asks before each use.

use crate::sys::fork::Origin;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, squeue};
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;

/// What an enter does after submitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: no completion is even looked for.
    Submit,
    /// Runs what is pending, without waiting.
    Poll,
    /// Waits for one completion.
    Forever,
    /// Waits for one completion, this many nanoseconds: to that point of the monotonic clock
    /// if [`Ring::absolute_timeouts`], else from now.
    Nanos(u64),
}

/// One io_uring; see the module.
pub struct Ring {
    io: ManuallyDrop<IoUring>,
    /// The descriptor, or the index it is registered under.
    enter_fd: i32,
    /// Flags of every enter (`REGISTERED_RING`).
    enter_flags: u32,
    /// Flags of every enter that may sleep (`NO_IOWAIT`, trap T25).
    sleep_flags: u32,
    /// Flags of every enter with a time (`EXT_ARG`, `ABS_TIMER`).
    timer_flags: u32,
    registered: bool,
    no_sqarray: bool,
    origin: Origin,
    single_thread: PhantomData<*mut ()>,
}

impl Ring {
    /// A ring that uses nothing optional yet.
    pub(super) fn new(io: IoUring, no_sqarray: bool) -> Self {
        Self {
            enter_fd: io.as_raw_fd(),
            io: ManuallyDrop::new(io),
            enter_flags: 0,
            sleep_flags: 0,
            timer_flags: EnterFlags::EXT_ARG.bits(),
            registered: false,
            no_sqarray,
            origin: Origin::here(),
            single_thread: PhantomData,
        }
    }

    /// The crate's ring, for registrations.
    pub(super) fn io(&self) -> &IoUring {
        &self.io
    }

    /// From now on enters name the ring by its registered index.
    pub(super) fn use_registered(&mut self, index: i32) {
        self.enter_fd = index;
        self.enter_flags |= EnterFlags::REGISTERED_RING.bits();
        self.registered = true;
    }

    /// From now on a sleeping enter does not count as waiting for a disk.
    pub(super) fn use_no_iowait(&mut self) {
        self.sleep_flags |= EnterFlags::NO_IOWAIT.bits();
    }

    /// From now on [`Wait::Nanos`] means a point in time, or again (`false`) a duration.
    pub(super) fn use_absolute_timeouts(&mut self, absolute: bool) {
        self.timer_flags = EnterFlags::EXT_ARG.bits();
        if absolute {
            self.timer_flags |= EnterFlags::ABS_TIMER.bits();
        }
    }

    /// Whether [`Wait::Nanos`] is a point of the monotonic clock.
    #[inline]
    pub fn absolute_timeouts(&self) -> bool {
        self.timer_flags & EnterFlags::ABS_TIMER.bits() != 0
    }

    /// Whether the kernel has what came with Linux 6.6 (`NO_SQARRAY`, so this ring uses it) and
    /// lacks what came with 6.10 (send and receive bundles).
    pub fn is_between_6_6_and_6_10(&self) -> bool {
        self.no_sqarray && !self.io.params().is_feature_recvsend_bundle()
    }

    /// Puts an entry in the queue; false when it is full.
    ///
    /// # Safety
    /// Everything the entry points to stays valid and unmoved until the final completion of its
    /// operation was read, whatever [`Ring::enter`] answers.
    #[inline]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller's contract.
        unsafe { self.io.submission().push(entry).is_ok() }
    }

    /// How many entries the kernel has not consumed.
    #[inline]
    pub fn unsubmitted(&self) -> u32 {
        // SAFETY: no other view of the queue exists: `push` and this one end with their call, and
        // the ring belongs to one thread.
        unsafe { self.io.submission_shared() }.len() as u32
    }

    /// Whether completions wait outside the queue, because it was full. An enter that looks for
    /// completions moves as many into it as fit.
    #[inline]
    pub fn overflowed(&self) -> bool {
        // SAFETY: as in `unsubmitted`.
        unsafe { self.io.submission_shared() }.cq_overflow()
    }

    /// Whether the kernel has dropped a completion for want of memory: an operation will never
    /// complete, and the ring is broken for good.
    #[inline]
    pub fn lost_completions(&self) -> bool {
        // SAFETY: the view ends with this call, the ring belongs to one thread, and `completions`
        // borrows it exclusively.
        unsafe { self.io.completion_shared() }.overflow() != 0
    }

    /// Whether an enter would bring completions, or the queue holds some.
    #[inline]
    pub fn has_completions(&self) -> bool {
        // SAFETY: as in `unsubmitted`.
        let submission = unsafe { self.io.submission_shared() };
        submission.taskrun() || submission.cq_overflow() || !self.completions_empty()
    }

    /// Whether an enter would run pending work, or move overflowed completions (trap T22).
    #[inline]
    pub fn has_work(&self) -> bool {
        // SAFETY: as in `unsubmitted`.
        let submission = unsafe { self.io.submission_shared() };
        submission.taskrun() || submission.cq_overflow()
    }

    /// Whether the completion queue is empty.
    #[inline]
    pub fn completions_empty(&self) -> bool {
        // SAFETY: as in `lost_completions`.
        unsafe { self.io.completion_shared() }.is_empty()
    }

    /// The completions that stand in the queue. Dropping the value publishes what was read.
    #[inline]
    pub fn completions(&mut self) -> CompletionQueue<'_> {
        self.io.completion()
    }

    /// Submits up to `to_submit` entries and waits as said. `Ok` is the number of entries consumed
    /// and says nothing about completions: a failed wait is not reported when entries were
    /// consumed (trap T14).
    ///
    /// # Errors
    /// The errno, when nothing was consumed: `ETIME` (the time is over), `EINTR` (a signal),
    /// `EAGAIN` (no memory for a request), `EBUSY` (too many completions wait), `EBADR` (a
    /// completion was dropped); others mean that the ring is unusable.
    #[inline(always)]
    pub fn enter(&mut self, to_submit: u32, wait: Wait) -> Result<u32, i32> {
        const GETEVENTS: u32 = EnterFlags::GETEVENTS.bits();
        match wait {
            Wait::Submit => self.call(to_submit, 0, 0, std::ptr::null(), 0),
            Wait::Poll => self.call(to_submit, 0, GETEVENTS, std::ptr::null(), 0),
            Wait::Forever => {
                let flags = GETEVENTS | self.sleep_flags;
                self.call(to_submit, 1, flags, std::ptr::null(), 0)
            }
            Wait::Nanos(nanos) => {
                let time = Timespec::new()
                    .sec(nanos / 1_000_000_000)
                    .nsec((nanos % 1_000_000_000) as u32);
                let args = SubmitArgs::new().timespec(&time);
                let flags = GETEVENTS | self.sleep_flags | self.timer_flags;
                let args = &raw const args;
                self.call(to_submit, 1, flags, args.cast(), size_of::<SubmitArgs>())
            }
        }
    }

    #[inline]
    fn call(
        &self,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        argument: *const u8,
        size: usize,
    ) -> Result<u32, i32> {
        // SAFETY: the ring is open, or registered under this index by this thread; `argument` is
        // null or points to a live SubmitArgs of `size` bytes; the entries in the queue were vouched
        // for in `push`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                to_submit,
                min_complete,
                flags | self.enter_flags,
                argument,
                size,
            )
        };
        u32::try_from(result).map_err(|_| errno())
    }

    /// Makes the kernel take receive buffers of `group` from the ring of descriptors at `address`.
    ///
    /// # Safety
    /// The memory stays valid until [`Ring::unregister_buffers`] returned, or for ever.
    ///
    /// # Errors
    /// `ENOMEM` when `RLIMIT_MEMLOCK` is used up (trap T6).
    pub unsafe fn register_buffers(&self, address: u64, count: u16, group: u16) -> io::Result<()> {
        // SAFETY: the caller's contract.
        unsafe {
            self.io
                .submitter()
                .register_buf_ring_with_flags(address, count, group, 0)
        }
    }

    /// The kernel takes no more buffers of `group`.
    ///
    /// # Errors
    /// `EINVAL` when there is no such group.
    pub fn unregister_buffers(&self, group: u16) -> io::Result<()> {
        self.io.submitter().unregister_buf_ring(group)
    }

    /// Whether this ring may be used: it is open, and this is the process that made it, not a forked
    /// child. Costs a load.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.origin.is_here()
    }

    /// Whether a child that was cloned without running fork handlers asks, or any other. Costs a
    /// system call.
    pub fn is_foreign(&self) -> bool {
        self.origin.is_foreign()
    }

    /// Closes the ring before it is dropped. Does not wait for what is in flight. Does nothing in a
    /// forked child, nor when called twice.
    ///
    /// # Safety
    /// Afterwards nothing is called but [`Ring::is_usable`] and [`Ring::is_foreign`].
    pub unsafe fn close(&mut self) {
        if !self.is_usable() || self.is_foreign() {
            return;
        }
        self.origin = Origin::NOWHERE;
        if self.registered {
            // The slot, one of 16 of this thread, would stay taken otherwise.
            super::setup::unregister_fd(&self.io, self.enter_fd);
        }
        // SAFETY: only here, and only once, since the ring is usable until here; nothing touches `io`
        // afterwards, which is the caller's contract.
        unsafe { ManuallyDrop::drop(&mut self.io) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: nothing is called after this.
        unsafe { self.close() }
    }
}

pub(super) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
