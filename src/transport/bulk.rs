//! What only a transport needs whose socket was full once, or that was given more than its high-water
//! mark in one iteration: among what is rare, and it stays there.
//!
//! It knows the send that waits for the socket, and how much the socket took at once in the last
//! iterations. Where that was more than the high-water mark, it is trusted to take twice as much: a write
//! that it does not take then is noticed at the end of the iteration.

use super::flags::Flag;
use super::socket::SocketTransport;
use crate::driver::Key;

/// The most that a socket is trusted to take at once.
const MAX_TRUST: usize = 512 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Bulk {
    /// The send that waits for the socket, and the bytes it has left.
    waiting: Option<(Key, usize)>,
    /// Bytes that the socket took at once in the last iterations that sent any, all that there were.
    took: usize,
    /// The same in this iteration, so far.
    taken: usize,
}

impl SocketTransport {
    fn with_bulk<R>(&self, f: impl FnOnce(&mut Bulk) -> R) -> R {
        self.flags.set(Flag::Bulk);
        self.with_rare(|rare| f(rare.bulk.get_or_insert_default()))
    }

    #[inline]
    fn bulk<R>(&self, f: impl FnOnce(&mut Bulk) -> R) -> Option<R> {
        if self.flags.has(Flag::Bulk) {
            self.rare(|rare| rare.bulk.as_mut().map(f)).flatten()
        } else {
            None
        }
    }

    /// A send waits for the socket.
    pub(super) fn set_waiting(&self, key: Key, left: usize) {
        self.with_bulk(|bulk| bulk.waiting = Some((key, left)));
    }

    /// No send waits for the socket any more; the one that did.
    pub(super) fn take_waiting(&self) -> Option<Key> {
        let waiting = self.bulk(|bulk| bulk.waiting.take()).flatten();
        waiting.map(|(key, _)| key)
    }

    /// Bytes of the send that waits for the socket.
    pub(super) fn left(&self) -> usize {
        let waiting = self.bulk(|bulk| bulk.waiting).flatten();
        waiting.map_or(0, |(_, left)| left)
    }

    /// How many bytes may wait for the end of the iteration untried.
    pub(super) fn trusted(&self, high: usize) -> usize {
        let took = self.bulk(|bulk| bulk.took).unwrap_or(0);
        // A mark of 0 asks to be told when anything waits: that is tried, not trusted.
        if high == 0 || took <= high {
            high
        } else {
            (2 * took).min(MAX_TRUST).max(high)
        }
    }

    /// The socket took `sent` bytes at once, all that there were.
    pub(super) fn went_whole(&self, sent: usize) {
        self.with_bulk(|bulk| bulk.taken = (bulk.taken + sent).min(MAX_TRUST));
    }

    /// An iteration that sent something has ended well, with `sent` bytes. What the socket took in earlier
    /// ones counts less and less, but slowly: how much is written differs from one iteration to the next.
    #[inline]
    pub(super) fn trust(&self, sent: usize) {
        self.bulk(|bulk| {
            let taken = std::mem::take(&mut bulk.taken) + sent;
            let faded = bulk.took - bulk.took / 32;
            bulk.took = taken.min(MAX_TRUST).max(faded);
        });
    }

    /// The socket is full.
    pub(super) fn went_partly(&self) {
        self.bulk(|bulk| (bulk.taken, bulk.took) = (0, 0));
    }
}
