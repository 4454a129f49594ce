//! The 64 bits that travel through the kernel with an operation.
//!
//! **Guarantees.** They hold the key, generation included (a late completion never meets the
//! operation that took its slot: trap T24), and a tag in four bits that no index uses
//! ([`MAX_OPERATIONS`]). The tag says how a completion is to be read, so that the common ones
//! need no look at the table.

use crate::driver::{Key, MAX_OPERATIONS};

/// How a completion is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// The result is all there is.
    Plain = 0,
    /// A multishot receive.
    Receive = 1,
    /// An inline send: completes only when it did not send everything.
    Send = 2,
    /// A receive that is armed again after every completion: multishot to those above.
    ReceiveOnce = 3,
    /// A multishot accept.
    Accept = 4,
    /// An accept that is armed again after every completion: multishot to those above.
    AcceptOnce = 5,
    /// A multishot poll.
    Poll = 6,
    /// The result is a descriptor.
    Descriptor = 7,
    /// A close: the operation must not close its descriptor again.
    Close = 8,
    /// Never given to the kernel: a shutdown, performed by the driver.
    Shutdown = 9,
    /// A try of a send that may wait.
    Try = 10,
    /// The poll of such a send, whose socket was full.
    Watch = 11,
    /// Never given to the kernel: a connect of a Unix socket, performed by the driver.
    Connect = 12,
}

const SHIFT: u32 = 28;
const INDEX: u32 = (1 << SHIFT) - 1;

const _: () = assert!(MAX_OPERATIONS == 1 << SHIFT);

/// Tag bits of what belongs to the driver itself.
const OWN: u64 = 15 << SHIFT;

/// The poll of the wake descriptor.
pub(super) const WAKE: u64 = OWN;
/// A request whose completion says nothing: a cancel.
pub(super) const IGNORED: u64 = OWN | 1;

/// The bits of an operation.
#[inline]
pub(super) const fn bits(key: Key, tag: Tag) -> u64 {
    key.to_bits() | (tag as u64) << SHIFT
}

/// The key in the bits.
#[inline]
pub(super) const fn key(bits: u64) -> Key {
    let key = Key::from_bits(bits);
    Key {
        index: key.index & INDEX,
        generation: key.generation,
    }
}

/// The tag in the bits; `None` for what is the driver's own.
#[inline]
pub(super) const fn tag(bits: u64) -> Option<Tag> {
    Some(match (bits as u32) >> SHIFT {
        0 => Tag::Plain,
        1 => Tag::Receive,
        2 => Tag::Send,
        3 => Tag::ReceiveOnce,
        4 => Tag::Accept,
        5 => Tag::AcceptOnce,
        6 => Tag::Poll,
        7 => Tag::Descriptor,
        8 => Tag::Close,
        9 => Tag::Shutdown,
        10 => Tag::Try,
        11 => Tag::Watch,
        12 => Tag::Connect,
        _ => return None,
    })
}

/// Whether the tag is [`Tag::Receive`].
#[inline]
pub(super) const fn is_receive(bits: u64) -> bool {
    (bits as u32) >> SHIFT == Tag::Receive as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tags_survive() {
        for index in [0, 1, INDEX] {
            for generation in [0, 7, u32::MAX] {
                for (n, tag) in (0..13).map(|n| (n, self::tag(n << SHIFT).unwrap())) {
                    assert_eq!(tag as u64, n);
                    let key = Key { index, generation };
                    assert_eq!(super::key(bits(key, tag)), key);
                    assert_eq!(super::tag(bits(key, tag)), Some(tag));
                }
            }
        }
        assert_eq!(tag(WAKE), None);
        assert_eq!(tag(IGNORED), None);
        assert_ne!(WAKE, IGNORED);
    }
}
