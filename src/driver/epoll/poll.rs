//! Polls, one-shot and multishot.
//!
//! **Guarantees.** What is ready when the poll is started completes in that park (a multishot one that
//! is cancelled in the same flush reports nothing). A multishot poll then reports every edge, as
//! io_uring does; an edge of the other direction may repeat events that still hold. Files that epoll refuses (regular ones) are always ready, as poll(2) has it: a poll
//! of either kind completes once with what it asked for, and with `-EINVAL` when that can not
//! come.

use super::super::{Completion, Key, Op};
use super::file::FileRef;
use super::waiters::Waiter;
use super::{EpollDriver, Turn};
use crate::sys::{socket, to_result};

/// Reported whether asked for or not.
const ALWAYS: u32 = (libc::POLLERR | libc::POLLHUP) as u32;
/// What can be asked for; the same bits in poll(2) and epoll.
const EVENTS: u32 = (libc::POLLIN
    | libc::POLLPRI
    | libc::POLLOUT
    | libc::POLLRDNORM
    | libc::POLLRDBAND
    | libc::POLLWRNORM
    | libc::POLLWRBAND
    | libc::POLLRDHUP) as u32;

/// What a file without a poll method of its own is always ready for.
const READY: u32 = (libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM) as u32;

impl EpollDriver {
    pub(super) fn start_poll(&mut self, turn: &mut Turn<'_>, key: Key) {
        let Some(op) = turn.table.op_mut(key) else {
            return;
        };
        let multi = matches!(op, Op::PollMulti { .. });
        let (Op::Poll { fd, events } | Op::PollMulti { fd, events }) = op else {
            return;
        };
        let events = *events & EVENTS;
        let at = self.files.slot(fd);
        self.counters.submitted += 1;
        if !multi {
            match socket::poll_now(&*fd, events) {
                Ok(0) => {}
                outcome => return turn.finish(key, to_result(outcome.map(|mask| mask as usize))),
            }
        }
        let watched = self.files.watch(&self.epoll, at, events | ALWAYS);
        let watched = match watched {
            // What is ready already is to be reported to a multishot poll, too.
            Ok(false) if multi => self.files.report_again(&self.epoll, at),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match watched {
            Ok(()) => self.files[at].push_poll(Waiter {
                key,
                turn: self.turn,
            }),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let always = (events & READY).cast_signed();
                turn.finish(key, if always == 0 { -libc::EINVAL } else { always });
            }
            Err(error) => turn.finish(key, to_result(Err(error))),
        }
    }

    /// Tells the polls of a descriptor what happened.
    pub(super) fn polled(&mut self, turn: &mut Turn<'_>, at: FileRef, mask: u32) {
        self.files[at].retain_polls(|poll| {
            let (events, multi) = match turn.table.op_mut(poll.key) {
                Some(Op::Poll { events, .. }) => (*events, false),
                Some(Op::PollMulti { events, .. }) => (*events, true),
                _ => return false,
            };
            let told = mask & (events | ALWAYS);
            if told == 0 {
                return true;
            }
            turn.complete(if multi {
                Completion::more(poll.key, told as i32)
            } else {
                Completion::last(poll.key, told as i32)
            });
            multi
        });
    }
}
