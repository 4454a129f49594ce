//! Receives without a buffer: parked, counted, served in turn.
//!
//! Not on both drivers: it is about one.

use std::io::Write;
use std::os::unix::net::UnixStream;

use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::{BUFFER_SIZE, Op, Park};
use uring_tests::drive::{Rig, fd};
use uring_tests::with_rig;

/// Four buffers.
fn small() -> EpollOptions {
    EpollOptions {
        buffers: 4,
        ..EpollOptions::default()
    }
}

with_rig! { Epoll:
    fn parked_receives_go_on_when_leases_are_dropped(rig = small()) {
        let mut peers = Vec::new();
        for number in 0..8u8 {
            let (mut near, far) = UnixStream::pair().unwrap();
            let reads = rig.submit(Op::RecvMulti { fd: fd(far) });
            near.write_all(&[number; 10]).unwrap();
            peers.push((near, reads));
        }
        rig.settle_starved();
        let first: Vec<_> = peers.iter().filter_map(|peer| rig.try_take(peer.1)).collect();
        assert_eq!(first.len(), 4);
        assert_eq!(rig.driver().counters().parked_receives, 4);
        assert!(!rig.driver().pool().has_room());
        let mut seen: Vec<u8> = first
            .iter()
            .map(|event| event.lease.as_ref().unwrap()[0])
            .collect();
        drop(first);
        // The buffers are back: those who waited get them.
        assert_eq!(rig.park(Park::Forever), 4);
        for peer in &peers {
            if let Some(event) = rig.try_take(peer.1) {
                seen.push(event.lease.unwrap()[0]);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..8).collect::<Vec<u8>>());
    }

    fn a_buffer_given_back_by_another_thread_wakes_the_park(rig = small()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let reads = rig.submit(Op::RecvMulti { fd: fd(far) });
        near.write_all(&[1; 4 * BUFFER_SIZE]).unwrap();
        rig.settle_starved();
        let mut taken = Vec::new();
        while let Some(event) = rig.try_take(reads) {
            taken.push(event.lease.unwrap().into_bytes());
        }
        assert_eq!(taken.len(), 4);
        near.write_all(b"late").unwrap();
        rig.settle_starved();
        assert!(rig.try_take(reads).is_none());
        let other = std::thread::spawn(move || drop(taken.pop()));
        let event = rig.wait(reads);
        assert_eq!(&**event.lease.as_ref().unwrap(), b"late");
        other.join().unwrap();
        drop(event);
    }

    fn a_parked_receive_can_be_cancelled(rig = small()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        near.write_all(&[1; 4 * BUFFER_SIZE]).unwrap();
        near.write_all(b"rest").unwrap();
        rig.settle_starved();
        rig.cancel(reads);
        rig.settle_starved();
        let mut events = Vec::new();
        while let Some(event) = rig.try_take(reads) {
            events.push(event);
        }
        assert_eq!(events.len(), 5);
        assert_eq!(events[4].result, -libc::ECANCELED);
        drop(events);
        // The rest is still there for the next one.
        let reads = rig.submit(Op::RecvMulti { fd: far });
        assert_eq!(rig.receive(reads, 4), b"rest");
    }
}

/// Polls until nothing more comes, also while the driver would like to be polled for a buffer.
trait SettleStarved {
    fn settle_starved(&mut self);
}

impl SettleStarved for Rig {
    fn settle_starved(&mut self) {
        while self.park(Park::Poll) > 0 {}
    }
}
