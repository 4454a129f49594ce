//! Ends a wait from any thread.
//!
//! **Guarantees.** A call ends the park that is going on or the next one; calls before that park
//! has noticed cost one atomic exchange. The eventfd is registered edge-triggered: every write is
//! an edge, so nobody reads it, and 2^64 - 2 writes do not happen.

use super::super::Unpark;
use super::super::wake_flag::WakeFlag;
use crate::sys::epoll::Epoll;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// What the events of the eventfd carry; no descriptor has this number.
pub(super) const DATA: u64 = u64::MAX;

pub(super) struct Waker {
    event: EventFd,
    raised: WakeFlag,
}

impl Waker {
    pub(super) fn new(epoll: &Epoll) -> io::Result<Arc<Self>> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(
            event.as_raw_fd(),
            (libc::EPOLLIN | libc::EPOLLET) as u32,
            DATA,
        )?;
        Ok(Arc::new(Self {
            event,
            raised: WakeFlag::new(),
        }))
    }

    /// Whether somebody called.
    #[inline]
    pub(super) fn is_raised(&self) -> bool {
        self.raised.is_raised()
    }

    /// Whether somebody called since the last time. What happened before that call is visible after.
    #[inline]
    pub(super) fn take(&self) -> bool {
        self.is_raised() && self.raised.lower()
    }
}

impl Unpark for Waker {
    fn unpark(&self) {
        if self.raised.raise() {
            // Fails only when the counter is full, and then the edge was made long ago.
            let _ = self.event.write(1);
        }
    }
}
