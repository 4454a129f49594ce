//! The io_uring driver.
//!
//! One `io_uring_enter` per park submits everything and waits. A message's way through this floor:
//!
//! ```text
//!  submit(key, op) ─▶ entry.rs | send.rs ─▶ queue.rs ─▶ SQ ──┐
//!                                                            ▼ enter (park)
//!  Completions ◀─ settle.rs ◀─ reap.rs ◀─ CQ ◀───────────────┘
//!                                 ├─▶ starve.rs: receives that found no buffer
//!                                 └─▶ send.rs: sends that found no room
//! ```
//!
//! **Guarantees.** Those of [`Driver`](crate::driver). In particular:
//! * Order of entries: first the submission queue, then the backlog; nothing overtakes.
//! * An inline send is silent when it sent everything, and is believed only after settling
//!   (`settle.rs`).
//! * Multishot operations are over when their completion lacks `F_MORE` *and* says so (end, error,
//!   cancel); else they are armed again (trap T9).
//! * Nothing is concluded from the number of completions an enter brought: kernels since 6.13 run
//!   at most 20 at a time (trap T5), and a failed wait may look like success (trap T14).
//! * The kernel may write to what an operation owns until its own final completion, whatever a
//!   cancel answered (trap T4): only that completion is reported as final.
//!
//! **Who may touch it.** The thread that made it. Only [`Driver::unparker`] hands out what may
//! travel.

mod close;
mod connect;
mod entry;
mod options;
mod probe;
mod queue;
mod reap;
mod send;
mod settle;
mod slots;
mod start;
mod starve;
mod tag;
mod wake;

use super::{
    Completion, Completions, Counters, Driver, DriverKind, Key, Op, OpTable, Park, Pool, Unpark,
};
use crate::ring::{Ring, Wait};
use crate::sys::clock;
use io_uring::squeue;
use slots::Slots;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use tag::Tag;

pub use options::UringOptions;

/// The group of the receive buffers.
const GROUP: u16 = 0;

/// The most bytes one system call transfers (`MAX_RW_COUNT` with pages of up to 64 KiB).
const MAX_TRANSFER: usize = 0x7fff_0000;

/// An inline send that was pushed.
struct Pushed {
    key: Key,
    /// What it sends: the result if it stays silent.
    total: i32,
    /// The value of `ordered` that consumes it.
    at: u64,
}

/// A shutdown that waits until everything pushed before it was consumed.
struct Mark {
    key: Key,
    fd: i32,
    how: std::net::Shutdown,
    /// The value of `consumed` that lets it through.
    at: u64,
}

/// A completion that needs more than a look.
struct Later {
    bits: u64,
    result: i32,
    flags: u32,
}

/// The driver; see the module.
pub struct UringDriver {
    ring: Ring,
    pool: Rc<Pool>,
    slots: Slots,
    /// Entries pushed so far, to the queue or the backlog.
    ordered: u64,
    /// Entries that did not fit into the queue, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Inline sends nobody heard of yet, in order.
    unsettled: Vec<Pushed>,
    /// Shutdowns to perform, in order.
    marks: Vec<Mark>,
    /// Receives without a buffer, in order.
    starved: VecDeque<Key>,
    /// While so many buffers circulate, the pool does not grow.
    circulating: usize,
    /// Sends that wait for their socket.
    blocked: HashMap<Key, send::Blocked>,
    /// Connects of Unix sockets that are not over, in order.
    connects: Vec<Key>,
    later: Vec<Later>,
    /// Completions made outside a park.
    done: Completions,
    /// The next park must not sleep.
    hurry: bool,
    inline_sends: bool,
    multishot_receive: bool,
    multishot_accept: bool,
    wake: Arc<wake::Wake>,
    counters: Counters,
    /// The errno that broke the ring for good.
    broken: Option<i32>,
    shut: bool,
    report: Vec<String>,
}

impl Driver for UringDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Uring
    }

    fn report(&self) -> String {
        self.report.join("\n")
    }

    #[inline]
    unsafe fn submit(&mut self, key: Key, op: &mut Op) {
        if !self.ring.is_usable() {
            return;
        }
        if !self.marks.is_empty() {
            self.keep_order(op);
        }
        match op {
            Op::Send {
                fd,
                data,
                inline,
                urgent,
            } => {
                self.hurry |= *urgent;
                self.push_send(key, fd.as_raw_fd(), data, *inline);
            }
            Op::Shutdown { fd, how } => self.mark(key, fd, *how),
            Op::Connect { fd, addr } => {
                fd.set_unix(addr.is_unix());
                match addr.is_unix() {
                    true => self.note_connect(key),
                    false => self.push_op(key, op),
                }
            }
            _ => self.push_op(key, op),
        }
    }

    fn cancel(&mut self, key: Key) {
        if !self.ring.is_usable() {
            return;
        }
        match self.slots.cancel(key) {
            // Stale; or over by the next park anyway; or to be performed in spite of the cancel.
            None | Some(Tag::Send | Tag::Try | Tag::Shutdown | Tag::Close) => {}
            // Asked for when it is tried the next time.
            Some(Tag::Connect) => self.hurry = true,
            Some(Tag::Receive | Tag::ReceiveOnce) if self.leave_starved(key) => {}
            Some(tag) => self.push_cancel(tag::bits(key, tag)),
        }
    }

    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
        if let Some(errno) = self.broken {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if !self.ring.is_usable() {
            return Err(io::Error::other("the ring belongs to the parent process"));
        }
        let before = out.len();
        self.pool.collect();
        if !self.starved.is_empty() {
            self.feed(table, out);
        }
        if !self.connects.is_empty() {
            self.try_connects(table, out);
        }
        if !self.done.is_empty() {
            out.append(&mut self.done);
        }
        // What stands in the queue is what a wait would be for.
        let sleep = until != Park::Poll
            && !self.hurry
            && out.len() == before
            && self.backlog.is_empty()
            && self.ring.completions_empty()
            && !self.may_feed();
        self.hurry = false;
        let wait = match self.until_retry(until) {
            _ if !sleep => Wait::Poll,
            Park::Poll => Wait::Poll,
            Park::Forever => Wait::Forever,
            Park::Until(time) if self.ring.absolute_timeouts() => Wait::Nanos(time),
            Park::Until(time) => Wait::Nanos(time.saturating_sub(clock::now())),
        };
        self.enter(wait);
        self.reap(table, out);
        if self.has_unsubmitted() && self.broken.is_none() {
            self.push_through(table, out);
        } else if sleep && out.len() == before && self.ring.has_work() {
            // Trap T22: kernels up to 6.7 end a timed wait without running what is pending.
            self.enter(Wait::Poll);
            self.reap(table, out);
        }
        Ok(())
    }

    #[inline]
    fn wants_poll(&self) -> bool {
        if !self.ring.is_usable() {
            return false;
        }
        self.has_unsubmitted()
            || self.ring.has_completions()
            || !self.done.is_empty()
            || !self.marks.is_empty()
            || !self.unsettled.is_empty()
            || !self.connects.is_empty()
            || self.may_feed()
    }

    #[inline]
    fn has_news(&self) -> bool {
        self.ring.is_usable() && (self.ring.has_completions() || self.may_feed())
    }

    /// The kernel raises a flag in the queue when there is something to collect (`TASKRUN_FLAG`, which
    /// every ring of ours has), and `wants_poll` looks at it. A call costs as much as five iterations.
    fn poll_every(&self) -> u32 {
        64
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.wake.clone()
    }

    #[inline]
    fn now(&self) -> u64 {
        clock::now()
    }

    #[inline]
    fn coarse_now(&self) -> u64 {
        clock::coarse()
    }

    #[inline]
    fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    fn counters(&self) -> Counters {
        Counters {
            submitted: self.ordered + self.counters.submitted,
            ..self.counters
        }
    }

    fn shut_down(&mut self, leaked: usize) {
        self.close(leaked);
    }
}
