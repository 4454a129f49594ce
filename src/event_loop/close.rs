//! The end of a loop.
//!
//! ```text
//!   refuse new work ─▶ drop callbacks ─▶ drop task bodies ─▶ drop transports ─▶ cancel and reap all
//!                                                               operations ─▶ close the driver
//! ```
//!
//! **Guarantees.** When it returns, nothing of the loop is left but what the kernel did not give
//! back in time; that is leaked on purpose, named and counted. Descriptors of the loop itself are
//! closed. Destructors of the program's things run without any borrow held: they may ask the closed
//! loop what they like, and their panics are reported and stop nothing.

use super::core::Core;
use super::exception::ExceptionContext;
use crate::driver::{ClosedDriver, drain};
use crate::ready::Kind;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Core {
    /// Waits at most `deadline` nanoseconds for operations.
    pub(super) fn close(&self, deadline: u64) {
        if self.closed.replace(true) {
            return;
        }
        for payload in self.callbacks.clear() {
            self.report(ExceptionContext::panic(
                "panic while dropping a callback",
                payload,
            ));
        }
        self.timers.borrow_mut().clear();
        self.tasks.close();
        self.drop_transports();
        let names = self.close_driver(deadline);
        self.leaked.set(names.len());
        if !names.is_empty() {
            self.report(ExceptionContext::new(format!(
                "the loop was closed with {} operations that the kernel did not give back: {}; \
                 their memory is never freed",
                names.len(),
                names.join(", "),
            )));
        }
        self.gathers.borrow_mut().clear();
    }

    /// Transports are told, because they and their protocols hold each other. The list of those with
    /// something to send, and the targets of completions, are two places where the loop holds
    /// them; the third is the op table.
    fn drop_transports(&self) {
        for ended in [self.ended.take(), self.watching.take()] {
            self.guard_drop(|| drop(ended));
        }
        for (_, open) in self.open.take() {
            if let Some(open) = open.upgrade() {
                self.guard_drop(|| open.loop_closed());
            }
        }
        // What a panic in a waker left.
        for completion in self.completions.take() {
            self.guard_drop(|| self.dispatch(completion));
        }
        while let Some(entry) = self.ready.pop() {
            if entry.kind == Kind::Completion {
                let delivery = self.table.borrow_mut().deliver(entry, &self.pool);
                self.guard_drop(|| delivery.discard());
            }
        }
    }

    /// The names of the operations that did not come back.
    fn close_driver(&self, deadline: u64) -> Vec<&'static str> {
        let stand_in = Box::new(ClosedDriver::instead_of(&**self.driver.borrow()));
        let mut driver = self.driver.replace(stand_in);
        let mut table = self.table.take();
        let mut names = None;
        while names.is_none() {
            // A target whose destructor panics is gone: the next round goes on behind it.
            self.guard_drop(|| names = Some(drain(&mut *driver, &mut table, deadline)));
        }
        let names = names.unwrap_or_default();
        driver.shut_down(names.len());
        // Once more, for the last counts.
        let stand_in = Box::new(ClosedDriver::instead_of(&*driver));
        self.driver.replace(stand_in);
        self.pool.forget_unpark();
        self.table.replace(table);
        names
    }

    fn guard_drop(&self, drop: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(drop)) {
            self.report(ExceptionContext::panic(
                "panic while dropping a transport or its protocol",
                payload,
            ));
        }
    }
}
