//! Cancels: every operation ends once, and what it brought before counts.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use ringloop::driver::{Event, Key, Op, Park};
use ringloop::sys::socket::poll_now;
use uring_tests::drive::{Rig, fd, recv, send, tcp_pair};
use uring_tests::on_both_drivers;

/// Everything that waits on its own: an operation of each kind, and what keeps it waiting.
fn waiting(rig: &mut Rig) -> (Vec<Key>, Vec<OwnedFd>) {
    let (near, far) = tcp_pair().unwrap();
    let far = fd(far);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = fd(listener);
    let (other, quiet) = tcp_pair().unwrap();
    let quiet = fd(quiet);
    let events = libc::POLLIN as u32;
    // A socket that is full, and stays so.
    let (full_peer, full) = UnixStream::pair().unwrap();
    let full = fd(full);
    rig.fill(&full);
    let ops = [
        recv(&far, 16),
        Op::Poll {
            fd: quiet.clone(),
            events,
        },
        Op::PollMulti {
            fd: quiet.clone(),
            events,
        },
        Op::Accept {
            fd: listener.clone(),
        },
        send(&full, *b"x", false),
    ];
    let mut keys: Vec<Key> = ops.into_iter().map(|op| rig.submit(op)).collect();
    let (multi_peer, multi) = tcp_pair().unwrap();
    keys.push(rig.submit(Op::RecvMulti { fd: fd(multi) }));
    let many = TcpListener::bind("127.0.0.1:0").unwrap();
    keys.push(rig.submit(Op::AcceptMulti { fd: fd(many) }));
    let kept = vec![
        near.into(),
        other.into(),
        full_peer.into(),
        multi_peer.into(),
    ];
    (keys, kept)
}

fn final_events(rig: &mut Rig, key: Key) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = rig.wait(key);
        let more = event.more;
        events.push(event);
        if !more {
            return events;
        }
    }
}

on_both_drivers! {
    fn everything_that_waits_can_be_cancelled(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (keys, _kept) = waiting(&mut rig);
        rig.settle();
        assert_eq!(rig.pending(), 0);
        for key in &keys {
            rig.cancel(*key);
        }
        for key in keys {
            assert_eq!(rig.result(key), -libc::ECANCELED);
        }
        rig.settle();
        assert_eq!(rig.pending(), 0, "one final completion each");
        assert_eq!(rig.engine.in_flight(), 0);
    }

    fn a_cancel_reaches_what_was_submitted_in_the_same_turn(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (keys, _kept) = waiting(&mut rig);
        for key in &keys {
            rig.cancel(*key);
        }
        for key in keys {
            assert_eq!(rig.result(key), -libc::ECANCELED);
        }
    }

    fn a_second_cancel_and_a_stale_one_are_ignored(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (_peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let key = rig.submit(recv(&ours, 16));
        rig.poll();
        rig.cancel(key);
        rig.cancel(key);
        assert_eq!(rig.result(key), -libc::ECANCELED);
        rig.cancel(key);
        // The slot's next operation is another one.
        let next = rig.submit(recv(&ours, 16));
        assert_eq!(next.index, key.index);
        rig.cancel(key);
        rig.settle();
        assert!(rig.try_take(next).is_none());
        rig.cancel(next);
        assert_eq!(rig.result(next), -libc::ECANCELED);
    }

    fn bytes_before_the_cancel_are_not_lost(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for _ in 0..100 {
            let (mut peer, ours) = tcp_pair().unwrap();
            let ours = fd(ours);
            let key = rig.submit(Op::RecvMulti { fd: ours.clone() });
            rig.poll();
            peer.write_all(b"0123456789").unwrap();
            rig.cancel(key);
            let mut bytes = Vec::new();
            for event in final_events(&mut rig, key) {
                match event.lease {
                    Some(lease) => bytes.extend_from_slice(&lease),
                    None => assert_eq!(event.result, -libc::ECANCELED),
                }
            }
            // Whatever it did not bring is in the socket.
            let key = rig.submit(Op::RecvMulti { fd: ours });
            let rest = 10 - bytes.len();
            bytes.extend(rig.receive(key, rest));
            assert_eq!(bytes, b"0123456789");
        }
    }

    fn sends_run_in_spite_of_a_cancel_or_not_at_all(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let sent = rig.send_now(&ours, *b"inline");
        rig.cancel(sent);
        rig.poll();
        // An inline send is over before the cancel can reach it.
        assert_eq!(rig.result(sent), 6);
        let sent = rig.submit(send(&ours, *b"waiting", false));
        rig.cancel(sent);
        // There is room: it is over, too.
        assert_eq!(rig.result(sent), 7);
        let mut bytes = [0; 13];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"inlinewaiting");
    }

    /// On a listener that others accept from, io_uring gives an accept up to a worker thread after it
    /// was woken for nothing often enough.
    fn an_accept_that_others_were_faster_than_is_cancelled(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ours = fd(listener.try_clone().unwrap());
        let accept = |rig: &mut Rig| rig.submit(Op::Accept { fd: ours.clone() });
        let mut key = accept(&mut rig);
        rig.settle();
        for _ in 0..200 {
            let _client = TcpStream::connect(address).unwrap();
            let there = poll_now(&ours, libc::POLLIN as u32).unwrap() != 0;
            // The worker, if there is one, may take it first.
            listener.set_nonblocking(true).unwrap();
            let taken = there && match listener.accept() {
                Ok(_) => true,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    false
                }
            };
            listener.set_nonblocking(false).unwrap();
            if taken {
                rig.settle();
                assert!(rig.try_take(key).is_none(), "nobody is there");
            } else {
                let event = rig.wait(key);
                assert!(event.fd.is_some(), "{}", event.result);
                key = accept(&mut rig);
            }
        }
        rig.cancel(key);
        assert_eq!(rig.result(key), -libc::ECANCELED);
    }

    /// The end of a loop with everything in flight. (`Rig::close` fails when something stays.)
    fn a_drain_brings_everything_back(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let mut kept = Vec::new();
        for _ in 0..5 {
            kept.push(waiting(&mut rig));
        }
        // Some of it not even submitted.
        rig.settle();
        kept.push(waiting(&mut rig));
        rig.close();
        assert_eq!(rig.engine.in_flight(), 0);
    }

    /// The same while bytes and connections keep coming.
    fn a_drain_under_load_brings_everything_back(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let mut writers = Vec::new();
        for _ in 0..20 {
            let (mut peer, ours) = tcp_pair().unwrap();
            rig.submit(Op::RecvMulti { fd: fd(ours) });
            writers.push(std::thread::spawn(move || while peer.write_all(&[1; 4096]).is_ok() {}));
        }
        let mut arrived = 0;
        while arrived < 1000 {
            rig.park(Park::Forever);
            arrived += rig.take_all().len();
        }
        rig.close();
        assert_eq!(rig.engine.in_flight(), 0);
        assert_eq!(rig.driver().pool().lent(), 0);
        drop(rig);
        for writer in writers {
            writer.join().unwrap();
        }
    }
}
