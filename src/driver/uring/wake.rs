//! Waking the loop from other threads.
//!
//! **Guarantees.** A multishot poll watches an eventfd that is never read: every write posts a
//! completion, and so does arming while it is readable, so that no wake is lost, not even one from
//! before the first park. (Not a futex: trap T1. Not registered for completion events as well: trap
//! T34.) Wakes until the driver saw one cost one write together.
//!
//! The descriptor lives as long as the last handle: an unpark after the loop has gone is harmless.

use crate::driver::Unpark;
use crate::driver::wake_flag::WakeFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

pub(super) struct Wake {
    event: EventFd,
    /// A write was made, or will be, that the driver has not seen.
    flag: WakeFlag,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            event: EventFd::from_value_and_flags(0, flags)?,
            flag: WakeFlag::new(),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// The driver saw a completion of the poll.
    pub(super) fn seen(&self) {
        self.flag.lower();
    }
}

impl Unpark for Wake {
    fn unpark(&self) {
        if self.flag.raise() {
            // Fails only when the counter is full, after 2^64 - 2 wakes; it is readable then.
            let _ = self.event.write(1);
        }
    }
}
