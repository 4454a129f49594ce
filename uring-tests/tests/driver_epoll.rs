//! What only the epoll driver promises: how few calls it makes, and where it has to take care that
//! io_uring does not.
//!
//! Not on both drivers: it is about one.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use ringloop::driver::epoll::{EpollDriver, EpollOptions};
use ringloop::driver::{DriverKind, Fd, Op, Park};
use uring_tests::drive::{Rig, fd, received, recv, send, tcp_pair};
use uring_tests::run_variant;

fn rig() -> Rig {
    let driver = EpollDriver::new(EpollOptions::default()).expect("epoll is always there");
    Rig::new(Box::new(driver))
}

/// The same file under exactly this number, which no other test may use.
fn renumbered(fd: OwnedFd, number: i32) -> OwnedFd {
    // SAFETY: takes no pointer.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) };
    assert_eq!(duplicate, number, "the number is taken");
    // SAFETY: the descriptor was just made and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(duplicate) }
}

/// Runs a test under the watchdog.
fn watched(name: &str, body: fn(DriverKind)) {
    run_variant(&format!("driver_epoll::{name}"), DriverKind::Epoll, body);
}

#[test]
fn a_message_costs_a_wait_a_receive_and_a_send() {
    watched("a_message_costs_a_wait_a_receive_and_a_send", |_| {
        let mut rig = rig();
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        rig.poll();
        let mut reply = [0; 5];
        let mut echo = |rig: &mut Rig| {
            near.write_all(b"hello").unwrap();
            let event = rig.wait(reads);
            let lease = event.lease.expect("bytes");
            assert_eq!(&*lease, b"hello");
            let sent = rig.submit(Op::Send {
                fd: far.clone(),
                data: uring_tests::drive::gather([lease]),
                inline: true,
                urgent: false,
            });
            // The send is taken whole, so it waits with the driver for the next message.
            near.write_all(b"again").unwrap();
            assert_eq!(rig.park(Park::Forever), 2);
            assert_eq!(rig.try_take(sent).unwrap().result, 5);
            assert_eq!(&*rig.wait(reads).lease.unwrap(), b"again");
            near.read_exact(&mut reply).unwrap();
        };
        echo(&mut rig);
        let before = rig.driver.counters();
        for _ in 0..100 {
            echo(&mut rig);
        }
        let after = rig.driver.counters();
        assert_eq!(after.enters - before.enters, 200);
        assert_eq!(after.submitted - before.submitted, 300);
    });
}

#[test]
fn a_whole_inline_send_alone_does_not_end_the_wait() {
    watched("a_whole_inline_send_alone_does_not_end_the_wait", |_| {
        let mut rig = rig();
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        let sent = rig.submit(send(&far, *b"x", true));
        let unparker = rig.driver.unparker();
        let waits = std::thread::spawn(move || {
            let mut byte = [0];
            near.read_exact(&mut byte).unwrap();
            unparker.unpark();
        });
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.try_take(sent).unwrap().result, 1);
        assert_eq!(rig.driver.counters().enters, 1);
        waits.join().unwrap();
    });
}

#[test]
fn a_number_used_again_starts_anew() {
    watched("a_number_used_again_starts_anew", |_| {
        let mut rig = rig();
        for round in 0..50 {
            let (mut near, far) = UnixStream::pair().unwrap();
            let far = Fd::new(renumbered(far.into(), 900));
            let key = rig.submit(recv(&far, 16));
            rig.poll();
            write!(near, "round {round}").unwrap();
            let event = rig.wait(key);
            assert_eq!(received(&event), format!("round {round}").as_bytes());
        }
    });
}
