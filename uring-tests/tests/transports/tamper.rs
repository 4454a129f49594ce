//! A driver that answers some operations itself: results that real sockets do not give on demand.
//!
//! What to answer is kept for each thread, and a lab has a thread of its own.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use ringloop::Builder;
use ringloop::driver::{
    Completion, Completions, Counters, Driver, DriverKind, Key, Op, OpTable, Park, Pool, Unpark,
};
use uring_tests::lab::Lab;

thread_local! {
    static RECEIVE: Cell<Option<i32>> = const { Cell::new(None) };
    static SEND: Cell<Option<i32>> = const { Cell::new(None) };
    static SENDS: Cell<usize> = const { Cell::new(0) };
}

/// The next receive that is armed ends with this result.
pub fn next_receive(result: i32) {
    RECEIVE.set(Some(result));
}

/// The next send that is submitted ends with this result, and nothing is sent.
pub fn next_send(result: i32) {
    SEND.set(Some(result));
}

/// Whether a send was answered since.
pub fn send_was_answered() -> bool {
    SEND.get().is_none()
}

/// How many sends were submitted.
pub fn sends() -> usize {
    SENDS.get()
}

/// A lab on a driver of this kind that can be tampered with.
pub fn lab(kind: DriverKind) -> Lab {
    let inner = Builder::new().driver(kind).build_driver();
    Lab::with_driver(Box::new(Tampered {
        inner: inner.expect("the driver is there"),
        made_up: Completions::new(),
    }))
}

struct Tampered {
    inner: Box<dyn Driver>,
    made_up: Completions,
}

impl Driver for Tampered {
    fn kind(&self) -> DriverKind {
        self.inner.kind()
    }

    fn report(&self) -> String {
        self.inner.report()
    }

    unsafe fn submit(&mut self, key: Key, op: &mut Op) {
        let answer = match op {
            Op::RecvMulti { .. } => RECEIVE.take(),
            Op::Send { .. } => {
                SENDS.set(SENDS.get() + 1);
                SEND.take()
            }
            _ => None,
        };
        match answer {
            Some(result) => self.made_up.push(Completion::last(key, result)),
            // SAFETY: passed on; completions are made up only for what was not.
            None => unsafe { self.inner.submit(key, op) },
        }
    }

    fn cancel(&mut self, key: Key) {
        // Of an operation that is answered already, the inner driver knows nothing: a stale key.
        self.inner.cancel(key);
    }

    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
        let until = if self.made_up.is_empty() {
            until
        } else {
            Park::Poll
        };
        out.append(&mut self.made_up);
        self.inner.park(table, until, out)
    }

    fn wants_poll(&self) -> bool {
        !self.made_up.is_empty() || self.inner.wants_poll()
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.inner.unparker()
    }

    fn now(&self) -> u64 {
        self.inner.now()
    }

    fn pool(&self) -> &Rc<Pool> {
        self.inner.pool()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn shut_down(&mut self, leaked: usize) {
        self.inner.shut_down(leaked);
    }
}
