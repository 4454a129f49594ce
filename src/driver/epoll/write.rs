//! Sends and connects.
//!
//! **Guarantees.** They take effect in order of submission: what comes behind one that waits waits
//! too, or (inline) reports that the socket takes nothing. Every send is tried at flush; only one
//! that is not inline waits for the socket to take something.

use super::super::{Completion, Fd, Gather, Key, Op};
use super::file::{FileRef, WRITE};
use super::waiters::Waiter;
use super::{EpollDriver, Turn};
use crate::sys::{socket, to_result};
use std::io;
use std::os::fd::AsFd;

/// Sends what the socket takes now.
#[inline]
fn send(fd: &Fd, data: &mut Gather) -> i32 {
    to_result(match data.single() {
        Some(bytes) => socket::send(fd, bytes),
        None => data.send_now(fd.as_fd()),
    })
}

impl EpollDriver {
    #[inline]
    pub(super) fn start_send(&mut self, turn: &mut Turn<'_>, key: Key) {
        let Some(Op::Send {
            fd,
            data,
            inline,
            urgent,
        }) = turn.table.op_mut(key)
        else {
            return;
        };
        turn.ends |= *urgent;
        let result = if self.writing > 0 && self.files.has_writers(fd) {
            -libc::EAGAIN
        } else {
            self.counters.submitted += 1;
            send(fd, data)
        };
        if result == -libc::EAGAIN && !*inline {
            return self.wait_to_write(turn, key);
        }
        let whole = *inline && result >= 0 && result as usize == data.total();
        if whole {
            // If it is urgent, that was noted above.
            turn.hold(Completion::last(key, result));
        } else {
            turn.finish(key, result);
        }
    }

    pub(super) fn start_connect(&mut self, turn: &mut Turn<'_>, key: Key) {
        let Some(Op::Connect { fd, addr }) = turn.table.op_mut(key) else {
            return;
        };
        let is_unix = addr.is_unix();
        let outcome = if self.files.has_writers(fd) {
            Err(io::Error::from_raw_os_error(libc::EALREADY))
        } else {
            self.counters.submitted += 1;
            socket::connect_now(&*fd, &addr.storage, addr.len)
        };
        match to_result(outcome.map(|()| 0)) {
            errno if errno == -libc::EINPROGRESS || errno == -libc::EINTR => {
                self.wait_to_write(turn, key);
            }
            // The listener's backlog is full, and nothing reports when it has room again.
            errno if errno == -libc::EAGAIN && is_unix => self.refused.push(key),
            result => turn.finish(key, result),
        }
    }

    fn wait_to_write(&mut self, turn: &mut Turn<'_>, key: Key) {
        let Some(fd) = turn.table.op_mut(key).and_then(|op| op.fd()) else {
            return;
        };
        let at = self.files.slot(fd);
        if let Err(error) = self.files.watch(&self.epoll, at, WRITE) {
            return turn.finish(key, to_result(Err(error)));
        }
        self.writing += 1;
        self.files[at].push_writer(Waiter {
            key,
            turn: self.turn,
        });
    }

    /// Serves the writers of a descriptor that became writable, or failed.
    pub(super) fn write(&mut self, turn: &mut Turn<'_>, at: FileRef) {
        while let Some(first) = self.files[at].writer() {
            let key = first.key;
            let result = match turn.table.op_mut(key) {
                Some(Op::Send { fd, data, .. }) => {
                    self.counters.submitted += 1;
                    send(fd, data)
                }
                Some(Op::Connect { fd, .. }) => {
                    self.counters.submitted += 1;
                    match socket::option(fd, libc::SOL_SOCKET, libc::SO_ERROR) {
                        Ok(errno) => -errno,
                        Err(error) => to_result(Err(error)),
                    }
                }
                _ => 0,
            };
            if result == -libc::EAGAIN {
                return;
            }
            self.files[at].pop_writer();
            self.writing -= 1;
            turn.finish(key, result);
        }
    }
}
