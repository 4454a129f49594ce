//! Drivers: the completion interface between the loop and the kernel.
//!
//! Everything above is written once against [`Driver`]; [`uring`] answers it with io_uring,
//! [`epoll`] performs each operation when the descriptor is ready and reports that as a
//! completion.
//!
//! ```text
//!        start(op, target)        submit(key, op)           park(…)
//!  loop ──────────────────▶ Engine ──────────────▶ driver ──▶ kernel ──▶ Completion ─▶ waker | ready queue
//!                             │                                              ▲
//!                             └─ OpTable: owns buffers, fd, target, until ───┘ the final completion
//! ```
//!
//! The [`Engine`] keeps table and driver together: what is in flight can not be reached from outside.
//!
//! # What a driver promises
//!
//! * **Ownership.** The [`OpTable`] owns every operation until its own final completion was
//!   reported (`more` absent). A driver only borrows; one written without `unsafe` can therefore
//!   not free what the kernel may still write.
//! * **Order.** Operations on one descriptor and direction take effect in submission order, and
//!   not before the next [`Driver::park`] (the kernel may see them earlier when the queue is full).
//!   A cancel submitted after an operation reaches it.
//! * **One final completion** for every operation, whatever happens: success, error, cancel.
//! * **Multishot operations** ([`Op::RecvMulti`], [`Op::AcceptMulti`], [`Op::PollMulti`]) report `more`
//!   until they really end: by end of stream (result 0), by an error, or by cancel. That the kernel
//!   ended one early (no buffer, full completion queue) is mended inside the driver and never seen
//!   above it: a receive without a buffer is *parked* and counted, and armed again when a buffer
//!   comes back.
//! * **Sends.** [`Op::Send`] with `inline` completes within the park that follows it, with the
//!   number of bytes the socket took (which may be fewer than asked) or `-EAGAIN`; without `inline`
//!   it waits until the socket takes something. One with `urgent` forbids that park to sleep.
//! * **A connect of a Unix socket** waits while the listener's backlog is full, whatever mode the
//!   socket is in.
//! * **Results** are those of the system call: zero or more on success, a negated errno on failure.

mod blocks;
mod buf;
mod chunk;
mod closed;
mod counters;
mod engine;
mod entry;
pub mod epoll;
mod fd;
mod lease;
mod op;
mod pool;
mod returned;
mod table;
mod target;
pub mod uring;
mod wake_flag;

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

pub use buf::Buf;
pub use chunk::{Chunk, Gather, MAX_VECTORS};
pub use counters::Counters;
pub use engine::Engine;
pub(crate) use fd::count_closed;
pub use fd::{Fd, closed_count};
pub use lease::Lease;
pub use op::{FilePart, Op, SockAddr};
pub use pool::{BUFFER_SIZE, MAX_BUFFERS, Pool, SEGMENT_BUFFERS};
pub(crate) use table::MAX_OPERATIONS;
pub use table::OpTable;
pub use target::{Adopted, Complete, Event, Orphaned, Polled, Target};
pub(crate) use target::{Delivery, Dispatch, Taken};

/// Which driver a loop runs on, or shall run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring where the kernel gives it, else epoll with the reason reported.
    #[default]
    Auto,
    /// io_uring or an error that names the cause and the remedy.
    Uring,
    /// epoll.
    Epoll,
}

impl std::fmt::Display for DriverKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

impl std::str::FromStr for DriverKind {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "uring" | "io_uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unknown driver {name:?}: use auto, uring or epoll"),
            )),
        }
    }
}

/// How soon a Unix socket tries again to connect to a full backlog: nothing reports that it has room.
const CONNECT_RETRY: std::time::Duration = std::time::Duration::from_millis(2);

/// Names an operation in flight: a slot of the [`OpTable`] and the generation it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Slot.
    pub index: u32,
    /// Generation of the slot; a key of another generation is stale.
    pub generation: u32,
}

impl Key {
    /// The key as the 64 bits that travel through the kernel.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key that [`Key::to_bits`] made.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

/// What the kernel (or epoll in its name) answered to one operation.
///
/// `result` is zero or more on success and a negated errno on failure.
/// It may own a descriptor or a buffer, so it can be moved, and is heard of once. One that is dropped
/// unheard loses them: the descriptor stays open, the buffer is never lent again.
#[derive(Debug)]
#[must_use = "a completion may own a buffer or a descriptor"]
pub struct Completion {
    pub(crate) key: Key,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

/// The completion carries a buffer of the pool; its number is in the upper 16 bits.
pub(crate) const FLAG_BUFFER: u32 = 1;
/// The operation goes on; more completions follow.
pub(crate) const FLAG_MORE: u32 = 2;
/// The result is a descriptor that nobody owns yet.
pub(crate) const FLAG_FD: u32 = 1 << 8;
/// The buffer was filled by the driver itself ([`Pool::fill`]), not by the kernel.
pub(crate) const FLAG_FILLED: u32 = 1 << 9;
/// The buffer is on the heap ([`Pool::bring`]).
pub(crate) const FLAG_BROUGHT: u32 = 1 << 10;

impl Completion {
    /// The final completion of `key`.
    pub const fn last(key: Key, result: i32) -> Self {
        Self {
            key,
            result,
            flags: 0,
        }
    }

    /// A completion of a multishot operation that goes on.
    pub const fn more(key: Key, result: i32) -> Self {
        Self {
            key,
            result,
            flags: FLAG_MORE,
        }
    }

    /// A connection accepted, or a file opened; the completion owns the descriptor.
    pub fn descriptor(key: Key, fd: OwnedFd, more: bool) -> Self {
        let flags = FLAG_FD | if more { FLAG_MORE } else { 0 };
        Self {
            key,
            result: fd.into_raw_fd(),
            flags,
        }
    }

    /// `len` bytes received into buffer `id` of the pool, by [`Pool::fill`]; the receive goes on. A
    /// buffer that was not filled so is refused.
    pub const fn received(key: Key, id: u16, len: i32) -> Self {
        Self {
            key,
            result: len,
            flags: FLAG_BUFFER | FLAG_FILLED | FLAG_MORE | (id as u32) << 16,
        }
    }

    /// Bytes on the heap that the pool was given as `number`; the receive goes on.
    const fn brought(key: Key, number: u16, len: i32) -> Self {
        Self {
            key,
            result: len,
            flags: FLAG_BUFFER | FLAG_BROUGHT | FLAG_MORE | (number as u32) << 16,
        }
    }

    /// Takes it apart. What it owns is the caller's from now on.
    #[inline]
    const fn into_parts(self) -> (Key, i32, u32) {
        (self.key, self.result, self.flags)
    }

    /// The operation this belongs to.
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Zero or more on success, a negated errno on failure.
    pub const fn result(&self) -> i32 {
        self.result
    }

    /// Whether the operation goes on.
    pub const fn is_more(&self) -> bool {
        self.flags & FLAG_MORE != 0
    }
}

/// Where [`Driver::park`] puts what completed, in order.
pub type Completions = Vec<Completion>;

/// How long [`Driver::park`] may wait for the first completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Park {
    /// Not at all.
    Poll,
    /// Until this time of the loop's clock, in nanoseconds.
    Until(u64),
    /// Until something happens.
    Forever,
}

/// Ends a park from any thread. Cheap to call twice; a call while nobody parks ends the next park.
pub trait Unpark: Send + Sync {
    /// Ends the park that is going on, or the next one.
    fn unpark(&self);
}

/// How far [`Driver::coarse_now`] is mostly behind at most: 100 ms, many ticks of any kernel.
pub(crate) const COARSE: u64 = 100_000_000;

/// Performs operations; see the module for what each driver promises.
///
/// asyncio's counterpart is the selector or proactor below an event loop.
pub trait Driver {
    /// [`DriverKind::Uring`], [`DriverKind::Epoll`], or [`DriverKind::Auto`] for a driver of another kind.
    fn kind(&self) -> DriverKind;

    /// What was chosen at start-up and why: one fact a line.
    fn report(&self) -> String;

    /// Starts `op`. Failures are reported as completions.
    ///
    /// Unsafe to call, not to implement: a driver that performs operations itself needs no `unsafe`.
    /// One that passes operations on to another driver takes the contract over.
    ///
    /// # Safety
    /// `op` stands in an [`OpTable`] at `key`, and is neither changed nor replaced from now on. The table
    /// is given no final completion of `key` but the one that this driver reports: until then the kernel
    /// may read and write what the operation owns. Every park until then is given that table.
    unsafe fn submit(&mut self, key: Key, op: &mut Op);

    /// Asks the kernel to end the operation. It completes as usual, with `-ECANCELED` if the cancel
    /// came first. A stale key is ignored.
    fn cancel(&mut self, key: Key);

    /// Submits what is to be submitted, waits as `until` says for at least one completion, and
    /// appends what completed to `out`. A signal ends the wait without an error.
    ///
    /// # Errors
    /// Only when the driver is broken for good.
    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()>;

    /// Whether a [`Park::Poll`] could find or submit anything; the loop skips idle polls while it
    /// has ready work. Must be cheap.
    fn wants_poll(&self) -> bool;

    /// As [`wants_poll`](Self::wants_poll), asked where that was false and the driver was given nothing
    /// since: whether something came.
    fn has_news(&self) -> bool {
        self.wants_poll()
    }

    /// The loop polls at least in every so many-th iteration with ready work, whatever
    /// [`wants_poll`](Self::wants_poll) says. Asked once. 16 for a driver that has to ask the kernel
    /// what happened.
    fn poll_every(&self) -> u32 {
        16
    }

    /// Ends a park from any thread.
    fn unparker(&self) -> Arc<dyn Unpark>;

    /// The loop's clock: nanoseconds, monotonic, of arbitrary origin.
    fn now(&self) -> u64;

    /// A time that is not after [`now`](Self::now) and mostly less than 100 ms before it, where
    /// that is cheaper.
    fn coarse_now(&self) -> u64 {
        self.now()
    }

    /// The pool that receives fill.
    fn pool(&self) -> &Rc<Pool>;

    /// Running totals of what the driver did.
    fn counters(&self) -> Counters;

    /// The last call: nothing is in flight, or (`leaked` above 0) that many operations never came
    /// back and the kernel may still write to their memory, which therefore is never freed.
    fn shut_down(&mut self, leaked: usize);
}
