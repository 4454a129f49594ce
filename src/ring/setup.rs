//! Set-up: tries the best, then steps down.
//!
//! **Guarantees.** No kernel version is read anywhere: each rung is tried, and what the kernel
//! refuses is done without. Every choice leaves a line in the report.
//!
//! ```text
//!                      ENOMEM: wait a little twice, then halve, at the smallest wait again
//!                         ┌───┐
//!   SQ 256, CQ 4096  ─────┴───▼──▶ ring ──▶ registered fd? ──▶ NO_IOWAIT? ──▶ absolute timeouts?
//!         │ EINVAL
//!         ▼
//!   without NO_SQARRAY (Linux 6.6)
//!         │ EINVAL
//!         ▼
//!   refusal: too old (DEFER_TASKRUN came with Linux 6.1)      any other errno: refusal
//! ```

use super::queues::{Ring, Wait, errno};
use super::refusal::{Facts, Refusal};
use io_uring::IoUring;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The smallest queues that set-up steps down to.
const SMALLEST: Sizes = Sizes { sq: 64, cq: 256 };

/// How long to wait for memory that a closed ring has not given back yet, before giving way. The
/// kernel uncharges asynchronously, within some 25 ms when it is idle (trap T6).
const PAUSES: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(12)];

/// The same when nothing is left but to refuse; a busy kernel takes longer.
pub const LAST_PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
];

/// `IORING_REGISTER_RING_FDS` and its opposite.
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// The most workers that run what can block (files) and what can block for ever (the rest); the
/// kernel's own limit for the latter is that of processes (trap T27).
const WORKERS: [u32; 2] = [8, 64];

/// What set-up may use. A rung that is false is left out, as if the kernel lacked it.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Submission entries; halved down to 64 when memory is short.
    pub sq_entries: u32,
    /// Completion entries; halved down to 256 when memory is short.
    pub cq_entries: u32,
    /// `IORING_SETUP_NO_SQARRAY`.
    pub no_sqarray: bool,
    /// Enter by the registered index of the ring.
    pub registered_fd: bool,
    /// `IORING_ENTER_NO_IOWAIT`.
    pub no_iowait: bool,
    /// `IORING_ENTER_ABS_TIMER`.
    pub absolute_timeouts: bool,
}

impl RingOptions {
    /// The same with half the sizes of `ring`, if they can be halved: for who needs some of the
    /// memory that it took.
    pub fn halved(&self, ring: &Ring) -> Option<Self> {
        let params = ring.io().params();
        let sizes = Sizes {
            sq: params.sq_entries(),
            cq: params.cq_entries(),
        };
        let Sizes { sq, cq } = sizes.halved()?;
        Some(Self {
            sq_entries: sq,
            cq_entries: cq,
            ..*self
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    sq: u32,
    cq: u32,
}

impl Sizes {
    /// Half of both, not below [`SMALLEST`] nor what was asked for; `None` at the end.
    fn halved(self) -> Option<Self> {
        let half = |size: u32, floor: u32| (size / 2).max(floor.min(size));
        let halved = Self {
            sq: half(self.sq, SMALLEST.sq),
            cq: half(self.cq, SMALLEST.cq),
        };
        (halved != self).then_some(halved)
    }

    /// Bytes that count against `RLIMIT_MEMLOCK`, about.
    fn bytes(self) -> u64 {
        64 * u64::from(self.sq) + 16 * u64::from(self.cq) + 4096
    }
}

/// One try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    sizes: Sizes,
    no_sqarray: bool,
}

/// The ladder itself: `attempt` until it succeeds or nothing is left to step down to.
fn climb<T>(
    mut next: Attempt,
    mut attempt: impl FnMut(Attempt) -> io::Result<T>,
    mut pause: impl FnMut(Duration),
) -> Result<(T, Attempt), (io::Error, Attempt)> {
    let mut pauses = PAUSES.iter();
    let mut last_pauses = LAST_PAUSES.iter();
    loop {
        let error = match attempt(next) {
            Ok(ring) => return Ok((ring, next)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            // An unknown flag.
            Some(libc::EINVAL) if next.no_sqarray => next.no_sqarray = false,
            // Locked memory is short: perhaps only until a ring just closed is uncharged.
            Some(libc::ENOMEM) => {
                if let Some(time) = pauses.next() {
                    pause(*time);
                } else if let Some(halved) = next.sizes.halved() {
                    next.sizes = halved;
                } else if let Some(time) = last_pauses.next() {
                    pause(*time);
                } else {
                    return Err((error, next));
                }
            }
            _ => return Err((error, next)),
        }
    }
}

fn set_up(attempt: Attempt) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(attempt.sizes.cq)
        .dontfork();
    if attempt.no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.build(attempt.sizes.sq)
}

impl Ring {
    /// Sets a ring up and appends what was chosen, and why, to `report`, a line each.
    ///
    /// # Errors
    /// An error whose inner value is a [`Refusal`]: the cause and the remedy.
    pub fn set_up(options: &RingOptions, report: &mut Vec<String>) -> io::Result<Self> {
        let first = Attempt {
            sizes: Sizes {
                sq: options.sq_entries.max(1),
                cq: options.cq_entries.max(options.sq_entries).max(1),
            },
            no_sqarray: options.no_sqarray,
        };
        let (io, used) = climb(first, set_up, std::thread::sleep).map_err(|(error, attempt)| {
            Refusal::of(&Facts::observe(&error, attempt.sizes.bytes())).into_error()
        })?;
        let asked = first.sizes;
        report.push(format!(
            "queues: {} submissions, {} completions{}",
            io.params().sq_entries(),
            io.params().cq_entries(),
            if used.sizes == asked {
                String::new()
            } else {
                format!(
                    " (asked for {} and {}, which the memory limit refused: ENOMEM)",
                    asked.sq, asked.cq
                )
            }
        ));
        report.push("flags: SINGLE_ISSUER, DEFER_TASKRUN, TASKRUN_FLAG, SUBMIT_ALL".into());
        report.push(rung(
            "NO_SQARRAY",
            options.no_sqarray,
            if used.no_sqarray {
                Ok(())
            } else {
                Err("EINVAL".into())
            },
        ));
        let mut ring = Self::new(io, used.no_sqarray);
        ring.step_up(options, report);
        Ok(ring)
    }

    fn step_up(&mut self, options: &RingOptions, report: &mut Vec<String>) {
        let mut answer = Ok(());
        if options.registered_fd {
            match register_fd(self.io()) {
                Ok(index) => self.use_registered(index),
                // EBUSY: this thread has 16 already. EINVAL: older than 5.18.
                Err(error) => answer = Err(error.to_string()),
            }
        }
        report.push(rung(
            "registered ring descriptor",
            options.registered_fd,
            answer,
        ));

        let mut answer = Ok(());
        if options.no_iowait {
            if self.io().params().is_feature_no_iowait() {
                self.use_no_iowait();
            } else {
                // Trap T25: an idle loop then shows as a processor that waits for a disk.
                answer = Err("the kernel lacks it; an idle loop counts as iowait".into());
            }
        }
        report.push(rung("NO_IOWAIT", options.no_iowait, answer));

        let mut answer = Ok(());
        if options.absolute_timeouts {
            answer = self.try_absolute_timeouts();
        }
        report.push(rung("absolute timeouts", options.absolute_timeouts, answer));

        let workers = self
            .io()
            .submitter()
            .register_iowq_max_workers(&mut WORKERS.clone());
        report.push(match workers {
            Ok(()) => format!(
                "workers: at most {} for files, {} for the rest",
                WORKERS[0], WORKERS[1]
            ),
            Err(error) => format!("workers: as many as the kernel likes ({error})"),
        });
    }

    /// Waits for a time long past: `ETIME` where the flag is known, `EINVAL` before Linux 6.12.
    fn try_absolute_timeouts(&mut self) -> Result<(), String> {
        // In a time namespace some kernels forget its offset, so they would wait far too long.
        if monotonic_clock_is_shifted() {
            return Err("this time namespace shifts the monotonic clock".into());
        }
        self.use_absolute_timeouts(true);
        match self.enter(0, Wait::Nanos(1)) {
            Err(libc::ETIME) => Ok(()),
            answer => {
                self.use_absolute_timeouts(false);
                Err(match answer {
                    Ok(_) => "the wait ended without ETIME".into(),
                    Err(errno) => io::Error::from_raw_os_error(errno).to_string(),
                })
            }
        }
    }
}

fn rung(name: &str, wanted: bool, answer: Result<(), String>) -> String {
    match (wanted, answer) {
        (false, _) => format!("{name}: no (switched off)"),
        (true, Ok(())) => format!("{name}: yes"),
        (true, Err(why)) => format!("{name}: no ({why})"),
    }
}

fn monotonic_clock_is_shifted() -> bool {
    std::fs::read_to_string("/proc/self/timens_offsets").is_ok_and(|offsets| {
        offsets
            .lines()
            .filter_map(|line| line.strip_prefix("monotonic"))
            .any(|rest| rest.split_whitespace().any(|number| number != "0"))
    })
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    resv: u32,
    data: u64,
}

const _: () = assert!(size_of::<RsrcUpdate>() == 16);

fn register(io: &IoUring, opcode: u32, update: &mut RsrcUpdate) -> io::Result<()> {
    // SAFETY: the descriptor is open and the argument is one live RsrcUpdate, as both opcodes
    // want it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            io.as_raw_fd(),
            opcode,
            std::ptr::from_mut(update),
            1,
        )
    };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(errno()));
    }
    Ok(())
}

fn register_fd(io: &IoUring) -> io::Result<i32> {
    let mut update = RsrcUpdate {
        // Any free slot.
        offset: u32::MAX,
        resv: 0,
        data: io.as_raw_fd() as u64,
    };
    register(io, REGISTER_RING_FDS, &mut update)?;
    Ok(update.offset as i32)
}

pub(super) fn unregister_fd(io: &IoUring, index: i32) {
    let mut update = RsrcUpdate {
        offset: index as u32,
        resv: 0,
        data: 0,
    };
    // Can only fail on another thread, which a ring never reaches.
    let _ = register(io, UNREGISTER_RING_FDS, &mut update);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Attempt = Attempt {
        sizes: Sizes { sq: 256, cq: 4096 },
        no_sqarray: true,
    };

    fn error(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn takes_the_best_at_once() {
        let (tries, used) = climb(FIRST, |_| Ok(1), |_| panic!("no pause")).unwrap();
        assert_eq!((tries, used), (1, FIRST));
    }

    #[test]
    fn steps_down_on_einval_only() {
        let old = |attempt: Attempt| match attempt.no_sqarray {
            true => Err(error(libc::EINVAL)),
            false => Ok(()),
        };
        let ((), used) = climb(FIRST, old, |_| panic!("no pause")).unwrap();
        assert!(!used.no_sqarray);
        assert_eq!(used.sizes, FIRST.sizes);

        let mut tries = 0;
        let denied = |_| {
            tries += 1;
            Err::<(), _>(error(libc::EPERM))
        };
        let (error, _) = climb(FIRST, denied, |_| panic!("no pause")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(tries, 1);
    }

    #[test]
    fn too_old_ends_with_einval() {
        let mut tries = 0;
        let old = |_| {
            tries += 1;
            Err::<(), _>(error(libc::EINVAL))
        };
        let (last, _) = climb(FIRST, old, |_| panic!("no pause")).unwrap_err();
        assert_eq!(last.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(tries, 2);
    }

    #[test]
    fn waits_for_a_late_uncharge_before_it_halves() {
        let mut left = 2;
        let mut pauses = 0;
        let ((), used) = climb(
            FIRST,
            |_| match left {
                0 => Ok(()),
                _ => {
                    left -= 1;
                    Err(error(libc::ENOMEM))
                }
            },
            |_| pauses += 1,
        )
        .unwrap();
        assert_eq!((used, pauses), (FIRST, 2));
    }

    #[test]
    fn halves_down_to_the_smallest_and_no_further() {
        let mut seen = Vec::new();
        let mut pauses = 0;
        let (last, at) = climb(
            FIRST,
            |attempt| {
                seen.push((attempt.sizes.sq, attempt.sizes.cq));
                Err::<(), _>(error(libc::ENOMEM))
            },
            |_| pauses += 1,
        )
        .unwrap_err();
        seen.dedup();
        assert_eq!(
            seen,
            [(256, 4096), (128, 2048), (64, 1024), (64, 512), (64, 256)]
        );
        assert_eq!(at.sizes, SMALLEST);
        assert_eq!(last.raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(pauses, PAUSES.len() + LAST_PAUSES.len());
    }

    #[test]
    fn what_was_asked_small_stays_small() {
        assert_eq!(Sizes { sq: 8, cq: 16 }.halved(), None);
        assert_eq!(
            Sizes { sq: 8, cq: 512 }.halved(),
            Some(Sizes { sq: 8, cq: 256 })
        );
    }
}
