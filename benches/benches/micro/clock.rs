//! CPU time of the calling thread.

use std::time::Duration;

/// CPU time that the calling thread has used.
pub fn cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the result is live; the clock exists on every Linux.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "no clock of the thread");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
