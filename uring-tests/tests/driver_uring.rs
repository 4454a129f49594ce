//! What only the io_uring driver promises: its rungs, its queues, its settling, its buffers.
//!
//! Not on both drivers: it is about one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use ringloop::driver::uring::{UringDriver, UringOptions};
use ringloop::driver::{DriverKind, Lease, Op};
use uring_tests::drive::{Rig, fd, received, recv, send, tcp_pair};
use uring_tests::run_variant;

fn rig(options: UringOptions) -> Rig {
    let driver = UringDriver::new(options).expect("io_uring is allowed here");
    Rig::new(Box::new(driver))
}

/// Runs a test under the watchdog; where io_uring is blocked, it proves the refusal instead.
fn watched(name: &str, body: fn(DriverKind)) {
    run_variant(&format!("driver_uring::{name}"), DriverKind::Uring, body);
}

/// Bytes in which a missing, doubled or swapped one shows.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Everything a multishot receive brings until it has brought `len` bytes.
fn collect(rig: &mut Rig, key: ringloop::driver::Key, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let event = rig.wait(key);
        assert!(event.more, "ended with {}", event.result);
        bytes.extend_from_slice(event.lease.as_ref().map_or(&[], Lease::as_ref));
    }
    bytes
}

/// Sends, receives and ends on every kind of socket: what every rung must be able to do.
fn exercise(rig: &mut Rig) {
    let (mut peer, ours) = tcp_pair().unwrap();
    let socket = fd(ours);
    for inline in [true, false] {
        let sent = rig.submit(send(&socket, *b"hello", inline));
        rig.poll();
        assert_eq!(rig.wait(sent).result, 5);
        let mut buf = [0; 5];
        peer.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello");
    }
    peer.write_all(b"world").unwrap();
    let event = rig.run(recv(&socket, 16));
    assert_eq!(received(&event), b"world");
    let key = rig.submit(Op::RecvMulti { fd: socket });
    let bytes = pattern(100_000);
    peer.write_all(&bytes).unwrap();
    assert!(collect(rig, key, bytes.len()) == bytes);
    drop(peer);
    let end = rig.wait(key);
    assert_eq!((end.result, end.more), (0, false));

    let (mut peer, ours) = UnixStream::pair().unwrap();
    let key = rig.submit(Op::RecvMulti { fd: fd(ours) });
    peer.write_all(&bytes[..50_000]).unwrap();
    assert!(collect(rig, key, 50_000) == bytes[..50_000]);
    drop(peer);
    let end = rig.wait(key);
    assert_eq!((end.result, end.more), (0, false));
}

#[test]
fn the_best_this_kernel_gives() {
    watched("the_best_this_kernel_gives", |_| {
        let mut rig = rig(UringOptions::default());
        let report = rig.driver.report();
        println!("{report}");
        assert!(report.starts_with("driver: io_uring\n"));
        assert_eq!(rig.driver.kind(), DriverKind::Uring);
        assert_eq!(rig.run(Op::Nop).result, 0);
        exercise(&mut rig);
    });
}
