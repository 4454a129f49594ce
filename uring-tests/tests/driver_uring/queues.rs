//! Full queues: submitted early, flushed, armed again; nothing is lost, nothing overtakes.
//!
//! Not on both drivers: it is about one.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use ringloop::driver::uring::UringOptions;
use ringloop::driver::{Key, Op, Park};
use uring_tests::drive::{fd, pattern, tcp_pair};

fn tiny() -> UringOptions {
    UringOptions {
        sq_entries: 2,
        cq_entries: 4,
        ..UringOptions::default()
    }
}

tests! {
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
    }
}
