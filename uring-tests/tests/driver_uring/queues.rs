//! Full queues: submitted early, flushed, armed again; nothing is lost, nothing overtakes.
//!
//! Not on both drivers: it is about one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use ringloop::driver::uring::UringOptions;
use ringloop::driver::{Key, Op, Park};
use uring_tests::drive::{fd, pattern, send, tcp_pair};
use uring_tests::with_rig;

fn tiny() -> UringOptions {
    UringOptions {
        sq_entries: 2,
        cq_entries: 4,
        ..UringOptions::default()
    }
}

with_rig! { Uring:
    fn a_full_submission_queue_is_submitted_early(rig = tiny()) {
        let keys: Vec<Key> = (0..1000).map(|_| rig.submit(Op::Nop)).collect();
        assert!(rig.driver().counters().sq_full >= 400);
        for key in keys {
            assert_eq!(rig.result(key), 0);
        }
        let counters = rig.driver().counters();
        assert!(counters.cq_overflow > 0);
        assert_eq!(counters.stale, 0);
        assert_eq!(rig.engine.stale(), 0);
    }

    /// The kernel ends a multishot operation that meets a full queue (cookbook §2.4).
    fn receives_go_on_after_an_overflow(rig = tiny()) {
        let bytes = pattern(20_000);
        let mut peers = Vec::new();
        for _ in 0..40 {
            let (near, far) = tcp_pair().unwrap();
            peers.push((near, rig.submit(Op::RecvMulti { fd: fd(far) })));
        }
        rig.poll();
        for part in bytes.chunks(2000) {
            for (near, _) in &mut peers {
                near.write_all(part).unwrap();
            }
            rig.poll();
        }
        for (near, key) in peers {
            assert!(rig.receive(key, bytes.len()) == bytes);
            drop(near);
            assert_eq!(rig.result(key), 0);
        }
        let counters = rig.driver().counters();
        println!("{counters:?}");
        assert!(counters.rearmed > 0, "the test needs an operation that ended early");
    }

    fn accepts_go_on_after_an_overflow(rig = tiny()) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let accepts = rig.submit(Op::AcceptMulti { fd: fd(listener) });
        rig.poll();
        let clients: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect();
        for _ in &clients {
            let event = rig.wait(accepts);
            assert!(event.more);
            assert!(event.fd.is_some());
        }
        assert!(rig.driver().counters().rearmed > 0, "the test needs an accept that ended early");
    }

    fn a_poll_goes_on_after_an_overflow(rig = tiny()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let polls: Vec<Key> = (0..20)
            .map(|_| rig.submit(Op::PollMulti { fd: far.clone(), events: libc::POLLIN as u32 }))
            .collect();
        rig.poll();
        for _ in 0..3 {
            near.write_all(b"x").unwrap();
            for poll in &polls {
                let event = rig.wait(*poll);
                assert!(event.more);
                assert!(event.result & i32::from(libc::POLLIN) != 0);
            }
            rig.settle();
            rig.take_all();
        }
        let counters = rig.driver().counters();
        assert!(counters.cq_overflow > 0 && counters.rearmed > 0, "{counters:?}");
    }

    /// So does the poll that a send waits with: it is armed again, and the send goes on.
    fn sends_that_wait_go_on_after_an_overflow(rig = tiny()) {
        let bytes = pattern(1 << 20);
        let mut waiting = Vec::new();
        for _ in 0..40 {
            let (near, far) = UnixStream::pair().unwrap();
            let far = fd(far);
            let first = rig.submit(send(&far, &bytes[..], true));
            let first = usize::try_from(rig.result(first)).unwrap();
            assert!(first < bytes.len());
            let key = rig.submit(send(&far, &bytes[first..], false));
            waiting.push((near, far, key, first));
        }
        rig.settle();
        assert_eq!(rig.pending(), 0);
        let before = rig.driver().counters();
        // The ends of the streams wake all polls for nothing, the room does in earnest.
        for (near, ..) in &waiting {
            near.shutdown(Shutdown::Write).unwrap();
        }
        rig.settle();
        assert_eq!(rig.pending(), 0);
        let after = rig.driver().counters();
        assert!(after.cq_overflow > before.cq_overflow, "the test needs an overflow: {after:?}");
        assert!(after.rearmed > before.rearmed, "the test needs a poll that ended early: {after:?}");
        for (near, _, _, first) in &mut waiting {
            near.read_exact(&mut vec![0; *first]).unwrap();
        }
        for (mut near, far, key, first) in waiting {
            let second = usize::try_from(rig.result(key)).unwrap();
            assert!(second > 0);
            drop(far);
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).unwrap();
            assert!(rest == bytes[first..first + second]);
        }
    }

    fn wakes_go_on_after_an_overflow(rig = tiny()) {
        let unparker = rig.driver().unparker();
        for _ in 0..20 {
            // The poll of the wake descriptor meets a full queue.
            let keys: Vec<Key> = (0..20).map(|_| rig.submit(Op::Nop)).collect();
            unparker.unpark();
            for key in keys {
                assert_eq!(rig.result(key), 0);
            }
            rig.settle();
            let unparker = unparker.clone();
            let other = std::thread::spawn(move || unparker.unpark());
            rig.park(Park::Forever);
            other.join().unwrap();
        }
        let counters = rig.driver().counters();
        assert!(counters.cq_overflow > 0, "{counters:?}");
    }
}
