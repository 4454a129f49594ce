//! The flags of a stream transport, in one word.

use std::cell::Cell;

/// A set of [`Flag`]s.
#[derive(Default)]
pub(super) struct Flags(Cell<u16>);

/// One fact about a transport.
#[derive(Clone, Copy)]
#[repr(u16)]
pub(super) enum Flag {
    /// `close`, `abort` or an error began the end.
    Closing = 1,
    /// `connection_lost` is queued or was delivered: writes are dropped, completions ignored.
    Lost = 1 << 1,
    /// `pause_reading` is in force.
    ReadPaused = 1 << 2,
    /// The end of the stream was seen (delivered, or held while paused).
    EndSeen = 1 << 3,
    /// `write_eof` was called.
    EofAsked = 1 << 4,
    /// The protocol was told to pause writing.
    WritePaused = 1 << 5,
    /// This transport stands in the list for the end of the iteration.
    InEndList = 1 << 6,
    /// A delivery of held data is queued.
    DeliveryQueued = 1 << 7,
    /// `connection_made` was delivered: reading may start.
    Started = 1 << 8,
    /// The armed receive was asked to end.
    ReceiveCancelled = 1 << 9,
    /// `resume_writing` runs: what it writes is sent even by a closing transport.
    InResume = 1 << 10,
    /// What the socket took is being dropped; what is left goes before anything new.
    Shrinking = 1 << 11,
    /// Something that completed while reading was paused is held.
    Held = 1 << 12,
    /// The water marks were set; they are not the usual ones.
    OwnLimits = 1 << 13,
    /// A send is in flight.
    Sending = 1 << 14,
    /// There is a [`Bulk`](super::bulk::Bulk).
    Bulk = 1 << 15,
}

impl Flags {
    #[inline]
    pub(super) fn has(&self, flag: Flag) -> bool {
        self.0.get() & flag as u16 != 0
    }

    /// Whether any of two is set.
    #[inline]
    pub(super) fn has_any(&self, first: Flag, second: Flag) -> bool {
        self.0.get() & (first as u16 | second as u16) != 0
    }

    /// Whether what arrives can not be delivered at once.
    #[inline]
    pub(super) fn delay_delivery(&self) -> bool {
        const DELAY: u16 = Flag::Closing as u16 | Flag::ReadPaused as u16 | Flag::Held as u16;
        self.0.get() & DELAY != 0
    }

    /// Sets it; whether it was set before.
    #[inline]
    pub(super) fn set(&self, flag: Flag) -> bool {
        let old = self.0.get();
        self.0.set(old | flag as u16);
        old & flag as u16 != 0
    }

    /// Clears it; whether it was set before.
    #[inline]
    pub(super) fn clear(&self, flag: Flag) -> bool {
        let old = self.0.get();
        self.0.set(old & !(flag as u16));
        old & flag as u16 != 0
    }
}
