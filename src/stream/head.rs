//! What a reader has looked at and not consumed: the front of its buffer, in one piece.
//!
//! **Guarantees.** A received buffer stands here as it was received as long as what is looked for
//! fits into it; only what reaches over its end is copied, once, into a vector that is used again.
//! The space is one pointer for a reader that never looked ahead.

use crate::driver::Lease;

/// A vector of more capacity is not kept for the next use: idle connections stay small.
const KEPT_CAPACITY: usize = 4 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Head(Option<Box<Front>>);

#[derive(Default)]
struct Front {
    /// Comes first, and then `bytes` is empty.
    lease: Option<Lease>,
    bytes: Vec<u8>,
    /// Consumed bytes at the start of `bytes`.
    start: usize,
}

impl Head {
    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        match self.0.as_deref() {
            None => &[],
            Some(Front {
                lease: Some(lease), ..
            }) => lease,
            Some(front) => &front.bytes[front.start..],
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the first `n` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    #[inline]
    pub(super) fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed more than fill_buf() returned");
        let Some(front) = self.0.as_deref_mut() else {
            return;
        };
        if let Some(lease) = &mut front.lease {
            lease.advance(n);
            if lease.is_empty() {
                front.lease = None;
            }
        } else {
            front.start += n;
            front.tidy();
        }
    }

    /// Adds a piece at the end. A buffer that stands alone is kept, unless the pool runs short.
    #[inline]
    pub(super) fn push(&mut self, data: Lease) {
        let empty = self.is_empty();
        let front = self.0.get_or_insert_default();
        if empty && !data.is_scarce() {
            front.lease = Some(data);
        } else {
            front.copy_lease();
            front.bytes.extend_from_slice(&data);
        }
    }

    /// Gives a buffer of the pool back by copying it: its reader has to wait for more.
    pub(super) fn detach(&mut self) {
        if let Some(front) = self.0.as_deref_mut() {
            front.copy_lease();
        }
    }

    /// Takes everything, as a vector.
    pub(super) fn take_vec(&mut self) -> Vec<u8> {
        let Some(front) = self.0.as_deref_mut() else {
            return Vec::new();
        };
        front.copy_lease();
        let mut bytes = std::mem::take(&mut front.bytes);
        bytes.drain(..std::mem::take(&mut front.start));
        bytes
    }

    /// Takes everything, as a lease.
    pub(super) fn take_lease(&mut self) -> Lease {
        match self.0.as_deref_mut().and_then(|front| front.lease.take()) {
            Some(lease) => lease,
            None => Lease::from(self.take_vec()),
        }
    }

    /// Moves as many bytes to `to` as both have: how many.
    pub(super) fn read_into(&mut self, to: &mut [u8]) -> usize {
        let from = self.as_slice();
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        n
    }
}

impl Front {
    /// Moves the lease to the vector, which is empty then.
    fn copy_lease(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.bytes.extend_from_slice(&lease);
        } else if self.start > 0 {
            self.bytes.drain(..std::mem::take(&mut self.start));
        }
    }

    fn tidy(&mut self) {
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_CAPACITY {
                self.bytes = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Pool;

    #[test]
    fn one_buffer_stays_as_it_was_received() {
        let pool = Pool::new(64);
        let mut head = Head::default();
        head.push(Lease::received_for_test(&pool, b"hello"));
        head.consume(2);
        assert_eq!(head.as_slice(), b"llo");
        assert_eq!(pool.lent(), 1);
        head.consume(3);
        assert!(head.is_empty());
        assert_eq!(pool.lent(), 0, "a consumed buffer goes back at once");
    }

    #[test]
    fn what_reaches_over_the_end_of_a_buffer_is_copied() {
        let pool = Pool::new(64);
        let mut head = Head::default();
        head.push(Lease::received_for_test(&pool, b"ab"));
        head.consume(1);
        head.push(Lease::received_for_test(&pool, b"cd"));
        assert_eq!(head.as_slice(), b"bcd");
        assert_eq!(pool.lent(), 0);
        head.consume(1);
        head.push(Lease::received_for_test(&pool, b"ef"));
        assert_eq!(head.take_vec(), b"cdef");
        assert!(head.is_empty());
    }

    #[test]
    fn no_buffer_is_kept_when_the_pool_is_short() {
        let pool = Pool::new(64);
        let kept: Vec<Lease> = (0..57)
            .map(|_| Lease::received_for_test(&pool, b"kept"))
            .collect();
        let mut head = Head::default();
        head.push(Lease::received_for_test(&pool, b"abc"));
        assert_eq!(pool.lent(), kept.len());
        let mut two = [0; 2];
        assert_eq!(head.read_into(&mut two), 2);
        assert_eq!((&two, &*head.take_lease()), (b"ab", b"c".as_slice()));
    }
}
