//! Sends: what ends a wait, and what waits behind what.
//!
//! Not on both drivers: it is about one.

use std::io::Read;
use std::os::unix::net::UnixStream;

use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::{Op, Park};
use uring_tests::drive::{fd, gather, pattern, send, tcp_pair};
use uring_tests::with_rig;

with_rig! { Epoll:
    fn a_whole_inline_send_alone_does_not_end_the_wait(rig = EpollOptions::default()) {
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        let sent = rig.submit(send(&far, *b"x", true));
        let unparker = rig.driver().unparker();
        let peer = std::thread::spawn(move || {
            near.read_exact(&mut [0]).unwrap();
            unparker.unpark();
        });
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.try_take(sent).unwrap().result, 1);
        assert_eq!(rig.driver().counters().enters, 1);
        peer.join().unwrap();
    }

    fn an_urgent_one_forbids_sleeping(rig = EpollOptions::default()) {
        let (_near, far) = tcp_pair().unwrap();
        let sent = rig.submit(Op::Send {
            fd: fd(far),
            data: gather([b"x".to_vec()]),
            inline: true,
            urgent: true,
        });
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.try_take(sent).unwrap().result, 1);
    }

    fn a_partial_or_refused_one_ends_the_wait(rig = EpollOptions::default()) {
        let (_near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let sent = rig.submit(send(&far, vec![1; 1 << 20], true));
        assert_eq!(rig.park(Park::Forever), 1);
        let part = rig.try_take(sent).unwrap().result;
        assert!(part > 0 && part < 1 << 20, "{part}");
        rig.fill(&far);
        let sent = rig.submit(send(&far, *b"x", true));
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.try_take(sent).unwrap().result, -libc::EAGAIN);
    }

    fn what_is_behind_a_waiting_send_does_not_overtake_it(rig = EpollOptions::default()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let filled = rig.fill(&far);
        let first = rig.submit(send(&far, b"first".to_vec(), false));
        let second = rig.submit(send(&far, b"second".to_vec(), false));
        rig.settle();
        let mut sink = vec![0; filled];
        near.read_exact(&mut sink).unwrap();
        // There is room, but the first one has not had its turn.
        let inline = rig.submit(send(&far, *b"inline", true));
        assert_eq!(rig.result(inline), -libc::EAGAIN);
        assert_eq!(rig.result(first), 5);
        assert_eq!(rig.result(second), 6);
        let mut bytes = [0; 11];
        near.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"firstsecond");
    }

    fn a_socket_that_is_full_again_and_again_loses_nothing(rig = EpollOptions::default()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let bytes = pattern(3 << 20);
        let expected = bytes.clone();
        let peer = std::thread::spawn(move || {
            let mut got = Vec::new();
            near.read_to_end(&mut got).unwrap();
            assert!(got == expected);
        });
        let mut sent = 0;
        while sent < bytes.len() {
            let key = rig.submit(send(&far, bytes[sent..].to_vec(), false));
            let part = rig.result(key);
            assert!(part > 0, "{part}");
            sent += part as usize;
        }
        let down = Op::Shutdown { fd: far.clone(), how: std::net::Shutdown::Write };
        assert_eq!(rig.run(down).result, 0);
        peer.join().unwrap();
    }

    /// A Unix socket reports room each time its peer reads: nobody asked any more.
    fn room_that_nobody_waits_for_wakes_nobody(rig = EpollOptions::default()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let filled = rig.fill(&far);
        let waits = rig.submit(send(&far, b"x".to_vec(), false));
        rig.settle();
        let mut sink = vec![0; filled];
        near.read_exact(&mut sink).unwrap();
        assert_eq!(rig.result(waits), 1);
        for _ in 0..3 {
            let key = rig.submit(send(&far, *b"more", true));
            assert_eq!(rig.park(Park::Poll), 1);
            assert_eq!(rig.try_take(key).unwrap().result, 4);
            near.read_exact(&mut sink[..4]).unwrap();
            rig.settle();
        }
        let before = rig.driver().counters().enters;
        rig.submit(send(&far, *b"more", true));
        rig.park(Park::Poll);
        near.read_exact(&mut sink[..4]).unwrap();
        rig.park(Park::Until(rig.driver().now() + 1_000_000));
        assert_eq!(rig.driver().counters().enters - before, 2);
        // The interest comes back with the next full socket.
        let filled = rig.fill(&far);
        let waits = rig.submit(send(&far, b"x".to_vec(), false));
        rig.settle();
        let mut sink = vec![0; filled];
        near.read_exact(&mut sink).unwrap();
        assert_eq!(rig.result(waits), 1);
    }
}
