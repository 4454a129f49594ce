//! Submission entries that the io-uring crate can not build (cookbook §9).
//!
//! **Guarantees.** The layout is the kernel's `struct io_uring_sqe`, checked at compile time; an
//! entry made here is an ordinary entry of the crate.

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

/// `IORING_OP_RECV`.
const OP_RECV: u8 = 27;
/// `IOSQE_BUFFER_SELECT`.
const BUFFER_SELECT: u8 = 1 << 5;
/// `IORING_RECVSEND_POLL_FIRST`, in `ioprio`.
const POLL_FIRST: u16 = 1 << 0;
/// `IORING_RECV_MULTISHOT`, in `ioprio`.
const RECV_MULTISHOT: u16 = 1 << 1;

/// A receive into buffers of `group`, chosen by the kernel: until it ends if `multishot`, else
/// once. With `poll_first` it does not try before the socket is readable, and so waits for data
/// even while the group is empty, instead of failing with `ENOBUFS` at once. (The crate's
/// `RecvMulti` has no `ioprio`.)
#[inline]
pub fn recv_multi(
    fd: i32,
    group: u16,
    multishot: bool,
    poll_first: bool,
    user_data: u64,
) -> squeue::Entry {
    let sqe = Sqe {
        opcode: OP_RECV,
        flags: BUFFER_SELECT,
        ioprio: if multishot { RECV_MULTISHOT } else { 0 }
            | if poll_first { POLL_FIRST } else { 0 },
        fd,
        off: 0,
        addr: 0,
        len: 0,
        op_flags: 0,
        user_data,
        buf_group: group,
        personality: 0,
        file_index: 0,
        addr3: 0,
        pad: 0,
    };
    // SAFETY: both are the kernel's 64-byte entry, checked above; every bit pattern is valid.
    unsafe { std::mem::transmute(sqe) }
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
    }
}
