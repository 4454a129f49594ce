//! From an operation to its submission entry.
//!
//! **Guarantees.** Everything an entry points to (bytes, vectors, message header, address, path)
//! stands on the heap, owned by the operation, which stands in the op table until its final
//! completion: that is the promise [`Ring::push`](crate::ring::Ring::push) asks for.
//!
//! Descriptors made by the kernel are close-on-exec. Accepts pass no address: a multishot one
//! would overwrite it with each connection.

use super::tag::{self, Tag};
use super::{GROUP, MAX_TRANSFER, UringDriver};
use crate::driver::{FilePart, Key, Op};
use crate::ring;
use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use std::os::fd::AsRawFd;

#[inline]
pub(super) fn length(bytes: &[u8]) -> u32 {
    bytes.len().min(MAX_TRANSFER) as u32
}

impl UringDriver {
    /// Builds the entry of `op` and pushes it.
    #[inline(never)]
    pub(super) fn push_op(&mut self, key: Key, op: &mut Op) {
        let (entry, tag) = match op {
            Op::RecvMulti { fd } => {
                // Trap T23: a multishot receive of a Unix socket may miss the end of the stream
                // when it comes on the heels of data.
                let tag = match self.multishot_receive && !fd.is_unix() {
                    true => Tag::Receive,
                    false => Tag::ReceiveOnce,
                };
                self.slots.set(key, tag);
                self.push_receive(key, fd.as_raw_fd(), tag, false);
                return;
            }
            Op::AcceptMulti { .. } => {
                let tag = match self.multishot_accept {
                    true => Tag::Accept,
                    false => Tag::AcceptOnce,
                };
                self.slots.set(key, tag);
                self.push_accept(key, op, tag);
                return;
            }
            Op::PollMulti { .. } => {
                self.slots.set(key, Tag::Poll);
                self.push_poll(key, op);
                return;
            }
            _ => match rare(op) {
                Ok(built) => built,
                Err(errno) => {
                    self.done.push(super::Completion::last(key, -errno));
                    return;
                }
            },
        };
        self.slots.set(key, tag);
        let entry = entry.user_data(tag::bits(key, tag));
        self.push(|| entry.clone());
    }

    #[inline]
    pub(super) fn push_receive(&mut self, key: Key, fd: i32, tag: Tag, poll_first: bool) {
        let multishot = tag == Tag::Receive;
        let bits = tag::bits(key, tag);
        self.push(|| ring::recv_multi(fd, GROUP, multishot, poll_first, bits));
    }

    pub(super) fn push_accept(&mut self, key: Key, op: &Op, tag: Tag) {
        let Some(fd) = op.fd() else { return };
        let fd = types::Fd(fd.as_raw_fd());
        let entry = match tag {
            Tag::Accept => opcode::AcceptMulti::new(fd)
                .flags(libc::SOCK_CLOEXEC)
                .build(),
            _ => accept(fd),
        };
        let entry = entry.user_data(tag::bits(key, tag));
        self.push(|| entry.clone());
    }

    pub(super) fn push_poll(&mut self, key: Key, op: &Op) {
        let Op::PollMulti { fd, events } = op else {
            return;
        };
        let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), *events)
            .multi(true)
            .build();
        let entry = entry.user_data(tag::bits(key, Tag::Poll));
        self.push(|| entry.clone());
    }
}

fn accept(fd: types::Fd) -> Entry {
    opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
        .flags(libc::SOCK_CLOEXEC)
        .build()
}

/// Operations that are not on a message's way. `Err` is an errno to complete with.
#[inline(never)]
fn rare(op: &mut Op) -> Result<(Entry, Tag), i32> {
    let fd = types::Fd(op.fd().map_or(-1, AsRawFd::as_raw_fd));
    let entry = match op {
        Op::Nop => opcode::Nop::new().build(),
        Op::Accept { .. } => return Ok((accept(fd), Tag::Descriptor)),
        Op::Connect { addr, .. } => opcode::Connect::new(fd, addr.as_ptr(), addr.len).build(),
        Op::Recv { buf, .. } => opcode::Recv::new(fd, buf.as_mut_ptr(), length(buf)).build(),
        Op::Poll { events, .. } => opcode::PollAdd::new(fd, *events).build(),
        Op::Close { fd } => {
            let Some(fd) = fd else {
                return Err(libc::EBADF);
            };
            // Trap T3: this ends nothing that is armed on the same file, and the peer hears of no
            // end while something is. Such operations hold an `Fd`; here nobody else does.
            let fd = types::Fd(fd.as_raw_fd());
            return Ok((opcode::Close::new(fd).build(), Tag::Close));
        }
        Op::OpenAt { path, flags, mode } => {
            let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
                .flags(*flags | libc::O_CLOEXEC)
                .mode(u32::from(*mode))
                .build();
            return Ok((entry, Tag::Descriptor));
        }
        // Above, an offset means the file's own position to io_uring, and nothing to pread(2).
        Op::ReadAt { part, .. } | Op::WriteAt { part, .. } if part.offset > i64::MAX as u64 => {
            return Err(libc::EINVAL);
        }
        Op::ReadAt { part, .. } => {
            let FilePart { buf, offset } = &mut **part;
            opcode::Read::new(fd, buf.as_mut_ptr(), length(buf))
                .offset(*offset)
                .build()
        }
        Op::WriteAt { part, .. } => {
            let FilePart { buf, offset } = &**part;
            opcode::Write::new(fd, buf.as_ptr(), length(buf))
                .offset(*offset)
                .build()
        }
        Op::Fsync { data_only, .. } => opcode::Fsync::new(fd)
            .flags(match data_only {
                true => types::FsyncFlags::DATASYNC,
                false => types::FsyncFlags::empty(),
            })
            .build(),
        Op::Send { .. }
        | Op::RecvMulti { .. }
        | Op::AcceptMulti { .. }
        | Op::PollMulti { .. }
        | Op::Shutdown { .. } => unreachable!("built by its own path"),
    };
    Ok((entry, Tag::Plain))
}
