//! Receives, sends and shutdowns: bytes in order, ends told once.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use ringloop::driver::{BUFFER_SIZE, Op, Park};
use uring_tests::drive::{Rig, fd, pattern, received, recv, send, tcp_pair};
use uring_tests::on_both_drivers;

on_both_drivers! {
    fn a_receive_ends_with_the_stream(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = pattern(200_000);
        let (mut peer, ours) = tcp_pair().unwrap();
        let key = rig.submit(Op::RecvMulti { fd: fd(ours) });
        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            move || peer.write_all(&bytes).unwrap()
        });
        assert!(rig.receive(key, bytes.len()) == bytes);
        writer.join().unwrap();
        assert_eq!(rig.result(key), 0);
        rig.settle();
        assert_eq!(rig.pending(), 0);
    }

    /// Data and the end of the stream at the same moment (trap T23).
    fn the_end_on_the_heels_of_data_is_not_missed(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for _ in 0..500 {
            let (mut peer, ours) = UnixStream::pair().unwrap();
            let key = rig.submit(Op::RecvMulti { fd: fd(ours) });
            rig.poll();
            let writer = std::thread::spawn(move || {
                peer.write_all(&[1; 123]).unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
                peer
            });
            assert_eq!(rig.receive(key, 123), [1; 123]);
            assert_eq!(rig.result(key), 0);
            writer.join().unwrap();
        }
    }

    fn a_reset_is_an_error(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let key = rig.submit(Op::RecvMulti { fd: ours.clone() });
        assert_eq!({ let sent = rig.send_now(&ours, *b"unread"); rig.poll(); rig.result(sent) }, 6);
        // Closing with unread bytes resets the connection.
        assert_eq!(peer.peek(&mut [0]).unwrap(), 1);
        drop(peer);
        assert_eq!(rig.result(key), -libc::ECONNRESET);
    }

    fn one_shot_receives_take_what_is_there(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let waits = rig.submit(recv(&ours, 3));
        rig.settle();
        assert!(rig.try_take(waits).is_none());
        peer.write_all(b"abcdef").unwrap();
        let event = rig.wait(waits);
        assert_eq!(received(&event), b"abc");
        let event = rig.run(recv(&ours, 100));
        assert_eq!(received(&event), b"def");
        drop(peer);
        let event = rig.run(recv(&ours, 100));
        assert_eq!(event.result, 0);
    }

    fn an_orphaned_receive_leaves_its_bytes_to_the_next(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let key = rig.submit(Op::RecvMulti { fd: ours.clone() });
        rig.poll();
        peer.write_all(b"kept").unwrap();
        rig.drop_future(key);
        while rig.engine.in_flight() > 0 {
            rig.park(Park::Forever);
        }
        let mut kept = [0; 16];
        match ours.take_bytes(&mut kept) {
            Some(count) => assert_eq!(&kept[..count as usize], b"kept"),
            // The cancel came before the bytes: they are in the socket.
            None => assert_eq!(received(&rig.run(recv(&ours, 16))), b"kept"),
        }
    }

    /// A large message by sends as a transport makes them: inline, then one that waits.
    fn every_byte_arrives_through_a_full_socket(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let bytes = pattern(6 << 20);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let reader = std::thread::spawn(move || {
            let mut arrived = Vec::new();
            peer.read_to_end(&mut arrived).unwrap();
            arrived
        });
        let (mut sent, mut inline) = (0, true);
        while sent < bytes.len() {
            let key = match inline {
                true => rig.send_now(&ours, &bytes[sent..]),
                false => rig.submit(send(&ours, &bytes[sent..], false)),
            };
            match rig.result(key) {
                result if result == -libc::EAGAIN => {
                    assert!(inline);
                    inline = false;
                }
                result => {
                    sent += usize::try_from(result).unwrap();
                    inline = !inline;
                }
            }
        }
        drop(ours);
        assert!(reader.join().unwrap() == bytes);
    }

    /// Order on one descriptor: what is sent before a shutdown arrives, what is sent after fails.
    fn a_shutdown_keeps_its_place_among_sends(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        for unix in [true, false] {
            let (mut peer, ours): (Box<dyn Read>, _) = if unix {
                UnixStream::pair().map(|(a, b)| (Box::new(a) as _, fd(b))).unwrap()
            } else {
                tcp_pair().map(|(a, b)| (Box::new(a) as _, fd(b))).unwrap()
            };
            let before = rig.send_now(&ours, *b"before");
            let shutdown = rig.submit(Op::Shutdown { fd: ours.clone(), how: Shutdown::Write });
            let after = rig.send_now(&ours, *b"after");
            rig.poll();
            assert_eq!(rig.result(before), 6);
            assert_eq!(rig.result(shutdown), 0);
            assert_eq!(rig.result(after), -libc::EPIPE);
            let mut arrived = Vec::new();
            peer.read_to_end(&mut arrived).unwrap();
            assert_eq!(arrived, b"before");
        }
    }

    /// Nothing else happens: the shutdown must not wait for something that ends the park.
    fn a_shutdown_alone_ends_the_park(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let reads = rig.submit(Op::RecvMulti { fd: ours.clone() });
        let shutdown = rig.submit(Op::Shutdown { fd: ours.clone(), how: Shutdown::Write });
        assert_eq!(rig.result(shutdown), 0);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        // The other direction goes on.
        peer.write_all(b"still").unwrap();
        assert_eq!(rig.receive(reads, 5), b"still");
        let shutdown = rig.submit(Op::Shutdown { fd: ours, how: Shutdown::Both });
        assert_eq!(rig.result(shutdown), 0);
        assert_eq!(rig.result(reads), 0);
    }

    fn a_shutdown_of_what_is_not_connected_fails(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        drop(listener);
        let op = Op::Shutdown { fd: fd(socket), how: Shutdown::Both };
        let key = rig.submit(op);
        assert_eq!(rig.result(key), -libc::ENOTCONN);
    }

    fn a_lease_is_sent_from_where_it_was_received(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let reads = rig.submit(Op::RecvMulti { fd: ours.clone() });
        let bytes = pattern(3 * BUFFER_SIZE);
        peer.write_all(&bytes).unwrap();
        let mut leases = Vec::new();
        let mut count = 0;
        while count < bytes.len() {
            let lease = rig.wait(reads).lease.unwrap();
            count += lease.len();
            leases.push(lease);
        }
        let lent = rig.driver().pool().lent();
        assert!(lent >= 3);
        let sent = rig.submit(Op::Send {
            fd: ours,
            data: uring_tests::drive::gather(leases),
            inline: true,
            urgent: true,
        });
        let event = rig.wait(sent);
        assert_eq!(event.result as usize, bytes.len());
        assert_eq!(rig.driver().pool().lent(), lent, "lent until the send is over");
        drop(event);
        assert_eq!(rig.driver().pool().lent(), 0);
        let mut arrived = vec![0; bytes.len()];
        peer.read_exact(&mut arrived).unwrap();
        assert!(arrived == bytes);
    }
}
