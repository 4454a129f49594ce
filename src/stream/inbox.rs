//! What arrived and was not looked at yet.
//!
//! **Guarantees.** Bytes come out in the order in which they went in. A received buffer is kept as
//! it is where that is cheap for everybody, and copied where it is not, so that streams that are not
//! read never drain the receive pool that all connections share:
//!
//! | who arrives | while a read waits | while nobody reads |
//! |---|---|---|
//! | a buffer of the pool | kept, up to [`KEPT_READING`] | more than [`SMALL`] bytes: one is kept, else copied |
//! | the same, the pool is short | copied | copied |
//! | bytes on the heap | kept | kept |
//!
//! ```text
//!   in ─▶  tail (copies)  ─▶  more leases  ─▶  first lease  ─▶ out
//! ```
//! Once something was copied, what follows is copied as well until the reader has caught up. In the
//! steady state of a connection that answers what it gets only `first` is used.

use crate::driver::Lease;
use std::cell::Cell;
use std::collections::VecDeque;

/// The most received buffers kept for a stream that is being read: one whole run of an armed
/// receive.
const KEPT_READING: u32 = 32;
/// Up to so many bytes are copied while nobody reads; a whole buffer is too much for them.
const SMALL: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Inbox {
    first: Cell<Option<Lease>>,
    /// Where more than one piece arrived between two reads; stays once it was needed.
    more: Cell<Option<Box<More>>>,
    /// Kept leases; the tail counts as one while it is not empty.
    pieces: Cell<u32>,
}

#[derive(Default)]
struct More {
    leases: VecDeque<Lease>,
    tail: Vec<u8>,
}

impl Inbox {
    #[inline]
    fn is_empty(&self) -> bool {
        self.pieces.get() == 0
    }

    /// Adds what arrived (never nothing). `reading`: a read waits for it.
    #[inline]
    pub(super) fn push(&self, data: Lease, reading: bool) {
        if self.is_empty() && reading && !data.is_scarce() {
            self.pieces.set(1);
            self.first.set(Some(data));
        } else {
            self.push_behind(data, reading);
        }
    }

    #[cold]
    fn push_behind(&self, data: Lease, reading: bool) {
        let pieces = self.pieces.get();
        let keep_first = !data.is_pooled() || (!data.is_scarce() && data.len() > SMALL);
        if pieces == 0 && keep_first {
            self.pieces.set(1);
            return self.first.set(Some(data));
        }
        let mut more = self.more.take().unwrap_or_default();
        let keep = more.tail.is_empty()
            && (!data.is_pooled() || (reading && !data.is_scarce() && pieces < KEPT_READING));
        if keep || more.tail.is_empty() {
            self.pieces.set(pieces + 1);
        }
        if keep {
            more.leases.push_back(data);
        } else {
            more.tail.extend_from_slice(&data);
        }
        self.more.set(Some(more));
    }

    /// Takes the oldest piece.
    #[inline]
    pub(super) fn pop(&self) -> Option<Lease> {
        let lease = match self.first.take() {
            Some(lease) => lease,
            None => self.pop_more()?,
        };
        self.pieces.set(self.pieces.get() - 1);
        Some(lease)
    }

    fn pop_more(&self) -> Option<Lease> {
        if self.is_empty() {
            return None;
        }
        let mut more = self.more.take()?;
        let lease = more
            .leases
            .pop_front()
            .unwrap_or_else(|| Lease::from(std::mem::take(&mut more.tail)));
        self.more.set(Some(more));
        Some(lease)
    }

    /// Drops everything.
    pub(super) fn clear(&self) {
        self.pieces.set(0);
        self.first.set(None);
        self.more.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{BUFFER_SIZE, Pool};

    /// A received buffer of `pool` with these bytes.
    fn received(pool: &std::rc::Rc<Pool>, bytes: &[u8]) -> Lease {
        Lease::received_for_test(pool, bytes)
    }

    fn drain(inbox: &Inbox) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(lease) = inbox.pop() {
            all.extend_from_slice(&lease);
        }
        assert!(inbox.is_empty());
        all
    }

    #[test]
    fn a_waited_for_buffer_is_handed_through() {
        let pool = Pool::new(64);
        let inbox = Inbox::default();
        inbox.push(received(&pool, b"x"), true);
        assert_eq!(pool.lent(), 1);
        let lease = inbox.pop().expect("just pushed");
        assert!(lease.is_pooled());
        drop(lease);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn nobody_reads_so_at_most_one_buffer_is_kept() {
        let pool = Pool::new(64);
        let inbox = Inbox::default();
        let large = vec![7; BUFFER_SIZE];
        inbox.push(received(&pool, b"small"), false);
        assert_eq!(pool.lent(), 0);
        inbox.push(received(&pool, &large), false);
        assert_eq!(pool.lent(), 0, "behind a copy everything is copied");
        assert_eq!(drain(&inbox), [b"small".as_slice(), &large].concat());
        for _ in 0..3 {
            inbox.push(received(&pool, &large), false);
        }
        assert_eq!(pool.lent(), 1);
        assert_eq!(drain(&inbox), large.repeat(3));
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_short_pool_gets_its_buffers_back_at_once() {
        let pool = Pool::new(64);
        let kept: Vec<Lease> = (0..57).map(|_| received(&pool, b"kept")).collect();
        assert!(pool.is_short());
        let inbox = Inbox::default();
        for reading in [true, false, true] {
            inbox.push(received(&pool, &[1; 4096]), reading);
        }
        assert_eq!(pool.lent(), kept.len());
        assert_eq!(drain(&inbox), [1; 3 * 4096]);
    }

    #[test]
    fn one_run_of_buffers_is_kept_for_a_read_and_no_more() {
        let pool = Pool::new(256);
        let inbox = Inbox::default();
        let mut all = Vec::new();
        for n in 0..40u8 {
            inbox.push(received(&pool, &[n, n]), true);
            all.extend([n, n]);
        }
        assert_eq!(pool.lent(), KEPT_READING as usize);
        assert_eq!(drain(&inbox), all);
    }
}
