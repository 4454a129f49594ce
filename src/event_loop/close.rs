//! The end of a loop.
//!
//! ```text
//!   refuse new work ─▶ drop callbacks ─▶ drop task bodies ─▶ drop transports ─▶ cancel and reap all
//!                                                               operations ─▶ close the driver
//! ```
//!
//! **Guarantees.** When it returns, nothing of the loop is left but what the kernel did not give
//! back in time; that is leaked on purpose, named and counted. Descriptors of the loop itself are
//! closed. What was written to a transport in the last iteration is sent as far as the socket takes it.
//! Destructors of the program's things run without any borrow held: they may ask the closed loop what
//! they like, and their panics are reported and keep nothing else from its end. A loop exit out of the
//! exception handler goes on when all of it is done.

use super::core::Core;
use super::exception::ExceptionContext;
use crate::driver::{Completion, Completions, Dispatch, Park};
use crate::ready::Kind;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Core {
    /// Waits at most `deadline` nanoseconds for operations.
    pub(super) fn close(&self, deadline: u64) {
        if !self.closed.replace(true) {
            self.reporter.hold_exits(|| self.close_in_order(deadline));
        }
    }

    fn close_in_order(&self, deadline: u64) {
        for payload in self.callbacks.clear() {
            self.report(ExceptionContext::panic(
                "panic while dropping a callback",
                payload,
            ));
        }
        self.timers.borrow_mut().clear();
        self.tasks.close();
        self.drop_transports();
        let names = self.close_engine(deadline);
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
        for starting in self.starting.take() {
            self.guard_drop(|| drop(starting));
        }
        for connections in self.connections.take() {
            let all = connections.upgrade().map(|connections| connections.all());
            for transport in all.into_iter().flatten() {
                self.guard_drop(|| {
                    transport.loop_closed();
                    drop(transport);
                });
            }
        }
        // What a panic in a waker left.
        for completion in self.completions.take() {
            self.guard_drop(|| self.dispatch(completion));
        }
        while let Some(entry) = self.ready.pop() {
            if entry.kind == Kind::Completion {
                let delivery = self.engine.borrow_mut().deliver(entry);
                self.guard_drop(|| delivery.discard());
            }
        }
    }

    /// The names of the operations that did not come back. What the destructors of targets and buffers
    /// submit meanwhile is refused by the same engine.
    fn close_engine(&self, deadline: u64) -> Vec<&'static str> {
        let end = self.now().saturating_add(deadline);
        let keys = self.engine.borrow().keys();
        for key in keys {
            let orphaned = self.engine.borrow_mut().orphan(key);
            let in_flight = orphaned.is_in_flight();
            self.guard_drop(|| {
                orphaned.adopt();
            });
            if in_flight {
                self.engine.borrow_mut().cancel(key);
            }
        }
        let mut out = Completions::new();
        // What has come back is taken in, however late it is when this looks.
        let mut in_time = deadline > 0;
        while in_time {
            in_time = self.now() < end;
            if !self.reap(end, &mut out) {
                break;
            }
            for completion in out.drain(..) {
                self.guard_drop(|| self.settle(completion));
            }
        }
        self.engine.borrow_mut().shut_down()
    }

    /// Parks if there is something to wait for; whether there was.
    fn reap(&self, end: u64, out: &mut Completions) -> bool {
        let mut engine = self.engine.borrow_mut();
        engine.in_flight() > 0 && engine.park(Park::Until(end), out).is_ok()
    }

    /// Takes in a completion that nobody is to hear of.
    fn settle(&self, completion: Completion) {
        let dispatch = self.engine.borrow_mut().dispatch(completion);
        match dispatch {
            Dispatch::Ready(entry) => {
                let delivery = self.engine.borrow_mut().deliver(entry);
                delivery.discard();
            }
            Dispatch::Drop(adopted) => adopted.adopt(),
            Dispatch::Wake(_) | Dispatch::Nothing => {}
        }
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
