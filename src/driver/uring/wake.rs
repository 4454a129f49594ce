//! Waking the loop from other threads.
//!
//! **Guarantees.** A multishot poll watches an eventfd that is never read: every write posts a
//! completion, and so does arming while it is readable, so that no wake is lost, not even one from
//! before the first park. (Not a futex: trap T1. Not registered for completion events as well: trap
//! T34.) Wakes until the driver saw one cost one write together.
//!
//! The descriptor lives as long as the last handle: an unpark after the loop has gone is harmless.

use crate::driver::Unpark;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Wake {
    event: EventFd,
    /// A write was made that the driver has not seen.
    pending: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            event: EventFd::from_value_and_flags(0, flags)?,
            pending: AtomicBool::new(false),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// The driver saw a completion of the poll. What a waker did before its unpark is visible to
    /// the loop after this: the exchange reads what the waker's exchange wrote.
    pub(super) fn seen(&self) {
        self.pending.swap(false, Ordering::AcqRel);
    }
}

impl Unpark for Wake {
    fn unpark(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // Fails only when the counter is full, after 2^64 - 2 wakes; it is readable then.
            let _ = self.event.write(1);
        }
    }
}
