//! A driver that answers some operations itself: results that real sockets do not give on demand.
//!
//! What to answer is kept for each thread, and a lab has a thread of its own.

use std::cell::Cell;
use std::io;

use ringloop::driver::{Completion, Completions, Driver, DriverKind, Key, Op, OpTable, Park};
use uring_tests::forward_driver;
use uring_tests::lab::Lab;
use uring_tests::layer::Scripted;

thread_local! {
    static RECEIVE: Cell<Option<i32>> = const { Cell::new(None) };
    static SEND: Cell<Option<i32>> = const { Cell::new(None) };
    static SENDS: Cell<usize> = const { Cell::new(0) };
    static RECEIVES: Cell<usize> = const { Cell::new(0) };
    static INTERLEAVED: Cell<bool> = const { Cell::new(false) };
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

/// How many receives were armed.
pub fn receives() -> usize {
    RECEIVES.get()
}

/// From now on, what completes in one park comes in turns: the first of each operation, the second of
/// each operation, and so on.
pub fn interleave() {
    INTERLEAVED.set(true);
}

/// A lab on a driver of this kind that can be tampered with.
pub fn lab(kind: DriverKind) -> Lab {
    let inner = Scripted::new(kind, |op| match op {
        Op::RecvMulti { .. } => {
            RECEIVES.set(RECEIVES.get() + 1);
            RECEIVE.take()
        }
        Op::Send { .. } => {
            SENDS.set(SENDS.get() + 1);
            SEND.take()
        }
        _ => None,
    });
    Lab::with_driver(Box::new(Tampered { inner }))
}

struct Tampered<D> {
    inner: D,
}

impl<D: Driver> Driver for Tampered<D> {
    forward_driver!(inner: submit cancel wants_poll now);

    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
        self.inner.park(table, until, out)?;
        if INTERLEAVED.get() {
            in_turns(out);
        }
        Ok(())
    }
}

fn in_turns(out: &mut Completions) {
    let mut seen: Vec<(Key, usize)> = Vec::new();
    let mut turn = |key| match seen.iter_mut().find(|(other, _)| *other == key) {
        Some((_, count)) => {
            *count += 1;
            *count
        }
        None => {
            seen.push((key, 0));
            0
        }
    };
    let mut turns: Vec<(usize, Completion)> = Vec::new();
    for completion in out.drain(..) {
        turns.push((turn(completion.key()), completion));
    }
    // Stable: those of one turn stay in order.
    turns.sort_by_key(|(turn, _)| *turn);
    out.extend(turns.into_iter().map(|(_, completion)| completion));
}
