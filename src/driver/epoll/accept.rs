//! Accepts, one-shot and multishot.
//!
//! **Guarantees.** A multishot accept takes at most [`BATCH`] connections in one park; the rest of
//! the backlog is taken in the next one, which does not sleep. An error ends it; the connection that
//! could not be had (EMFILE and its like) stays in the backlog, and the next accept tries at once.

use super::super::{Completion, Key, Op};
use super::receive::Step;
use super::{EpollDriver, Turn};
use crate::sys::{socket, to_result};

/// Connections that one listener may bring in one park.
const BATCH: usize = 64;

impl EpollDriver {
    pub(super) fn accept(&mut self, turn: &mut Turn<'_>, key: Key) -> Step {
        let Some(Op::Accept { fd }) = turn.table.op_mut(key) else {
            return Step::Done;
        };
        self.counters.submitted += 1;
        match socket::accept(fd) {
            Ok(connection) => turn.complete(Completion::descriptor(key, connection, false)),
            Err(error) => match to_result(Err(error)) {
                errno if errno == -libc::EAGAIN => return Step::Blocked,
                errno => turn.finish(key, errno),
            },
        }
        Step::Done
    }

    pub(super) fn accept_multi(&mut self, turn: &mut Turn<'_>, key: Key) -> Step {
        let Some(Op::AcceptMulti { fd }) = turn.table.op_mut(key) else {
            return Step::Done;
        };
        for _ in 0..BATCH {
            self.counters.submitted += 1;
            match socket::accept(&*fd) {
                Ok(connection) => {
                    turn.out.push(Completion::descriptor(key, connection, true));
                    turn.ends = true;
                }
                Err(error) => match to_result(Err(error)) {
                    errno if errno == -libc::EAGAIN => return Step::Blocked,
                    errno => {
                        turn.finish(key, errno);
                        return Step::Done;
                    }
                },
            }
        }
        Step::Again
    }
}
