//! io_uring where little memory may be locked: smaller queues and fewer buffers, not epoll.
//!
//! Not on both drivers: only rings count as locked memory.
//!
//! The leg `memlock` has 64 KiB of it. Everywhere else the same tests show that the limit, and
//! nothing else, makes the difference.

use std::io::{Read, Write};

use ringloop::driver::uring::{UringDriver, UringOptions};
use ringloop::driver::{Driver, DriverKind};
use uring_tests::drive::{Rig, fd, received, recv, send, tcp_pair};
use uring_tests::{Leg, on_one_driver};

fn driver() -> UringDriver {
    UringDriver::new(UringOptions::default()).expect("io_uring fits into the locked memory")
}

/// An echo over a socket of its own.
fn echo(rig: &mut Rig) {
    let (mut peer, ours) = tcp_pair().expect("there is a loopback interface");
    let socket = fd(ours);
    peer.write_all(b"request").expect("the peer writes");
    let event = rig.run(recv(&socket, 16));
    assert_eq!(received(&event), b"request");
    let sent = rig.submit(send(&socket, *b"answer", true));
    rig.poll();
    assert_eq!(rig.wait(sent).result, 6);
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).expect("the peer reads");
    assert_eq!(&answer, b"answer");
}

fn limit_shows(_kind: DriverKind) {
    let driver = driver();
    let report = driver.report();
    println!("{report}");
    let refused = report.contains("which the memory limit refused: ENOMEM");
    assert_eq!(refused, Leg::current() == Leg::Memlock, "{report}");
    echo(&mut Rig::new(Box::new(driver)));
}

/// The kernel gives the memory of a closed ring back only some milliseconds later; a start that
/// comes before that waits for it.
fn comes_back(_kind: DriverKind) {
    for _ in 0..20 {
        echo(&mut Rig::new(Box::new(driver())));
    }
}

on_one_driver! { Uring:
    fn a_limit_on_locked_memory_makes_the_sizes_smaller() {
        limit_shows(DriverKind::Uring);
    }

    fn the_memory_of_a_closed_ring_comes_back() {
        comes_back(DriverKind::Uring);
    }
}
