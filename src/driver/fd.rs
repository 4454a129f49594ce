//! A descriptor as operations hold it, and the stash of what arrived for nobody.
//!
//! **Guarantees.** The descriptor is closed when the last holder lets go: the owner *and* every
//! operation in flight hold one, so its number can not be reused between a submission and the
//! kernel's use of it (cookbook §6.3 rule 6). What an orphaned receive or accept brought is kept
//! here, in order, for the next one: no byte and no connection is lost to a dropped future.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

thread_local! {
    static CLOSED: Cell<u64> = const { Cell::new(0) };
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// How many descriptors this thread's loops have closed; a listener that ran out of descriptors
/// tries again when it grows.
pub fn closed_count() -> u64 {
    CLOSED.get()
}

/// Counts a descriptor that was closed otherwise than by dropping its last [`Fd`].
pub(crate) fn count_closed() {
    // `try_with`: the last holder may go while the thread ends.
    let _ = CLOSED.try_with(|count| count.set(count.get() + 1));
}

/// A shared descriptor with its stash. Clones name the same descriptor.
#[derive(Clone, Debug)]
pub struct Fd(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    id: u64,
    stash: RefCell<Option<Box<Stash>>>,
}

#[derive(Debug, Default)]
struct Stash {
    bytes: VecDeque<u8>,
    accepted: VecDeque<OwnedFd>,
    end: Option<i32>,
}

impl Fd {
    /// Takes the descriptor over; it is closed when the last clone and the last operation let go.
    pub fn new(fd: OwnedFd) -> Self {
        let id = MADE.get() + 1;
        MADE.set(id);
        Self(Rc::new(Inner {
            fd,
            id,
            stash: RefCell::new(None),
        }))
    }

    /// Tells descriptors of this thread apart even when their numbers are the same one, used again;
    /// never 0.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// Whether nobody else, and no operation, holds the descriptor.
    pub fn is_unique(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    fn with_stash<R>(&self, f: impl FnOnce(&mut Stash) -> R) -> R {
        f(self.0.stash.borrow_mut().get_or_insert_default())
    }

    /// Keeps bytes that an orphaned receive brought.
    pub(crate) fn stash_bytes(&self, bytes: &[u8]) {
        self.with_stash(|stash| stash.bytes.extend(bytes));
    }

    /// Keeps an end of stream (0) or an error (negated errno) that an orphaned receive met.
    pub(crate) fn stash_end(&self, result: i32) {
        self.with_stash(|stash| stash.end = Some(result));
    }

    /// Keeps a connection that an orphaned accept brought.
    pub(crate) fn stash_accepted(&self, fd: OwnedFd) {
        self.with_stash(|stash| stash.accepted.push_back(fd));
    }

    /// Moves stashed bytes to `buf`: how many, or the stashed end (0 or a negated errno), or
    /// `None` when the stash is empty.
    pub fn take_bytes(&self, buf: &mut [u8]) -> Option<i32> {
        let mut stash = self.0.stash.borrow_mut();
        let stash = stash.as_mut()?;
        if stash.bytes.is_empty() {
            return stash.end.take();
        }
        let n = buf.len().min(stash.bytes.len());
        for (to, from) in buf.iter_mut().zip(stash.bytes.drain(..n)) {
            *to = from;
        }
        i32::try_from(n).ok()
    }

    /// Takes the oldest stashed connection.
    pub fn take_accepted(&self) -> Option<OwnedFd> {
        self.0.stash.borrow_mut().as_mut()?.accepted.pop_front()
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        count_closed();
    }
}
