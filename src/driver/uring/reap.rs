//! Reading the completion queue.
//!
//! **Guarantees.** The common completions become [`Completion`]s at once; what needs the table (to
//! arm again, to take a descriptor back) waits in `later` until the queue has been read and its
//! head published. Nothing here can panic between the two.
//!
//! Whether an operation goes on is said by `F_MORE` alone, whatever the result is (trap T9). What
//! the kernel ended early is armed again:
//!
//! | operation | completion without `F_MORE` | becomes |
//! |---|---|---|
//! | receive | bytes | the bytes, armed again |
//! | receive | `ENOBUFS` | nothing, starved |
//! | receive | 0, another error | final |
//! | accept | a connection | the connection, armed again |
//! | accept | an error | final |
//! | poll | events | the events, armed again |
//! | poll | an error | final |
//!
//! Sends that wait have a file of their own (`send.rs`). One that was cancelled meanwhile is not armed again, it ends with `ECANCELED`.

use super::settle::Beliefs;
use super::tag::{self, Tag};
use super::{Completion, Completions, Later, UringDriver};
use crate::driver::{FLAG_BUFFER, FLAG_FD, FLAG_MORE, Key, Op, OpTable, count_closed};
use std::os::fd::{AsRawFd, IntoRawFd};

/// The bits of a completion's flags that mean the same to the kernel and to [`Completion`].
const SHARED: u32 = 0xffff << 16 | FLAG_BUFFER | FLAG_MORE;

/// `IORING_CQE_F_BUFFER` and `IORING_CQE_F_MORE`.
const _: () = assert!(FLAG_BUFFER == 1 && FLAG_MORE == 2);

/// A descriptor arrived, or an error.
#[inline]
fn descriptor(key: Key, result: i32, more: u32) -> Completion {
    let owns = if result >= 0 { FLAG_FD } else { 0 };
    Completion {
        key,
        result,
        flags: owns | more,
    }
}

impl UringDriver {
    /// Reads the queue until it is empty.
    #[inline]
    pub(super) fn drain(&mut self, beliefs: &mut Beliefs, out: &mut Completions) {
        let Self {
            ring,
            later,
            counters,
            ..
        } = self;
        let completions = ring.completions();
        counters.completed += completions.len() as u64;
        for entry in completions {
            let (bits, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            let key = tag::key(bits);
            // On every message's way: bytes of a receive that goes on.
            const DATA: u32 = FLAG_BUFFER | FLAG_MORE;
            if flags & DATA == DATA && result > 0 && tag::is_receive(bits) {
                out.push(Completion {
                    key,
                    result,
                    flags: flags & SHARED,
                });
                continue;
            }
            let more = flags & FLAG_MORE;
            match tag::tag(bits) {
                Some(Tag::Plain) if result != -libc::EINTR => {
                    out.push(Completion::last(key, result))
                }
                Some(Tag::Send) => beliefs.correct(out, key, result),
                Some(Tag::Descriptor) if result >= 0 => out.push(descriptor(key, result, 0)),
                Some(Tag::Accept) if more != 0 && result >= 0 => {
                    out.push(descriptor(key, result, FLAG_MORE));
                }
                Some(Tag::Poll) if more != 0 => out.push(Completion::more(key, result)),
                None if bits == tag::IGNORED => {}
                _ => later.push(Later {
                    bits,
                    result,
                    flags,
                }),
            }
        }
    }

    /// What the queue said that needs the table.
    #[cold]
    pub(super) fn finish(&mut self, table: &mut OpTable, out: &mut Completions) {
        let mut later = std::mem::take(&mut self.later);
        let mut starved = 0;
        for Later {
            bits,
            result,
            flags,
        } in later.drain(..)
        {
            let key = tag::key(bits);
            match tag::tag(bits) {
                Some(Tag::Receive | Tag::ReceiveOnce) => {
                    starved += usize::from(self.received(key, result, flags, table, out));
                }
                Some(Tag::Accept | Tag::AcceptOnce) if result >= 0 => {
                    out.push(descriptor(key, result, FLAG_MORE));
                    if flags & FLAG_MORE == 0 {
                        self.arm_again(key, false, table, out);
                    }
                }
                Some(Tag::Poll) if result >= 0 => {
                    out.push(Completion::more(key, result));
                    self.arm_again(key, false, table, out);
                }
                Some(Tag::Accept | Tag::AcceptOnce | Tag::Poll) if flags & FLAG_MORE != 0 => {}
                Some(Tag::Try) => self.tried(key, result, table, out),
                Some(Tag::Watch) => self.watched(key, result, flags, table, out),
                Some(Tag::Close) => {
                    closed(key, result, table);
                    out.push(Completion::last(key, result));
                }
                // A worker thread tried a listener in non-blocking mode, after others had been faster
                // many times.
                Some(Tag::Descriptor | Tag::AcceptOnce)
                    if result == -libc::EAGAIN
                        && matches!(
                            table.op_mut(key),
                            Some(Op::Accept { .. } | Op::AcceptMulti { .. })
                        ) =>
                {
                    self.arm_again(key, false, table, out);
                }
                // So a cancel ends what had gone to a worker thread.
                Some(_) if result == -libc::EINTR && self.slots.armable(key).is_none() => {
                    out.push(Completion::last(key, -libc::ECANCELED));
                }
                Some(_) => out.push(Completion::last(key, result)),
                None if bits == tag::WAKE => self.woken(result, flags),
                None => {}
            }
        }
        // The vector's memory is kept.
        self.later = later;
        if starved > 0 {
            self.starve(starved, table, out);
        }
    }

    /// An unusual completion of a receive; whether it starves.
    fn received(
        &mut self,
        key: Key,
        result: i32,
        flags: u32,
        table: &mut OpTable,
        out: &mut Completions,
    ) -> bool {
        let more = flags & FLAG_MORE != 0;
        if flags & FLAG_BUFFER != 0 {
            let flags = flags & SHARED | FLAG_MORE;
            if result > 0 {
                out.push(Completion { key, result, flags });
            } else {
                // Trap T19: an error may carry a buffer all the same. The pool knows whether it is
                // the kernel's; if so, it goes back by being dropped.
                drop(self.pool.claim(flags, 0));
            }
        }
        match result {
            _ if more => {}
            1.. => self.arm_again(key, false, table, out),
            // Kernels up to 6.4 end a cancelled receive so.
            _ if result == -libc::ENOBUFS => {
                if self.slots.armable(key).is_some() {
                    self.starved.push_back(key);
                    return true;
                }
                out.push(Completion::last(key, -libc::ECANCELED));
            }
            _ => out.push(Completion::last(key, result)),
        }
        false
    }

    /// Arms an operation that the kernel ended but that goes on.
    pub(super) fn arm_again(
        &mut self,
        key: Key,
        poll_first: bool,
        table: &mut OpTable,
        out: &mut Completions,
    ) {
        let Some(tag) = self.slots.armable(key) else {
            out.push(Completion::last(key, -libc::ECANCELED));
            return;
        };
        let Some(op) = table.op_mut(key) else {
            return;
        };
        match (tag, &*op) {
            (Tag::Receive | Tag::ReceiveOnce, Op::RecvMulti { fd }) => {
                self.push_receive(key, fd.as_raw_fd(), tag, poll_first);
            }
            (Tag::Accept | Tag::AcceptOnce | Tag::Descriptor, op) => self.push_accept(key, op, tag),
            (_, op) => self.push_poll(key, op),
        }
        if !matches!(tag, Tag::ReceiveOnce | Tag::AcceptOnce | Tag::Descriptor) {
            self.counters.rearmed += 1;
        }
    }

    /// The poll of the wake descriptor completed.
    fn woken(&mut self, result: i32, flags: u32) {
        self.wake.seen();
        if flags & FLAG_MORE != 0 {
            return;
        }
        match result {
            // Ended early: the queue was full.
            0.. => self.push_wake(),
            // Nobody could wake the loop any more.
            _ => self.broken = Some(-result),
        }
    }
}

/// The kernel closed the descriptor (whatever it answered), or a cancel came first: then it is
/// closed here, by dropping it.
fn closed(key: Key, result: i32, table: &mut OpTable) {
    if let Some(Op::Close { fd }) = table.op_mut(key)
        && let Some(fd) = fd.take()
    {
        if result == -libc::ECANCELED {
            drop(fd);
        } else {
            let _ = fd.into_raw_fd();
        }
        count_closed();
    }
}
