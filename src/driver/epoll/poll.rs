//! Polls, one-shot and multishot.
//!
//! **Guarantees.** What is ready when the poll is started completes in that park. A multishot poll
//! then reports every edge, as io_uring does; an edge of the other direction may repeat events that
//! still hold. Files that epoll refuses (regular ones) are always ready, as poll(2) has it: a poll
//! of either kind completes once with what it asked for, and with `-EINVAL` when that can not
//! come.

use super::super::{Completion, Key, Op};
use super::file::FileRef;
use super::waiters::{Waiter, Wants};
use super::{EpollDriver, Turn};
use crate::sys::{socket, to_result};
use std::io;

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

impl EpollDriver {
    pub(super) fn start_poll(&mut self, turn: &mut Turn<'_>, key: Key, wants: Wants) {
        let Some(Op::Poll { fd, events } | Op::PollMulti { fd, events }) = turn.table.op_mut(key)
        else {
            return;
        };
        let events = *events & EVENTS;
        let at = self.files.slot(fd);
        let multi = wants == Wants::PollMulti;
        self.counters.submitted += 1;
        let ready = match socket::poll_now(&*fd, events) {
            Ok(mask) => mask,
            Err(error) => return turn.finish(key, to_result(Err(error))),
        };
        if ready != 0 && !multi {
            return turn.finish(key, ready as i32);
        }
        let watched = self.files.watch(&self.epoll, at, events | ALWAYS);
        let reported = match watched {
            Ok(reported) => reported,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let result = if ready == 0 {
                    -libc::EINVAL
                } else {
                    ready as i32
                };
                return turn.finish(key, result);
            }
            Err(error) => return turn.finish(key, to_result(Err::<usize, io::Error>(error))),
        };
        self.files[at].polls.push(Waiter {
            key,
            turn: self.turn,
            wants,
        });
        if ready != 0 && !reported {
            turn.complete(Completion::more(key, ready as i32));
        }
    }

    /// Tells the polls of a descriptor what happened.
    pub(super) fn polled(&mut self, turn: &mut Turn<'_>, at: FileRef, mask: u32) {
        self.files[at].polls.retain(|poll| {
            let Some(Op::Poll { events, .. } | Op::PollMulti { events, .. }) =
                turn.table.op_mut(poll.key)
            else {
                return false;
            };
            let told = mask & (*events | ALWAYS);
            if told == 0 {
                return true;
            }
            let multi = poll.wants == Wants::PollMulti;
            turn.complete(if multi {
                Completion::more(poll.key, told as i32)
            } else {
                Completion::last(poll.key, told as i32)
            });
            multi
        });
    }

    /// Looks again at a poll that is about to be cancelled in the flush that started it.
    pub(super) fn poll_again(&mut self, turn: &mut Turn<'_>, at: FileRef, key: Key) {
        let Some(Op::Poll { fd, events } | Op::PollMulti { fd, events }) = turn.table.op_mut(key)
        else {
            return;
        };
        self.counters.submitted += 1;
        if let Ok(mask) = socket::poll_now(&*fd, *events & EVENTS)
            && mask != 0
        {
            self.polled(turn, at, mask);
        }
    }
}
