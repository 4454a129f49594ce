//! Inline sends: silent, settled, believed only then.
//!
//! Not on both drivers: it is about one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use ringloop::driver::uring::UringOptions;
use ringloop::driver::{Fd, Key, Op, Park};
use uring_tests::drive::{Rig, fd, gather, pattern, send, tcp_pair};
use uring_tests::with_rig;

fn options() -> UringOptions {
    UringOptions::default()
}

/// Queues so small that everything overflows.
fn tiny() -> UringOptions {
    UringOptions {
        sq_entries: 4,
        cq_entries: 4,
        ..options()
    }
}

with_rig! { Uring:
    fn a_whole_inline_send_alone_does_not_end_the_wait(rig = options()) {
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        rig.poll();
        let enters = rig.driver().counters().enters;
        let sent = rig.submit(send(&far, *b"x", true));
        let unparker = rig.driver().unparker();
        let waits = std::thread::spawn(move || {
            let mut byte = [0];
            near.read_exact(&mut byte).unwrap();
            unparker.unpark();
        });
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.result(sent), 1);
        assert_eq!(rig.driver().counters().enters, enters + 1);
        waits.join().unwrap();
    }

    fn an_urgent_one_forbids_sleeping(rig = options()) {
        let (mut near, far) = tcp_pair().unwrap();
        let sent = rig.send_now(&fd(far), *b"x");
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.result(sent), 1);
        near.read_exact(&mut [0]).unwrap();
    }

    fn a_message_costs_one_enter(rig = options()) {
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        rig.poll();
        let mut echo = |rig: &mut Rig| {
            near.write_all(b"hello").unwrap();
            while rig.pending() == 0 {
                rig.park(Park::Forever);
            }
            let event = rig.take_all().pop().unwrap();
            assert_eq!(event.key, reads);
            let sent = rig.submit(Op::Send {
                fd: far.clone(),
                data: gather([event.lease.unwrap()]),
                inline: true,
                urgent: false,
            });
            // The answer goes out with the enter that waits for the next message. Before its
            // completion, so that the buffer is back when the message is handled.
            near.write_all(b"again").unwrap();
            rig.park(Park::Forever);
            let events = rig.take_all();
            assert_eq!(events[0].key, sent);
            assert_eq!(events[0].result, 5);
            assert_eq!(events[1].key, reads);
            near.read_exact(&mut [0; 5]).unwrap();
        };
        echo(rig);
        let before = rig.driver().counters();
        for _ in 0..100 {
            echo(rig);
        }
        let after = rig.driver().counters();
        assert_eq!(after.enters - before.enters, 200);
        assert_eq!(after.submitted - before.submitted, 100);
        assert_eq!(after.completed - before.completed, 300);
    }

    fn a_partial_or_refused_one_ends_the_wait(rig = options()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let bytes = pattern(4 << 20);
        // Not urgent: its own completion ends the wait.
        let partial = rig.submit(send(&far, bytes.clone(), true));
        assert_eq!(rig.park(Park::Forever), 1);
        let taken = usize::try_from(rig.result(partial)).unwrap();
        assert!(taken > 0 && taken < bytes.len());
        let refused = rig.submit(send(&far, *b"more", true));
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.result(refused), -libc::EAGAIN);
        // What the socket took is what arrives, to the byte.
        drop(far);
        let mut arrived = Vec::new();
        near.read_to_end(&mut arrived).unwrap();
        assert!(arrived == bytes[..taken]);
    }

    fn one_that_waits_is_armed_until_there_is_room(rig = options()) {
        let (mut near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let before = rig.fill(&far);
        let waits = rig.submit(send(&far, *b"late", false));
        rig.settle();
        assert!(rig.try_take(waits).is_none());
        let mut rest = vec![0; before];
        near.read_exact(&mut rest).unwrap();
        assert_eq!(rig.result(waits), 4);
        let mut late = [0; 4];
        near.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"late");
    }

    fn a_dead_peer_is_an_error_and_no_signal(rig = options()) {
        let (near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        drop(near);
        for inline in [true, false] {
            let sent = rig.submit(send(&far, *b"x", inline));
            assert_eq!(rig.park(Park::Forever), 1);
            assert_eq!(rig.result(sent), -libc::EPIPE);
        }
    }

    fn many_chunks_are_one_send(rig = options()) {
        let (mut near, far) = tcp_pair().unwrap();
        let far = fd(far);
        let bytes = pattern(3000);
        let chunks = bytes.chunks(2).map(<[u8]>::to_vec);
        let sent = rig.submit(Op::Send {
            fd: far,
            data: gather(chunks),
            inline: true,
            urgent: true,
        });
        rig.poll();
        // 1024 vectors are the kernel's limit; the rest is the next send's.
        assert_eq!(rig.result(sent), 2048);
        let mut arrived = vec![0; 2048];
        near.read_exact(&mut arrived).unwrap();
        assert!(arrived == bytes[..2048]);
    }

    fn an_empty_one_sends_nothing(rig = options()) {
        let (_near, far) = tcp_pair().unwrap();
        let far = fd(far);
        for data in [gather::<Vec<u8>>([]), gather([vec![]])] {
            let sent = rig.submit(Op::Send {
                fd: far.clone(),
                data,
                inline: true,
                urgent: true,
            });
            rig.poll();
            assert_eq!(rig.result(sent), 0);
        }
    }

    /// A full completion queue hides failures: they must come out before silence is believed.
    fn failures_behind_an_overflow_are_not_taken_for_success(rig = tiny()) {
        let mut sockets: Vec<(UnixStream, Fd)> = (0..64)
            .map(|_| UnixStream::pair().map(|(near, far)| (near, fd(far))).unwrap())
            .collect();
        let mut expected: Vec<usize> = sockets.iter().map(|(_, far)| rig.fill(far)).collect();
        // Every second one has room again.
        for ((near, _), expected) in sockets.iter_mut().zip(&mut expected).step_by(2) {
            near.read_exact(&mut vec![0; *expected]).unwrap();
            *expected = 0;
        }
        let before = rig.driver().counters();
        let sent: Vec<Key> = sockets
            .iter()
            .map(|(_, far)| rig.submit(send(far, *b"small", true)))
            .collect();
        rig.park(Park::Poll);
        let after = rig.driver().counters();
        assert!(after.sq_full > before.sq_full);
        assert!(after.cq_overflow > before.cq_overflow, "the test needs an overflow");
        for (number, key) in sent.into_iter().enumerate() {
            // All of them are settled by the park that submitted them.
            let event = rig.try_take(key).expect("settled");
            let result = if number % 2 == 0 { 5 } else { -libc::EAGAIN };
            assert_eq!(event.result, result, "socket {number}");
        }
    }

    /// The same with everything at once, every byte checked.
    fn nothing_is_lost_or_doubled_under_overflow(rig = tiny()) {
        const SOCKETS: usize = 24;
        const TOTAL: usize = 3 << 20;
        const PIECE: usize = 700_000;
        let bytes = pattern(TOTAL);
        let mut sockets = Vec::new();
        for number in 0..SOCKETS {
            let (near, far) = if number % 2 == 0 {
                UnixStream::pair().map(|(near, far)| (Reader::Unix(near), fd(far))).unwrap()
            } else {
                tcp_pair().map(|(near, far)| (Reader::Tcp(near), fd(far))).unwrap()
            };
            sockets.push((near, far, 0usize));
        }
        let readers: Vec<_> = sockets
            .iter_mut()
            .map(|(near, ..)| {
                let mut near = std::mem::replace(near, Reader::Gone);
                std::thread::spawn(move || near.read_all())
            })
            .collect();
        // At most one send in flight per socket: inline first, and what it did not take by one
        // that waits.
        let mut flying: Vec<(Key, usize)> = Vec::new();
        let next = |rig: &mut Rig, at: usize, fd: &Fd, sent: usize, inline: bool| {
            let end = (sent + PIECE).min(TOTAL);
            (rig.submit(send(fd, &bytes[sent..end], inline)), at)
        };
        for (at, (_, far, _)) in sockets.iter().enumerate() {
            flying.push(next(rig, at, far, 0, true));
        }
        let mut partly = 0;
        while !flying.is_empty() {
            rig.park(Park::Poll);
            let mut still = Vec::new();
            for (key, at) in flying {
                let Some(event) = rig.try_take(key) else {
                    still.push((key, at));
                    continue;
                };
                let (_, far, sent) = &mut sockets[at];
                let inline = match event.result {
                    0.. => {
                        let rest = (TOTAL - *sent).min(PIECE);
                        partly += usize::from((event.result as usize) < rest);
                        *sent += event.result as usize;
                        true
                    }
                    result => {
                        assert_eq!(result, -libc::EAGAIN);
                        false
                    }
                };
                if *sent < TOTAL {
                    let (far, sent) = (far.clone(), *sent);
                    still.push(next(rig, at, &far, sent, inline));
                }
            }
            flying = still;
        }
        drop(sockets);
        for reader in readers {
            assert!(reader.join().unwrap() == bytes);
        }
        let counters = rig.driver().counters();
        assert!(counters.cq_overflow > 0, "the test needs overflows: {counters:?}");
        assert!(counters.sq_full > 0, "the test needs a full queue: {counters:?}");
        assert!(partly > 0, "the test needs sends that were partly taken");
    }
}

enum Reader {
    Unix(UnixStream),
    Tcp(TcpStream),
    Gone,
}

impl Reader {
    fn read_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Unix(stream) => stream.read_to_end(&mut bytes).map(drop).unwrap(),
            Self::Tcp(stream) => stream.read_to_end(&mut bytes).map(drop).unwrap(),
            Self::Gone => {}
        }
        bytes
    }
}
