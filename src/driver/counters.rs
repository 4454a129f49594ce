//! What a driver counts.

/// Running totals since the driver was made, except where "now" is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls that submit or wait: `io_uring_enter`, or `epoll_pwait2`.
    pub enters: u64,
    /// Operations handed to the kernel: SQEs, or system calls made in their name.
    pub submitted: u64,
    /// Completions read: CQEs, or their like.
    pub completed: u64,
    /// How often the submission queue was full and had to be submitted early.
    pub sq_full: u64,
    /// How often the completion queue had overflowed and was flushed.
    pub cq_overflow: u64,
    /// Receives parked because no buffer was left.
    pub parked_receives: u64,
    /// Multishot operations that the kernel ended early and the driver armed again.
    pub rearmed: u64,
    /// Completions for an operation that is gone (stale generation); ignored.
    pub stale: u64,
}
