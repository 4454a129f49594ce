//! The kept, edge-triggered registration: what it saves, and that no edge is lost by it.
//!
//! Not on both drivers: it is about one.

use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::{Op, Park};
use uring_tests::drive::{Rig, fd, gather, recv, tcp_pair};
use uring_tests::with_rig;

use super::{message_pair, renumbered};

/// Reads with one-shot receives until `len` bytes came.
fn read_in_turn(rig: &mut Rig, fd: &ringloop::driver::Fd, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let key = rig.submit(recv(fd, 4096));
        let event = rig.wait(key);
        let Some(Op::Recv { buf, .. }) = event.op else {
            panic!("not a receive");
        };
        assert!(event.result > 0, "{}", event.result);
        bytes.extend_from_slice(&buf[..event.result as usize]);
    }
    bytes
}

with_rig! { Epoll:
    fn a_message_costs_a_wait_a_receive_and_a_send(rig = EpollOptions::default()) {
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        rig.settle();
        let mut echo = |rig: &mut Rig, message: &[u8]| {
            near.write_all(message).unwrap();
            rig.park(Park::Forever);
            let lease = rig.try_take(reads).unwrap().lease.unwrap();
            rig.submit(Op::Send {
                fd: far.clone(),
                data: gather([lease]),
                inline: true,
                urgent: false,
            });
        };
        echo(rig, b"first");
        let before = rig.driver().counters();
        for _ in 0..100 {
            echo(rig, b"hello");
        }
        let after = rig.driver().counters();
        assert_eq!(after.enters - before.enters, 100);
        assert_eq!(after.submitted - before.submitted, 200);
        rig.settle();
        let mut replies = [0; 505];
        near.read_exact(&mut replies).unwrap();
        assert!(replies.starts_with(b"firsthellohello"));
    }

    fn one_shot_receives_try_nothing_in_vain(rig = EpollOptions::default()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        for round in 0..20 {
            let key = rig.submit(recv(&far, 64));
            rig.settle();
            near.write_all(b"x").unwrap();
            assert_eq!(rig.result(key), 1);
            assert_eq!(rig.driver().counters().submitted, round + 1);
        }
    }

    fn a_number_used_again_starts_anew(rig = EpollOptions::default()) {
        for round in 0..50 {
            let (mut near, far) = UnixStream::pair().unwrap();
            let far = fd(renumbered(&far, 900));
            let key = rig.submit(recv(&far, 16));
            rig.settle();
            write!(near, "round {round}").unwrap();
            assert!(rig.result(key) >= 7);
        }
    }

    /// A duplicate keeps the old registration alive under the old number.
    fn edges_of_the_number_s_last_owner_are_ignored(rig = EpollOptions::default()) {
        let (mut old_near, old_far) = UnixStream::pair().unwrap();
        let old = fd(renumbered(&old_far, 901));
        let key = rig.submit(recv(&old, 16));
        rig.settle();
        old_near.write_all(b"old").unwrap();
        assert_eq!(rig.result(key), 3);
        drop(old);
        let (mut near, far) = UnixStream::pair().unwrap();
        let new = fd(renumbered(&far, 901));
        let key = rig.submit(recv(&new, 16));
        rig.settle();
        old_near.write_all(b"nobody reads this").unwrap();
        rig.settle();
        assert_eq!(rig.driver().counters().stale, 1);
        near.write_all(b"new!").unwrap();
        assert_eq!(rig.result(key), 4);
    }

    /// A duplicate moved back to the old number is the same file: its registration is there already.
    fn a_number_that_came_back_with_the_same_file_is_taken_over(rig = EpollOptions::default()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        for message in [&b"one"[..], b"three", b"nine chars"] {
            let again = fd(renumbered(&far, 902));
            let key = rig.submit(recv(&again, 16));
            rig.settle();
            near.write_all(message).unwrap();
            assert_eq!(rig.result(key), message.len() as i32);
        }
    }

    fn urgent_data_does_not_hide_what_comes_behind_it(rig = EpollOptions::default()) {
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        rig.settle();
        near.write_all(b"before").unwrap();
        // SAFETY: the call reads one byte.
        let sent = unsafe { libc::send(near.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
        assert_eq!(sent, 1);
        near.write_all(b"after").unwrap();
        // The urgent byte itself is not in line.
        assert_eq!(rig.receive(reads, 11), b"beforeafter");
    }

    fn control_data_does_not_hide_what_comes_behind_it(rig = EpollOptions::default()) {
        let (near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        rig.settle();
        send_descriptor(&near, b"with");
        (&near).write_all(b"without").unwrap();
        assert_eq!(rig.receive(reads, 11), b"withwithout");
        rig.cancel(reads);
        assert_eq!(rig.wait(reads).result, -libc::ECANCELED);
        send_descriptor(&near, b"again");
        (&near).write_all(b" and once more").unwrap();
        assert_eq!(read_in_turn(rig, &far, 19), b"again and once more");
    }

    fn messages_are_read_until_there_are_none(rig = EpollOptions::default()) {
        let (near, far) = message_pair();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        rig.settle();
        let near = std::fs::File::from(near);
        for _ in 0..100 {
            assert_eq!((&near).write(b"message").unwrap(), 7);
        }
        // 32 in one park; the next one does not sleep, and goes on.
        for expected in [32, 32, 32, 4] {
            assert_eq!(rig.park(Park::Forever), expected);
        }
        let bytes = rig.receive(reads, 700);
        assert!(bytes.chunks(7).all(|message| message == b"message"));
    }

    fn a_paused_peer_wakes_nobody(rig = EpollOptions::default()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        rig.settle();
        rig.cancel(reads);
        assert_eq!(rig.wait(reads).result, -libc::ECANCELED);
        for _ in 0..2 {
            near.write_all(b"edge").unwrap();
            rig.settle();
        }
        // The second edge that nobody claimed cost the interest: this one is not even reported.
        near.write_all(b"edge").unwrap();
        let before = rig.driver().counters().enters;
        assert_eq!(rig.park(Park::Until(rig.driver().now() + 1_000_000)), 0);
        assert_eq!(rig.driver().counters().enters - before, 1);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        assert_eq!(rig.receive(reads, 12), b"edgeedgeedge");
        near.write_all(b"and the interest is back").unwrap();
        assert_eq!(rig.receive(reads, 24), b"and the interest is back");
        drop(near);
        assert_eq!(rig.result(reads), 0);
    }

    fn a_reader_that_takes_less_than_there_is_needs_no_edge_for_the_rest(rig = EpollOptions::default()) {
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        near.write_all(b"0123456789").unwrap();
        for _ in 0..3 {
            let key = rig.submit(recv(&far, 3));
            assert_eq!(rig.result(key), 3);
        }
        drop(near);
        let key = rig.submit(recv(&far, 3));
        assert_eq!(rig.result(key), 1);
        for _ in 0..2 {
            let key = rig.submit(recv(&far, 3));
            assert_eq!(rig.result(key), 0);
        }
    }
}

fn send_descriptor(near: &UnixStream, bytes: &[u8]) {
    #[repr(C, align(8))]
    struct Control {
        header: libc::cmsghdr,
        fd: i32,
    }
    let mut control = Control {
        header: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<i32>(),
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        fd: near.as_raw_fd(),
    };
    let slice = IoSlice::new(bytes);
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = (&raw const slice).cast_mut().cast();
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: slice, control data and message live and are only read during the call.
    let sent = unsafe { libc::sendmsg(near.as_raw_fd(), &raw const message, 0) };
    assert_eq!(sent, bytes.len() as isize);
}
