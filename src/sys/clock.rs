//! The monotonic clock.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`. Does not enter the kernel.
///
/// # Panics
/// Never on Linux, which always has this clock.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// As [`now`], as it was at the last tick of the kernel: some milliseconds ago at most, mostly. A
/// quarter of the price.
///
/// # Panics
/// Never on Linux, which always has this clock.
#[inline]
pub fn coarse() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has a coarse clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
