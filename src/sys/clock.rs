//! The monotonic clock, straight from the C library: every timer reads it.

use std::mem::MaybeUninit;

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to room for a time, which is written when the call succeeds.
    let time = unsafe {
        let failed = libc::clock_gettime(clock, time.as_mut_ptr());
        assert!(failed == 0, "Linux has a monotonic clock");
        time.assume_init()
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of `CLOCK_MONOTONIC`. Does not enter the kernel.
///
/// # Panics
/// Never on Linux, which always has this clock.
#[inline]
pub fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// As [`now`], as it was at the last tick of the kernel: some milliseconds ago at most, mostly. A
/// quarter of the price.
///
/// # Panics
/// Never on Linux, which always has this clock.
#[inline]
pub fn coarse() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}
