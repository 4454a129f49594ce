//! What the io_uring driver may use.

use crate::driver::MAX_BUFFERS;
use crate::ring::RingOptions;

/// Sizes, and the rungs of set-up that may be switched off.
///
/// A rung that is `false` is left out as if the kernel lacked it; that is how the fall-backs are
/// tested on a kernel that has everything.
#[derive(Clone, Debug)]
pub struct UringOptions {
    /// Entries of the submission queue; default 256. Halved down to 64 when memory is short.
    pub sq_entries: u32,
    /// Entries of the completion queue; default 4096. Halved down to 256 when memory is short.
    pub cq_entries: u32,
    /// The most receive buffers, of [`BUFFER_SIZE`](crate::driver::BUFFER_SIZE) bytes each; default
    /// and most [`MAX_BUFFERS`].
    pub buffers: usize,
    /// `IORING_SETUP_NO_SQARRAY` (Linux 6.6); default true.
    pub no_sqarray: bool,
    /// Enters name the ring by a registered index; default true.
    pub registered_fd: bool,
    /// `IORING_ENTER_NO_IOWAIT` (Linux 6.15); default true.
    pub no_iowait: bool,
    /// `IORING_ENTER_ABS_TIMER` (Linux 6.12): no clock is read to park with a deadline; default true.
    pub absolute_timeouts: bool,
    /// Sends that finish inside the enter that submits them and complete silently; default true.
    pub inline_sends: bool,
    /// Multishot accept (trustworthy on Linux before 6.6 and from 6.10); default true.
    pub multishot_accept: bool,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self {
            sq_entries: 256,
            cq_entries: 4096,
            buffers: MAX_BUFFERS,
            no_sqarray: true,
            registered_fd: true,
            no_iowait: true,
            absolute_timeouts: true,
            inline_sends: true,
            multishot_accept: true,
        }
    }
}

impl UringOptions {
    pub(super) fn ring(&self) -> RingOptions {
        RingOptions {
            sq_entries: self.sq_entries,
            cq_entries: self.cq_entries,
            no_sqarray: self.no_sqarray,
            registered_fd: self.registered_fd,
            no_iowait: self.no_iowait,
            absolute_timeouts: self.absolute_timeouts,
        }
    }
}
