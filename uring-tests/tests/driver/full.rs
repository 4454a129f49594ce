//! Sends that wait on a full socket while a direction has ended.
//!
//! io_uring wakes such a send again and again (the kernel adds `POLLRDHUP` to what it waits for) and,
//! left to itself, gives it to a worker thread, where it blocks.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use ringloop::driver::{Fd, Key, Park};
use uring_tests::drive::{Rig, fd, pattern, send, tcp_pair};
use uring_tests::net::shrink;
use uring_tests::on_both_drivers;

/// What has ended on a full socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The peer's writing direction, before the send is submitted.
    PeerBefore,
    /// The same, while it waits.
    PeerMeanwhile,
    /// Our reading direction.
    OursBefore,
    /// Nothing; the peer goes on sending, which must not matter either.
    Nothing,
}

use Ended::{Nothing, OursBefore, PeerBefore, PeerMeanwhile};

const CASES: [(bool, Ended); 8] = [
    (true, PeerBefore),
    (true, PeerMeanwhile),
    (true, OursBefore),
    (true, Nothing),
    (false, PeerBefore),
    (false, PeerMeanwhile),
    (false, OursBefore),
    (false, Nothing),
];

/// The peer, which reads and writes as any stream socket, and ours.
fn pair(tcp: bool) -> (UnixStream, Fd) {
    let (peer, ours): (OwnedFd, OwnedFd) = if tcp {
        let (near, far) = tcp_pair().unwrap();
        (near.into(), far.into())
    } else {
        let (near, far) = UnixStream::pair().unwrap();
        (near.into(), far.into())
    };
    // Full soon, and of a size that the kernel does not tune.
    shrink(&peer, 64 << 10);
    shrink(&ours, 64 << 10);
    (UnixStream::from(peer), fd(ours))
}

/// A send that waits, with one direction ended. (The TCP socket may get room again, by an
/// acknowledgement that comes late; then the send completes with a count.)
fn waiting(rig: &mut Rig, tcp: bool, ended: Ended, bytes: &[u8]) -> (UnixStream, Fd, Key, usize) {
    let (peer, ours) = pair(tcp);
    let mut filled = rig.fill_with(&ours, |sent| bytes[sent..].to_vec());
    match ended {
        PeerBefore => peer.shutdown(Shutdown::Write).unwrap(),
        OursBefore => {
            let ours = TcpStream::from(ours.as_fd().try_clone_to_owned().unwrap());
            ours.shutdown(Shutdown::Read).unwrap();
        }
        PeerMeanwhile | Nothing => {}
    }
    let mut shut = ended != PeerMeanwhile;
    loop {
        let key = rig.submit(send(&ours, &bytes[filled..], false));
        rig.settle();
        if !std::mem::replace(&mut shut, true) {
            peer.shutdown(Shutdown::Write).unwrap();
            rig.settle();
        }
        match rig.try_take(key) {
            None => return (peer, ours, key, filled),
            Some(event) if tcp => filled += usize::try_from(event.result).unwrap(),
            Some(event) => panic!("{ended:?}: did not wait: {}", event.result),
        }
    }
}

fn bytes() -> Vec<u8> {
    pattern(4 << 20)
}

on_both_drivers! {
    fn a_waiting_send_is_cancelled_at_once(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = bytes();
        for (tcp, ended) in CASES {
            let (_peer, ours, key, _) = waiting(&mut rig, tcp, ended, &bytes);
            rig.cancel(key);
            rig.settle();
            let event = rig.try_take(key).unwrap_or_else(|| panic!("tcp: {tcp}, {ended:?}: not cancelled"));
            let late = tcp && event.result > 0;
            assert!(late || event.result == -libc::ECANCELED, "tcp: {tcp}, {ended:?}: {}", event.result);
            drop(event);
            assert!(ours.is_unique());
        }
    }

    fn a_drain_does_not_wait_for_a_full_socket(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = bytes();
        let mut kept = Vec::new();
        for (tcp, ended) in CASES {
            kept.push(waiting(&mut rig, tcp, ended, &bytes));
        }
        // Fails when an operation does not come back.
        rig.close();
        assert_eq!(rig.engine.in_flight(), 0);
        assert_eq!(rig.pending(), 0, "a drain tells nobody");
    }

    /// The wait goes on, and ends as soon as the peer has read.
    fn a_waiting_send_goes_on_when_there_is_room(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = bytes();
        for (tcp, ended) in CASES {
            let (mut peer, ours, key, filled) = waiting(&mut rig, tcp, ended, &bytes);
            let reader = std::thread::spawn(move || {
                let mut arrived = Vec::new();
                peer.read_to_end(&mut arrived).unwrap();
                arrived
            });
            let took = rig.result(key);
            let took = usize::try_from(took).unwrap_or_else(|_| panic!("tcp: {tcp}, {ended:?}: {took}"));
            assert!(took > 0);
            drop(ours);
            let arrived = reader.join().unwrap();
            assert!(arrived == bytes[..filled + took], "tcp: {tcp}, {ended:?}");
        }
    }

    /// A message much larger than the socket, by sends that wait, to a peer that only reads.
    fn a_half_closed_peer_gets_every_byte(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = bytes();
        for tcp in [true, false] {
            let (mut peer, ours) = pair(tcp);
            peer.shutdown(Shutdown::Write).unwrap();
            let reader = std::thread::spawn(move || {
                let mut arrived = Vec::new();
                peer.read_to_end(&mut arrived).unwrap();
                arrived
            });
            let mut sent = 0;
            while sent < bytes.len() {
                let key = rig.submit(send(&ours, &bytes[sent..], false));
                sent += usize::try_from(rig.result(key)).unwrap();
            }
            drop(ours);
            assert!(reader.join().unwrap() == bytes, "tcp: {tcp}");
        }
    }

    /// The peer goes away for good: the send fails instead of waiting.
    fn a_waiting_send_fails_when_the_peer_leaves(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = bytes();
        for (tcp, ended) in CASES {
            let (peer, ours, key, _) = waiting(&mut rig, tcp, ended, &bytes);
            // With bytes unread: a reset.
            drop(peer);
            let mut result = rig.result(key);
            // Room that a late acknowledgement made.
            while tcp && result > 0 {
                let again = rig.submit(send(&ours, &*bytes, false));
                result = rig.result(again);
            }
            assert!([-libc::EPIPE, -libc::ECONNRESET].contains(&result), "tcp: {tcp}, {ended:?}: {result}");
        }
    }

    /// The poll of a waiting send is gone with it: closing the socket tells the peer at once.
    fn nothing_keeps_the_socket_open(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = bytes();
        for (tcp, ended) in CASES {
            let (mut peer, ours, key, filled) = waiting(&mut rig, tcp, ended, &bytes);
            rig.cancel(key);
            while rig.engine.in_flight() > 0 {
                rig.park(Park::Forever);
            }
            let filled = filled + usize::try_from(rig.result(key)).unwrap_or(0);
            drop(ours);
            let mut arrived = 0;
            let mut buffer = vec![0; 1 << 20];
            loop {
                match peer.read(&mut buffer).unwrap() {
                    0 => break,
                    count => arrived += count,
                }
            }
            assert_eq!(arrived, filled, "tcp: {tcp}, {ended:?}");
        }
    }
}
