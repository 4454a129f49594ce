//! Start-up of the driver: ring, receive buffers, probes.
//!
//! **Guarantees.** A driver that was made works: what it can not do without was tried, what it can
//! was tried too and is left out where the kernel answers differently. Each choice is a line of the
//! report. A failed start leaves nothing behind but memory that the kernel may still use.

use super::slots::Slots;
use super::wake::Wake;
use super::{Counters, GROUP, UringDriver, UringOptions, probe};
use crate::driver::pool::CIRCULATING;
use crate::driver::{Driver, MAX_BUFFERS, Pool, SEGMENT_BUFFERS};
use crate::ring::{BufRing, Facts, LAST_PAUSES, Refusal, Ring};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

impl UringDriver {
    /// A driver on a ring of its own, for the calling thread.
    ///
    /// # Errors
    /// An error whose inner value is a [`Refusal`] with the cause and the remedy, when the kernel
    /// gives no ring or one that lacks what this driver needs (`DEFER_TASKRUN` and multishot
    /// receive: Linux 6.1). `EMFILE` when no descriptor is left for the wake-up.
    pub fn new(options: UringOptions) -> io::Result<Self> {
        let wake = Arc::new(Wake::new()?);
        let (ring, pool, report) = ring_and_buffers(&options)?;
        pool.set_unpark(wake.clone());
        let mut driver = Self {
            ring,
            pool,
            slots: Slots::default(),
            ordered: 0,
            backlog: VecDeque::new(),
            unsettled: Vec::new(),
            marks: Vec::new(),
            starved: VecDeque::new(),
            circulating: CIRCULATING,
            blocked: HashMap::new(),
            connects: Vec::new(),
            later: Vec::new(),
            done: Vec::new(),
            hurry: false,
            inline_sends: false,
            multishot_receive: options.multishot_receive,
            multishot_accept: options.multishot_accept,
            wake,
            counters: Counters::default(),
            broken: None,
            shut: false,
            report,
        };
        if let Err(failed) = probe::multishot_receive(&mut driver.ring, &driver.pool) {
            driver.shut_down(failed.in_flight);
            return Err(failed.error);
        }
        driver.report.push(match options.multishot_receive {
            true => "multishot receive: yes".into(),
            false => "multishot receive: no (switched off)".into(),
        });
        driver.choose_sends(&options);
        driver.choose_accept(&options);
        driver.push_wake();
        Ok(driver)
    }

    /// Whether sends may complete silently (D7).
    fn choose_sends(&mut self, options: &UringOptions) {
        let answer = match options.inline_sends {
            true => probe::inline_sends(&mut self.ring),
            false => Err("switched off".into()),
        };
        self.inline_sends = answer.is_ok();
        self.report.push(match answer {
            Ok(()) => "inline sends: yes (silent on success)".into(),
            Err(why) => format!("inline sends: no, every send asks for its completion ({why})"),
        });
    }

    /// Trap T16: kernels 6.6 to 6.8 may report a wrong descriptor from a multishot accept. They
    /// are those that have what came with 6.6 and lack what came with 6.10.
    fn choose_accept(&mut self, options: &UringOptions) {
        let doubtful = self.ring.is_between_6_6_and_6_10();
        self.multishot_accept = options.multishot_accept && !doubtful;
        self.report
            .push(match (options.multishot_accept, doubtful) {
                (false, _) => "multishot accept: no (switched off)".into(),
                (true, true) => {
                    "multishot accept: no (this kernel may report wrong descriptors)".into()
                }
                (true, false) => "multishot accept: yes".into(),
            });
    }
}

/// A ring and its receive buffers. Where locked memory is short the ring may have taken all of it:
/// then a smaller one is made.
fn ring_and_buffers(options: &UringOptions) -> io::Result<(Ring, Rc<Pool>, Vec<String>)> {
    let mut next = options.ring();
    loop {
        let mut report = vec!["driver: io_uring".to_owned()];
        let ring = Ring::set_up(&next, &mut report)?;
        let smaller = next.halved(&ring);
        let pauses = if smaller.is_some() {
            &[]
        } else {
            &LAST_PAUSES[..]
        };
        match (
            receive_buffers(&ring, options.buffers, pauses, &mut report),
            smaller,
        ) {
            (Ok(pool), _) => return Ok((ring, pool, report)),
            (Err(error), Some(smaller)) if error.raw_os_error() == Some(libc::ENOMEM) => {
                next = smaller;
            }
            (Err(error), _) => {
                let bytes = SEGMENT_BUFFERS as u64 * 16;
                return Err(Refusal::of(&Facts::observe(&error, bytes)).into_error());
            }
        }
    }
}

/// Registers descriptors for `limit` buffers, fewer where locked memory is short, and makes the
/// pool. With the fewest, waits as `pauses` say for memory that a closed ring has not given back.
fn receive_buffers(
    ring: &Ring,
    limit: usize,
    pauses: &[Duration],
    report: &mut Vec<String>,
) -> io::Result<Rc<Pool>> {
    let limit = limit.clamp(1, MAX_BUFFERS);
    let mut count = limit.next_power_of_two() as u16;
    let mut pauses = pauses.iter();
    loop {
        let descriptors = BufRing::new(count);
        // SAFETY: the pool keeps the descriptors until the driver's close has unregistered them, or
        // leaks them.
        let result = unsafe { ring.register_buffers(descriptors.address(), count, GROUP) };
        let Err(error) = result else {
            let got = limit.min(count as usize);
            report.push(format!(
                "receive buffers: at most {got}{}",
                if got < limit {
                    format!(" (asked for {limit}, which the memory limit refused: ENOMEM)")
                } else {
                    String::new()
                }
            ));
            let pool = Pool::new(got);
            pool.attach(descriptors);
            return Ok(pool);
        };
        let no_memory = error.raw_os_error() == Some(libc::ENOMEM);
        if no_memory && usize::from(count) > SEGMENT_BUFFERS {
            count /= 2;
        } else if no_memory && let Some(time) = pauses.next() {
            std::thread::sleep(*time);
        } else {
            return Err(error);
        }
    }
}
