//! What stands in a driver's place from the moment its loop closes.
//!
//! **Guarantees.** Ring, poller and wake-up descriptor are closed with the driver itself; what may
//! still be asked of a closed loop is answered: its clock, its counters, its report.

use super::{Completions, Counters, Driver, DriverKind, Key, Op, OpTable, Park, Pool, Unpark};
use crate::sys::clock;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
pub(crate) struct ClosedDriver {
    kind: DriverKind,
    report: String,
    counters: Counters,
    pool: Rc<Pool>,
    /// The driver's clock and the system's, read together; it goes on from there.
    stopped_at: (u64, u64),
}

impl ClosedDriver {
    /// Takes the place of `driver`, which is to be drained, shut down and dropped.
    pub(crate) fn instead_of(driver: &dyn Driver) -> Self {
        Self {
            kind: driver.kind(),
            report: driver.report(),
            counters: driver.counters(),
            pool: driver.pool().clone(),
            stopped_at: (driver.now(), clock::now()),
        }
    }
}

/// Wakes nobody.
struct Nobody;

impl Unpark for Nobody {
    fn unpark(&self) {}
}

impl Driver for ClosedDriver {
    fn kind(&self) -> DriverKind {
        self.kind
    }

    fn report(&self) -> String {
        self.report.clone()
    }

    /// A closed loop submits nothing.
    unsafe fn submit(&mut self, _key: Key, _op: &mut Op) {}

    fn cancel(&mut self, _key: Key) {}

    fn park(&mut self, _: &mut OpTable, _: Park, _: &mut Completions) -> io::Result<()> {
        // Closed, and for good.
        Err(io::Error::from_raw_os_error(libc::ESHUTDOWN))
    }

    fn wants_poll(&self) -> bool {
        false
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        Arc::new(Nobody)
    }

    fn now(&self) -> u64 {
        let (own, system) = self.stopped_at;
        own + clock::now().saturating_sub(system)
    }

    fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn shut_down(&mut self, _leaked: usize) {}
}
