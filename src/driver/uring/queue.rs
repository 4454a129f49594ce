//! The way of entries into the kernel: submission queue, backlog, enter.
//!
//! **Guarantees.** Entries run in the order in which they were pushed. None is lost: what does not
//! fit into the queue is submitted early, and where even that fails (trap T15: `EAGAIN`, `EBUSY`
//! leave them in the queue) waits in the backlog.
//!
//! A shutdown is no entry: the kernel would hand it to a worker thread (2.2 µs instead of 0.2), and
//! it would run at any time. It is a mark between entries, performed with `shutdown(2)` as soon as
//! those before it were consumed. Entries behind it run after it if they work on the same
//! descriptor: the first such entry submits what is before the mark.

use super::tag::{self, Tag};
use super::{Completion, Mark, UringDriver};
use crate::driver::{Completions, Fd, Key, Op, OpTable};
use crate::ring::Wait;
use crate::sys;
use io_uring::squeue::{self, Flags};
use io_uring::{opcode, types};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How often a park tries to submit what the kernel refused, a millisecond apart, before it leaves
/// the rest to the next one.
const TRIES: usize = 4;
const BREATH: u64 = 1_000_000;

impl UringDriver {
    /// Appends the entry that `build` builds. (A closure: built where it is needed, it is written
    /// to its slot directly.)
    #[inline(always)]
    pub(super) fn push(&mut self, build: impl Fn() -> squeue::Entry) {
        self.ordered += 1;
        // SAFETY: the header of `entry.rs`: what the entry points to belongs to an operation in the
        // op table, or to the driver.
        if self.backlog.is_empty() && unsafe { self.ring.push(&build()) } {
            return;
        }
        self.push_late(build());
    }

    #[cold]
    fn push_late(&mut self, entry: squeue::Entry) {
        self.counters.sq_full += 1;
        self.backlog.push_back(entry);
        self.enter(Wait::Submit);
        self.take_backlog();
    }

    /// Moves what fits from the backlog into the queue, up to the first mark not passed.
    fn take_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            let at = self.ordered - self.backlog.len() as u64;
            if self.marks.first().is_some_and(|mark| at >= mark.at) {
                return;
            }
            // SAFETY: as in `push`.
            if !unsafe { self.ring.push(entry) } {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// How many of the entries pushed so far the kernel has consumed.
    #[inline]
    pub(super) fn consumed(&self) -> u64 {
        self.ordered - self.backlog.len() as u64 - u64::from(self.ring.unsubmitted())
    }

    /// Whether entries wait for an enter.
    #[inline]
    pub(super) fn has_unsubmitted(&self) -> bool {
        self.ring.unsubmitted() > 0 || !self.backlog.is_empty()
    }

    /// One system call with everything in the queue. What it brought is read from the queues.
    #[inline]
    pub(super) fn enter(&mut self, wait: Wait) {
        self.counters.enters += 1;
        let to_submit = self.ring.unsubmitted();
        if let Err(errno) = self.ring.enter(to_submit, wait) {
            match errno {
                // The time is over; a signal came. Both are normal ends of a wait.
                libc::ETIME | libc::EINTR => {}
                // No memory for a request, or too many completions wait to be read: the entries
                // stay in the queue and are submitted again (`push_through`).
                libc::EAGAIN | libc::EBUSY => {}
                // A completion was lost; `settle.rs` looks at the counter of such.
                libc::EBADR => {}
                // EBADF, EBADFD, EEXIST, EFAULT, EOPNOTSUPP: not our ring, or not any more.
                _ => self.broken = Some(errno),
            }
        }
    }

    /// Submits what an enter left behind: the rest of the queue and the backlog.
    #[cold]
    pub(super) fn push_through(&mut self, table: &mut OpTable, out: &mut Completions) {
        let mut tries = 0;
        loop {
            self.take_backlog();
            if self.ring.unsubmitted() == 0 || self.broken.is_some() || tries == TRIES {
                return;
            }
            let consumed = self.consumed();
            self.enter(Wait::Poll);
            self.reap(table, out);
            if self.consumed() == consumed {
                tries += 1;
                self.breathe();
            }
        }
    }

    /// Sleeps a millisecond, submitting nothing.
    fn breathe(&mut self) {
        let time = match self.ring.absolute_timeouts() {
            true => super::clock::now() + BREATH,
            false => BREATH,
        };
        self.counters.enters += 1;
        // Whatever it answers, the next try follows.
        let _ = self.ring.enter(0, Wait::Nanos(time));
    }

    /// Ends the operation with these bits; its own completion says how it ended.
    pub(super) fn push_cancel(&mut self, target: u64) {
        let entry = opcode::AsyncCancel::new(target)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(tag::IGNORED);
        self.push(|| entry.clone());
    }

    /// Watches the wake descriptor.
    pub(super) fn push_wake(&mut self) {
        let entry = opcode::PollAdd::new(types::Fd(self.wake.fd()), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(tag::WAKE);
        self.push(|| entry.clone());
    }

    /// Notes a shutdown; see the module.
    #[cold]
    pub(super) fn mark(&mut self, key: Key, fd: &Fd, how: Shutdown) {
        self.slots.set(key, Tag::Shutdown);
        self.hurry = true;
        self.marks.push(Mark {
            key,
            fd: fd.as_raw_fd(),
            how,
            at: self.ordered,
        });
    }

    /// An operation is about to be pushed behind a mark: if both work on the same descriptor, the
    /// mark comes first.
    #[cold]
    pub(super) fn keep_order(&mut self, op: &Op) {
        let fd = match op {
            Op::Close { fd } => fd.as_ref().map(AsRawFd::as_raw_fd),
            _ => op.fd().map(AsRawFd::as_raw_fd),
        };
        if matches!(op, Op::Shutdown { .. }) || self.marks.iter().all(|mark| Some(mark.fd) != fd) {
            return;
        }
        self.enter(Wait::Submit);
        let mut done = std::mem::take(&mut self.done);
        self.pass_marks(&mut done);
        self.done = done;
        if !self.marks.is_empty() {
            // The kernel is short of memory. A backlog keeps what follows behind the mark.
            let nothing = opcode::Nop::new()
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(tag::IGNORED);
            self.ordered += 1;
            self.backlog.push_back(nothing);
        }
    }

    /// Performs the shutdowns whose turn it is.
    #[cold]
    pub(super) fn pass_marks(&mut self, out: &mut Completions) {
        let consumed = self.consumed();
        let due = self.marks.partition_point(|mark| mark.at <= consumed);
        for mark in self.marks.drain(..due) {
            // SAFETY: the descriptor is open: the operation in the table holds it.
            let fd = unsafe { BorrowedFd::borrow_raw(mark.fd) };
            let result = sys::to_result(sys::socket::shutdown(fd, mark.how).map(|()| 0));
            self.counters.completed += 1;
            out.push(Completion::last(mark.key, result));
        }
    }
}
