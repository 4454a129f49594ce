//! What arrived and was not looked at yet, or who waits for it.
//!
//! **Guarantees.** A read waits only while nothing is here, so one place serves both. Bytes come out in the
//! order in which they went in. A received buffer is kept as it is where that is cheap for everybody, and
//! copied where it is not, so that streams that are not read never drain the receive pool that all
//! connections share:
//!
//! | who arrives | while a read waits | while nobody reads |
//! |---|---|---|
//! | a buffer of the pool | kept, up to [`KEPT_READING`] | more than [`SMALL`] bytes: one is kept, else copied |
//! | the same, the pool is short | copied | copied |
//! | bytes on the heap | kept | kept |
//!
//! ```text
//!   in ─▶  tail (copies)  ─▶  more leases  ─▶  first lease  ─▶ out
//!                                           (or the waker of a read)
//! ```
//! Once something was copied, what follows is copied as well until the reader has caught up. In the
//! steady state of a connection that answers what it gets only the first place is used; the others are
//! among what is rare.

use super::protocol::{Flag, StreamReaderProtocol};
use crate::driver::Lease;
use std::collections::VecDeque;
use std::task::Waker;

/// The most received buffers kept for a stream that is being read: one whole run of an armed
/// receive.
const KEPT_READING: usize = 32;
/// Up to so many bytes are copied while nobody reads; a whole buffer is too much for them.
const SMALL: usize = 1024;

/// The first place of an inbox.
pub(super) enum First {
    /// The oldest piece, if there is any.
    Piece(Option<Lease>),
    /// A read waits. Nothing stands behind.
    Reader(Waker),
}

impl Default for First {
    fn default() -> Self {
        Self::Piece(None)
    }
}

const _: () = assert!(size_of::<First>() == size_of::<Lease>());

impl First {
    #[inline]
    fn waker(self) -> Option<Waker> {
        match self {
            Self::Reader(waker) => Some(waker),
            Self::Piece(_) => None,
        }
    }
}

/// What stands behind the first place, where more than one piece arrived between two reads.
#[derive(Default)]
pub(super) struct More {
    leases: VecDeque<Lease>,
    tail: Vec<u8>,
}

impl More {
    fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.tail.is_empty()
    }

    /// `before`: how many pieces stand before these.
    fn push(&mut self, data: Lease, reading: bool, before: usize) {
        let keep = !data.is_pooled()
            || (reading && !data.is_scarce() && before + self.leases.len() < KEPT_READING);
        if keep && self.tail.is_empty() {
            self.leases.push_back(data);
        } else {
            self.tail.extend_from_slice(&data);
        }
    }

    fn pop(&mut self) -> Option<Lease> {
        let lease = self.leases.pop_front();
        lease.or_else(|| {
            let tail = std::mem::take(&mut self.tail);
            (!tail.is_empty()).then(|| Lease::from(tail))
        })
    }
}

impl StreamReaderProtocol {
    /// Adds what arrived (never nothing). `reading`: a read waits for it, or was woken. Who is to be
    /// woken now.
    #[inline]
    #[must_use = "a read waits"]
    pub(super) fn push(&self, data: Lease, reading: bool) -> Option<Waker> {
        if self.has(Flag::Waiting) && !data.is_scarce() {
            self.clear(Flag::Waiting);
            self.first.replace(First::Piece(Some(data))).waker()
        } else {
            self.push_behind(data, reading)
        }
    }

    #[cold]
    fn push_behind(&self, data: Lease, reading: bool) -> Option<Waker> {
        let waker = self.take_waker();
        let keep_first = !data.is_pooled() || (!data.is_scarce() && data.len() > SMALL);
        match self.first.take() {
            First::Piece(None) if keep_first && self.is_nothing_behind() => {
                self.first.set(First::Piece(Some(data)));
            }
            first => {
                let before = usize::from(matches!(first, First::Piece(Some(_))));
                self.first.set(first);
                self.with_rare(|rare| rare.more.push(data, reading, before));
            }
        }
        waker
    }

    /// Whether everything was looked at.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let first = self.first.take();
        let is_piece = matches!(first, First::Piece(Some(_)));
        // What stood there meanwhile needs no drop, which the compiler does not see.
        std::mem::forget(self.first.replace(first));
        !is_piece && self.is_nothing_behind()
    }

    fn is_nothing_behind(&self) -> bool {
        let is_nothing = self.if_rare(|rare| rare.more.is_empty());
        is_nothing.unwrap_or(true)
    }

    /// Takes the oldest piece.
    #[inline]
    pub(super) fn pop(&self) -> Option<Lease> {
        match self.first.take() {
            First::Piece(piece) => piece.or_else(|| self.pop_more()),
            reader => {
                self.first.set(reader);
                None
            }
        }
    }

    fn pop_more(&self) -> Option<Lease> {
        self.if_rare(|rare| rare.more.pop()).flatten()
    }

    /// Has `waker` woken when something arrives, which needs an empty inbox.
    #[inline]
    pub(super) fn put_waker(&self, waker: Waker) {
        let waits = Flag::Reading as u8 | Flag::Waiting as u8;
        self.flags.set(self.flags.get() | waits);
        drop(self.first.replace(First::Reader(waker)));
    }

    /// Who waits, who does so no more then.
    #[inline]
    pub(super) fn take_waker(&self) -> Option<Waker> {
        if self.has(Flag::Waiting) {
            self.clear(Flag::Waiting);
            self.first.take().waker()
        } else {
            None
        }
    }

    /// Drops everything. No read waits.
    pub(super) fn drop_unread(&self) {
        drop(self.first.take());
        drop(self.if_rare(|rare| std::mem::take(&mut rare.more)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{BUFFER_SIZE, Pool};
    use crate::event_loop::BaseEventLoop;
    use crate::stream::origin::Origin;
    use std::rc::{Rc, Weak};

    fn stream() -> Rc<StreamReaderProtocol> {
        StreamReaderProtocol::new(Rc::new(Origin {
            event_loop: Weak::<BaseEventLoop>::new(),
            limit: 1,
            client_connected: None,
        }))
    }

    /// What arrives while nobody waits, or after who waited was woken.
    fn push(stream: &StreamReaderProtocol, data: Lease, reading: bool) {
        assert!(stream.push(data, reading).is_none());
    }

    /// A received buffer of `pool` with these bytes.
    fn received(pool: &std::rc::Rc<Pool>, bytes: &[u8]) -> Lease {
        Lease::received_for_test(pool, bytes)
    }

    fn drain(inbox: &StreamReaderProtocol) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(lease) = inbox.pop() {
            all.extend_from_slice(&lease);
        }
        all
    }

    #[test]
    fn a_waited_for_buffer_is_handed_through() {
        let pool = Pool::new(64);
        let inbox = stream();
        inbox.put_waker(Waker::noop().clone());
        assert!(inbox.pop().is_none());
        assert!(inbox.push(received(&pool, b"x"), true).is_some());
        assert!(inbox.take_waker().is_none());
        assert_eq!(pool.lent(), 1);
        let lease = inbox.pop().expect("just pushed");
        assert!(lease.is_pooled());
        drop(lease);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn nobody_reads_so_at_most_one_buffer_is_kept() {
        let pool = Pool::new(64);
        let inbox = stream();
        let large = vec![7; BUFFER_SIZE];
        push(&inbox, received(&pool, b"small"), false);
        assert_eq!(pool.lent(), 0);
        push(&inbox, received(&pool, &large), false);
        assert_eq!(pool.lent(), 0, "behind a copy everything is copied");
        assert_eq!(drain(&inbox), [b"small".as_slice(), &large].concat());
        for _ in 0..3 {
            push(&inbox, received(&pool, &large), false);
        }
        assert_eq!(pool.lent(), 1);
        assert_eq!(drain(&inbox), large.repeat(3));
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_copy_alone_is_something() {
        let pool = Pool::new(64);
        let stream = stream();
        assert!(stream.is_empty());
        push(&stream, received(&pool, b"small"), false);
        assert!(!stream.is_empty());
        assert_eq!(drain(&stream), b"small");
        assert!(stream.is_empty());
    }

    #[test]
    fn a_short_pool_gets_its_buffers_back_at_once() {
        let pool = Pool::new(64);
        let kept: Vec<Lease> = (0..57).map(|_| received(&pool, b"kept")).collect();
        assert!(pool.is_short());
        let inbox = stream();
        for reading in [true, false, true] {
            push(&inbox, received(&pool, &[1; 4096]), reading);
        }
        assert_eq!(pool.lent(), kept.len());
        assert_eq!(drain(&inbox), [1; 3 * 4096]);
    }

    #[test]
    fn one_run_of_buffers_is_kept_for_a_read_and_no_more() {
        let pool = Pool::new(256);
        let inbox = stream();
        let mut all = Vec::new();
        for n in 0..40u8 {
            push(&inbox, received(&pool, &[n, n]), true);
            all.extend([n, n]);
        }
        assert_eq!(pool.lent(), KEPT_READING);
        assert_eq!(drain(&inbox), all);
    }
}
