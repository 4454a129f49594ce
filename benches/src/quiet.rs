//! Notices that something else ran while a server was driven, so that such a slice can be measured
//! again instead of being believed.

use std::io;
use std::time::{Duration, Instant};

/// More than this share of the load's core lost to others makes a slice disturbed.
const LOST: f64 = 0.02;

/// Watches one slice. The calling thread is the load: it alone runs, and never sleeps.
pub struct Watch {
    begun: Instant,
    cpu: Duration,
    quiet: bool,
    before_others: bool,
}

/// CPU time of the calling thread.
fn thread_cpu() -> io::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the result is live.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Whether a thread besides the caller wants to run anywhere on the machine.
fn others_run() -> io::Result<bool> {
    let line = std::fs::read_to_string("/proc/loadavg")?;
    let running = line
        .split(' ')
        .nth(3)
        .and_then(|field| field.split('/').next()?.parse::<u32>().ok());
    Ok(running.is_none_or(|running| running > 1))
}

impl Watch {
    /// Begins; the servers must be idle. With load and servers [`before_others`], it is no
    /// disturbance that something else wants to run.
    ///
    /// [`before_others`]: crate::process::before_others
    pub fn begin(before_others: bool) -> io::Result<Watch> {
        let quiet = before_others || !others_run()?;
        Ok(Watch {
            begun: Instant::now(),
            cpu: thread_cpu()?,
            quiet,
            before_others,
        })
    }

    /// Whether nothing else ran, as far as can be seen.
    pub fn end(self) -> io::Result<bool> {
        let elapsed = self.begun.elapsed();
        let lost = elapsed.saturating_sub(thread_cpu()? - self.cpu);
        // The server just driven may be on its way to sleep.
        let mut others = !self.before_others && others_run()?;
        for _ in 0..5 {
            if !others {
                break;
            }
            others = others_run()?;
        }
        Ok(self.quiet && !others && lost.as_secs_f64() <= elapsed.as_secs_f64() * LOST)
    }
}
