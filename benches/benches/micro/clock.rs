//! CPU time of the calling thread, and what the kernel takes of it for a sleep.

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

/// CPU time that one sleep of the thread takes, whoever asks for it: the mean of many.
pub fn sleep_costs(length: Duration) -> Duration {
    const SLEEPS: u32 = 2000;
    let before = cpu();
    for _ in 0..SLEEPS {
        std::thread::sleep(length);
    }
    (cpu() - before) / SLEEPS
}
