//! Receives and accepts that nobody waits for any more: what they bring comes before anything later.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use ringloop::driver::{Fd, Key, Op, Park, Target};
use std::task::Waker;
use uring_tests::drive::{Rig, fd, pattern, received, recv, tcp_pair};
use uring_tests::{Rng, on_both_drivers};

fn multi(fd: &Fd) -> Op {
    Op::RecvMulti { fd: fd.clone() }
}

fn accept(fd: &Fd, multi: bool) -> Op {
    let fd = fd.clone();
    match multi {
        true => Op::AcceptMulti { fd },
        false => Op::Accept { fd },
    }
}

/// Orphans the operation without a cancel, so that it brings what it was to bring.
fn forget(rig: &mut Rig, key: Key) {
    assert!(rig.engine.orphan(key).adopt(), "in flight");
}

/// What the next receive brings, of whichever kind.
fn take(rig: &mut Rig, key: Key) -> Vec<u8> {
    let event = rig.wait(key);
    match &event.lease {
        Some(lease) => lease.to_vec(),
        None => received(&event).to_vec(),
    }
}

on_both_drivers! {
    fn a_receive_waits_for_the_orphans_before_it(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for shot in [true, false] {
            for orphan_multi in [true, false] {
                let (mut peer, ours) = tcp_pair().unwrap();
                let ours = fd(ours);
                let orphan = match orphan_multi {
                    true => multi(&ours),
                    false => recv(&ours, 3),
                };
                let orphan = rig.submit(orphan);
                rig.settle();
                forget(&mut rig, orphan);
                let key = match shot {
                    true => rig.submit(recv(&ours, 2)),
                    false => rig.submit(multi(&ours)),
                };
                rig.settle();
                assert_eq!(rig.engine.in_flight(), 2);
                peer.write_all(b"abcdef").unwrap();
                // A multishot one goes on until it is cancelled.
                while orphan_multi && rig.engine.adopted() == 0 {
                    rig.park(Park::Forever);
                }
                rig.cancel(orphan);
                let mut bytes = Vec::new();
                let mut last = key;
                while bytes.len() < 6 {
                    bytes.extend(take(&mut rig, last));
                    if shot && bytes.len() < 6 {
                        last = rig.submit(recv(&ours, 2));
                    }
                }
                assert_eq!(bytes, b"abcdef");
                if !shot {
                    rig.cancel(key);
                    assert_eq!(rig.result(key), -libc::ECANCELED);
                }
                assert_eq!(ours.take_bytes(&mut [0]), None);
            }
        }
    }

    /// A future that is dropped when its receive has completed.
    fn bytes_of_a_future_that_was_dropped_are_the_next_ones(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let ours = fd(ours);
        let waiter = Target::Waiter(Waker::noop().clone());
        let key = rig.submit_to(recv(&ours, 4), waiter);
        peer.write_all(b"0123456789").unwrap();
        while rig.engine.in_flight() > 0 {
            rig.park(Park::Forever);
        }
        rig.drop_future(key);
        assert_eq!(received(&rig.run(recv(&ours, 3))), b"012");
        // What is left of it comes alone, and then what is in the socket.
        assert_eq!(received(&rig.run(recv(&ours, 3))), b"3");
        peer.shutdown(Shutdown::Write).unwrap();
        let key = rig.submit(multi(&ours));
        assert_eq!(rig.receive(key, 6), b"456789");
        assert_eq!(rig.result(key), 0);
    }

    fn the_end_that_an_orphan_met_is_kept(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for shot in [true, false] {
            let (peer, ours) = UnixStream::pair().unwrap();
            let ours = fd(ours);
            let orphan = rig.submit(recv(&ours, 4));
            rig.settle();
            forget(&mut rig, orphan);
            let key = match shot {
                true => rig.submit(recv(&ours, 2)),
                false => rig.submit(multi(&ours)),
            };
            drop(peer);
            assert_eq!(rig.result(key), 0);
        }
    }

    fn a_receive_that_waits_for_orphans_is_cancelled(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let orphan = rig.submit(recv(&ours, 4));
        rig.settle();
        forget(&mut rig, orphan);
        let [first, second, third] = [(); 3].map(|()| rig.submit(recv(&ours, 4)));
        rig.cancel(second);
        rig.cancel(second);
        assert_eq!(rig.result(second), -libc::ECANCELED);
        // It leaves nothing of its own.
        rig.drop_future(third);
        rig.settle();
        assert_eq!(rig.engine.in_flight(), 2);
        peer.write_all(b"abcdefgh").unwrap();
        assert_eq!(received(&rig.wait(first)), b"abcd");
        assert_eq!(received(&rig.run(recv(&ours, 4))), b"efgh");
        // One that waits while everything ends (`Rig::close` sees that it comes back).
        let orphan = rig.submit(multi(&ours));
        rig.settle();
        forget(&mut rig, orphan);
        rig.submit(recv(&ours, 4));
        rig.submit(multi(&ours));
        rig.close();
        assert_eq!(rig.engine.in_flight(), 0);
    }

    /// The orphan is over and has left nothing, and the receive behind it has not been let go yet.
    fn a_receive_waits_for_those_that_wait(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for later_multi in [false, true] {
            let (mut peer, ours) = UnixStream::pair().unwrap();
            let ours = fd(ours);
            let orphan = rig.submit(recv(&ours, 1));
            rig.settle();
            rig.drop_future(orphan);
            let first = rig.submit(recv(&ours, 1));
            while rig.engine.in_flight() > 1 {
                rig.poll();
            }
            let second = rig.submit(if later_multi { multi(&ours) } else { recv(&ours, 1) });
            peer.write_all(b"1").unwrap();
            assert_eq!(received(&rig.wait(first)), b"1");
            assert!(rig.try_take(second).is_none());
            peer.write_all(b"2").unwrap();
            assert_eq!(take(&mut rig, second), b"2");
            drop(peer);
            if later_multi {
                assert_eq!(rig.result(second), 0);
            }
        }
    }

    /// Zero bytes are what it asked for, and no end.
    fn an_orphan_without_room_meets_no_end(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let ours = fd(ours);
        peer.write_all(b"x").unwrap();
        let orphan = rig.submit(recv(&ours, 0));
        forget(&mut rig, orphan);
        rig.settle();
        assert_eq!(received(&rig.run(recv(&ours, 4))), b"x");
    }

    /// What is kept stays for one that has.
    fn a_receive_without_room_takes_nothing(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let ours = fd(ours);
        for bytes in [&b"kept"[..], b""] {
            let orphan = rig.submit(recv(&ours, 9));
            rig.settle();
            forget(&mut rig, orphan);
            match bytes {
                [] => peer.shutdown(Shutdown::Write).unwrap(),
                bytes => peer.write_all(bytes).unwrap(),
            }
            while rig.engine.in_flight() > 0 {
                rig.park(Park::Forever);
            }
            assert_eq!(rig.run(recv(&ours, 0)).result, 0);
            let mut buf = [0; 9];
            assert_eq!(ours.take_bytes(&mut []), Some(0));
            assert_eq!(ours.take_bytes(&mut buf), Some(bytes.len() as i32));
            assert_eq!(&buf[..bytes.len()], bytes);
            assert_eq!(ours.take_bytes(&mut []), None);
        }
    }

    fn an_accept_gets_the_connections_of_orphans_first(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for goes_on in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let listener = fd(listener);
            let orphan = rig.submit(accept(&listener, false));
            rig.settle();
            forget(&mut rig, orphan);
            let key = rig.submit(accept(&listener, goes_on));
            rig.settle();
            let first = TcpStream::connect(address).unwrap();
            let accepted = TcpStream::from(rig.wait(key).fd.unwrap());
            assert_eq!(accepted.peer_addr().unwrap(), first.local_addr().unwrap());
            let key = match goes_on {
                true => key,
                false => rig.submit(accept(&listener, false)),
            };
            let second = TcpStream::connect(address).unwrap();
            let accepted = TcpStream::from(rig.wait(key).fd.unwrap());
            assert_eq!(accepted.peer_addr().unwrap(), second.local_addr().unwrap());
            if goes_on {
                rig.cancel(key);
                assert_eq!(rig.result(key), -libc::ECANCELED);
            }
        }
    }

    /// Receives given up at any moment, one after the other, while bytes arrive.
    fn no_byte_overtakes_another(kind: DriverKind) {
        const LEN: usize = 40_000;
        let mut rng = Rng::new();
        let bytes = pattern(LEN);
        let mut rig = Rig::open(kind);
        for _ in 0..60 {
            let (mut peer, ours) = match rng.chance(1, 2) {
                true => tcp_pair().map(|(near, far)| (Box::new(near) as Box<dyn Write>, fd(far))).unwrap(),
                false => UnixStream::pair().map(|(near, far)| (Box::new(near) as _, fd(far))).unwrap(),
            };
            let (mut said, mut got) = (0, Vec::new());
            while got.len() < LEN {
                let most = 1 + rng.below(3000);
                let is_multi = rng.chance(1, 3);
                let key = rig.submit(if is_multi { multi(&ours) } else { recv(&ours, most) });
                if rng.chance(1, 2) {
                    rig.poll();
                }
                let more = rng.below(4000).min(LEN - said);
                peer.write_all(&bytes[said..said + more]).unwrap();
                said += more;
                if rng.chance(1, 2) {
                    rig.poll();
                }
                while said == LEN && rig.pending() == 0 {
                    rig.park(Park::Forever);
                }
                // What it brought until now was heard of.
                while let Some(event) = rig.try_take(key) {
                    match &event.lease {
                        Some(lease) => got.extend_from_slice(lease),
                        None => got.extend_from_slice(received(&event)),
                    }
                }
                assert!(bytes.starts_with(&got), "a byte is not in its place");
                rig.drop_future(key);
            }
            assert_eq!(got.len(), LEN);
        }
        assert!(rig.engine.adopted() > 0, "nothing was ever given up with bytes: this proves nothing");
    }
}
