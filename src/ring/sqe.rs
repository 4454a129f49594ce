//! Submission entries that are not built by the io-uring crate: what it can not build (cookbook
//! §9), and the sends, which are on every message's way.
//!
//! **Guarantees.** The layout is the kernel's `struct io_uring_sqe`, checked at compile time; an
//! entry made here is an ordinary entry of the crate. Every field is written once, so that the
//! compiler writes it where it belongs, in the queue: the crate's builders zero 64 bytes, write some
//! and copy them all, which costs a stalled load.

use io_uring::squeue;

/// `struct io_uring_sqe`, with the members of its unions that are used here.
#[repr(C)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buf_group: u16,
    personality: u16,
    file_index: u32,
    addr3: u64,
    pad: u64,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Sqe>() == 64 && size_of::<squeue::Entry>() == 64);
    assert!(align_of::<Sqe>() == align_of::<squeue::Entry>());
    assert!(offset_of!(Sqe, ioprio) == 2);
    assert!(offset_of!(Sqe, fd) == 4);
    assert!(offset_of!(Sqe, off) == 8);
    assert!(offset_of!(Sqe, addr) == 16);
    assert!(offset_of!(Sqe, len) == 24);
    assert!(offset_of!(Sqe, op_flags) == 28);
    assert!(offset_of!(Sqe, user_data) == 32);
    assert!(offset_of!(Sqe, buf_group) == 40);
    assert!(offset_of!(Sqe, personality) == 42);
    assert!(offset_of!(Sqe, file_index) == 44);
    assert!(offset_of!(Sqe, addr3) == 48);
};

const NOTHING: Sqe = Sqe {
    opcode: 0,
    flags: 0,
    ioprio: 0,
    fd: -1,
    off: 0,
    addr: 0,
    len: 0,
    op_flags: 0,
    user_data: 0,
    buf_group: 0,
    personality: 0,
    file_index: 0,
    addr3: 0,
    pad: 0,
};

/// `IORING_OP_SENDMSG`, `_SEND`, `_RECV`.
const OP_SENDMSG: u8 = 9;
const OP_SEND: u8 = 26;
const OP_RECV: u8 = 27;
/// `IOSQE_BUFFER_SELECT`.
const BUFFER_SELECT: u8 = 1 << 5;
/// `IOSQE_CQE_SKIP_SUCCESS`.
const SKIP_SUCCESS: u8 = 1 << 6;
/// `IORING_RECVSEND_POLL_FIRST`, in `ioprio`.
const POLL_FIRST: u16 = 1 << 0;
/// `IORING_RECV_MULTISHOT`, in `ioprio`.
const RECV_MULTISHOT: u16 = 1 << 1;

impl Sqe {
    #[inline(always)]
    fn entry(self) -> squeue::Entry {
        // SAFETY: both are the kernel's 64-byte entry, checked above; every bit pattern is valid.
        unsafe { std::mem::transmute(self) }
    }
}

/// A receive into buffers of `group`, chosen by the kernel: until it ends if `multishot`, else
/// once. With `poll_first` it does not try before the socket is readable, and so waits for data
/// even while the group is empty, instead of failing with `ENOBUFS` at once. (The crate's
/// `RecvMulti` has no `ioprio`.)
#[inline(always)]
pub fn recv_multi(
    fd: i32,
    group: u16,
    multishot: bool,
    poll_first: bool,
    user_data: u64,
) -> squeue::Entry {
    let multishot = if multishot { RECV_MULTISHOT } else { 0 };
    let poll_first = if poll_first { POLL_FIRST } else { 0 };
    Sqe {
        opcode: OP_RECV,
        flags: BUFFER_SELECT,
        ioprio: multishot | poll_first,
        fd,
        buf_group: group,
        user_data,
        ..NOTHING
    }
    .entry()
}

/// A send of `len` bytes at `start`; `silent` asks for no completion on success.
#[inline(always)]
pub fn send(
    fd: i32,
    start: *const u8,
    len: u32,
    flags: i32,
    silent: bool,
    user_data: u64,
) -> squeue::Entry {
    Sqe {
        opcode: OP_SEND,
        flags: if silent { SKIP_SUCCESS } else { 0 },
        fd,
        addr: start as u64,
        len,
        op_flags: flags as u32,
        user_data,
        ..NOTHING
    }
    .entry()
}

/// A send of what `header` gathers; `silent` asks for no completion on success.
#[inline(always)]
pub fn sendmsg(
    fd: i32,
    header: *const libc::msghdr,
    flags: i32,
    silent: bool,
    user_data: u64,
) -> squeue::Entry {
    Sqe {
        opcode: OP_SENDMSG,
        flags: if silent { SKIP_SUCCESS } else { 0 },
        fd,
        addr: header as u64,
        len: 1,
        op_flags: flags as u32,
        user_data,
        ..NOTHING
    }
    .entry()
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::{opcode, types};

    fn bytes(entry: &squeue::Entry) -> [u8; 64] {
        // SAFETY: an entry is 64 plain bytes without padding.
        unsafe { std::mem::transmute_copy(entry) }
    }

    #[test]
    fn equals_what_the_crate_builds() {
        let theirs = opcode::RecvMulti::new(types::Fd(7), 3)
            .build()
            .user_data(42);
        assert_eq!(bytes(&recv_multi(7, 3, true, false, 42)), bytes(&theirs));
        let theirs = opcode::Recv::new(types::Fd(7), std::ptr::null_mut(), 0)
            .buf_group(3)
            .ioprio(POLL_FIRST)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(42);
        assert_eq!(bytes(&recv_multi(7, 3, false, true, 42)), bytes(&theirs));

        let start = [0u8; 9].as_ptr();
        let theirs = opcode::Send::new(types::Fd(7), start, 9)
            .flags(libc::MSG_WAITALL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(42);
        let ours = send(7, start, 9, libc::MSG_WAITALL, true, 42);
        assert_eq!(bytes(&ours), bytes(&theirs));
        let header = std::ptr::dangling();
        let theirs = opcode::SendMsg::new(types::Fd(7), header)
            .flags(libc::MSG_WAITALL as u32)
            .build()
            .user_data(42);
        let ours = sendmsg(7, header, libc::MSG_WAITALL, false, 42);
        assert_eq!(bytes(&ours), bytes(&theirs));
    }
}
