//! Receives, one-shot and multishot, and the queue they share with accepts.
//!
//! **Guarantees.** Receives of one descriptor are served in order of submission. A multishot receive
//! takes at most [`CHUNKS`] buffers in one park, so that one busy peer does not starve the others;
//! the rest is taken in the next park, which does not sleep. A receive that finds no buffer is
//! parked, counted, and served first when one is back.
//!
//! When a read returned less than there was room for, the socket is drained, except
//! * when the edge told of urgent data, which ends a read early, or of an end or error, which is
//!   still to be read;
//! * on a Unix socket, when control data came with the bytes, which ends a read early too;
//! * on sockets that keep message boundaries, or whose rules are not known here.

use super::super::fd::SocketKind;
use super::super::pool::BUFFER_SIZE;
use super::super::{Completion, Fd, Key, Op};
use super::file::{FileRef, READ};
use super::waiters::Waiter;
use super::{EpollDriver, Turn};
use crate::sys::{socket, to_result};
use std::io;

/// Buffers that one descriptor may fill in one park.
pub(super) const CHUNKS: usize = 32;

/// How an attempt to serve the first reader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It completed: the next one's turn.
    Done,
    /// Nothing more is there.
    Blocked,
    /// More may be there, but others want their turn.
    Again,
    /// More is there, but no buffer.
    Starved,
}

/// What one receive brought.
struct Took {
    result: i32,
    drained: bool,
}

#[inline]
fn take(fd: &Fd, kind: Option<SocketKind>, exhaust: bool, bytes: &mut [u8]) -> Took {
    let (result, may_be_drained) = if kind == Some(SocketKind::UnixStream) {
        match socket::recv_with_control(fd, bytes) {
            Ok((count, control)) => (to_result(Ok(count)), !control),
            Err(error) => (to_result(Err(error)), true),
        }
    } else {
        (
            to_result(socket::recv(fd, bytes)),
            kind == Some(SocketKind::Tcp),
        )
    };
    let short = result > 0 && (result as usize) < bytes.len();
    Took {
        result,
        drained: result == -libc::EAGAIN || (short && may_be_drained && !exhaust),
    }
}

impl EpollDriver {
    /// Starts a receive or an accept.
    #[inline]
    pub(super) fn start_read(&mut self, turn: &mut Turn<'_>, key: Key) {
        let at = match self.reader_slot(turn, key) {
            Ok(at) => at,
            Err(error) => return turn.finish(key, to_result(Err(error))),
        };
        let file = &mut self.files[at];
        let first = file.reader().is_none();
        file.push_reader(Waiter {
            key,
            turn: self.turn,
        });
        if first && self.files[at].readable {
            self.read(turn, at);
        }
    }

    /// The slot of the descriptor, ready for a reader.
    #[inline]
    fn reader_slot(&mut self, turn: &mut Turn<'_>, key: Key) -> io::Result<FileRef> {
        let Some(op) = turn.table.op_mut(key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Some(fd) = op.fd() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let at = self.files.slot(fd);
        // From now on it is known.
        fd.kind()?;
        let file = &mut self.files[at];
        if matches!(op, Op::Accept { .. } | Op::AcceptMulti { .. }) {
            if !file.nonblocking {
                socket::set_nonblocking(fd, true)?;
                file.nonblocking = true;
                // The first accept is tried at once: it tells whether this is a listener.
                file.readable = true;
            }
        } else if matches!(op, Op::Recv { buf, .. } if buf.is_empty()) {
            // Nothing to wait for.
            file.readable = true;
        }
        self.files.watch(&self.epoll, at, READ)?;
        Ok(at)
    }

    /// Serves the readers of a descriptor while there is something to read; how that ended.
    #[inline]
    pub(super) fn read(&mut self, turn: &mut Turn<'_>, at: FileRef) -> Step {
        loop {
            let file = &self.files[at];
            let Some(first) = file.reader() else {
                return Step::Done;
            };
            if !file.readable {
                return Step::Blocked;
            }
            let step = self.recv_multi(turn, at, first.key);
            let file = &mut self.files[at];
            match step {
                Step::Done => file.pop_reader(),
                Step::Blocked => {
                    file.set_drained();
                    return step;
                }
                Step::Again => {
                    if !file.queued {
                        file.queued = true;
                        self.again.push(at);
                    }
                    return step;
                }
                Step::Starved => {
                    if !file.starved {
                        file.starved = true;
                        self.starving.push_back(at);
                        self.counters.parked_receives += 1;
                    }
                    return step;
                }
            }
        }
    }

    /// Serves a reader that is no multishot receive.
    fn read_other(&mut self, turn: &mut Turn<'_>, at: FileRef, key: Key) -> Step {
        match turn.table.op_mut(key) {
            Some(Op::Recv { .. }) => self.recv(turn, at, key),
            Some(Op::Accept { .. }) => self.accept(turn, key),
            Some(Op::AcceptMulti { .. }) => self.accept_multi(turn, key),
            _ => Step::Done,
        }
    }

    fn recv(&mut self, turn: &mut Turn<'_>, at: FileRef, key: Key) -> Step {
        let Some(Op::Recv { fd, buf }) = turn.table.op_mut(key) else {
            return Step::Done;
        };
        let file = &mut self.files[at];
        let took = take(fd, fd.kind().ok(), file.exhaust, buf);
        self.counters.submitted += 1;
        if took.drained {
            file.set_drained();
        }
        if took.result == -libc::EAGAIN {
            return Step::Blocked;
        }
        turn.finish(key, took.result);
        Step::Done
    }

    #[inline]
    fn recv_multi(&mut self, turn: &mut Turn<'_>, at: FileRef, key: Key) -> Step {
        let Some(Op::RecvMulti { fd }) = turn.table.op_mut(key) else {
            return self.read_other(turn, at, key);
        };
        let kind = fd.kind().ok();
        let exhaust = self.files[at].exhaust;
        for _ in 0..CHUNKS {
            let mut drained = false;
            let filled = self.pool.fill(|bytes| {
                let took = take(fd, kind, exhaust, bytes);
                drained = took.drained;
                took.result as isize
            });
            let Some((id, count)) = filled else {
                return Step::Starved;
            };
            self.counters.submitted += 1;
            let result = count as i32;
            if result > 0 {
                debug_assert!(result as usize <= BUFFER_SIZE);
                turn.out.push(Completion::received(key, id, result));
                turn.ends = true;
            } else if !drained {
                // The end of the stream, or an error.
                turn.out.push(Completion::last(key, result));
                turn.ends = true;
                return Step::Done;
            }
            if drained {
                return Step::Blocked;
            }
        }
        Step::Again
    }

    /// Serves the receives that found no buffer, in turn, as far as buffers go.
    #[cold]
    pub(super) fn feed(&mut self, turn: &mut Turn<'_>) {
        // From now on a buffer given back by another thread wakes us; then look what is back.
        self.pool.set_starving(true);
        self.pool.collect();
        while let Some(at) = self.starving.front().copied() {
            if self.files.get_mut(at).is_some() && self.read(turn, at) == Step::Starved {
                return;
            }
            if let Some(file) = self.files.get_mut(at) {
                file.starved = false;
            }
            self.starving.pop_front();
        }
        self.pool.set_starving(false);
    }
}
