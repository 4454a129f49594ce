//! Receives without a buffer: the pool grows, then they are parked, counted, served in turn.
//!
//! Not on both drivers: it is about one.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;

use ringloop::driver::uring::UringOptions;
use ringloop::driver::{BUFFER_SIZE, Key, Lease, Op, Park, SEGMENT_BUFFERS};
use uring_tests::drive::{Rig, fd, pattern, tcp_pair};
use uring_tests::lab::{this_thread, wait_until_asleep};
use uring_tests::{Rng, with_rig};

fn buffers(buffers: usize) -> UringOptions {
    UringOptions {
        buffers,
        ..UringOptions::default()
    }
}

/// So many connected sockets, with a multishot receive on each.
fn receives(rig: &mut Rig, count: usize) -> Vec<(TcpStream, Key)> {
    let pair = |rig: &mut Rig| {
        let (near, far) = tcp_pair().unwrap();
        (near, rig.submit(Op::RecvMulti { fd: fd(far) }))
    };
    let pairs = (0..count).map(|_| pair(rig)).collect();
    rig.poll();
    pairs
}

/// Polls until nothing more comes and nothing is wanted.
fn rest(rig: &mut Rig) {
    while rig.poll() > 0 || rig.driver().wants_poll() {}
}

with_rig! { Uring:
    fn the_pool_grows_before_anybody_waits(rig = buffers(1024)) {
        let mut peers = receives(rig, 2 * SEGMENT_BUFFERS);
        assert_eq!(rig.driver().pool().size(), SEGMENT_BUFFERS);
        for (near, _) in &mut peers {
            near.write_all(b"held").unwrap();
        }
        rest(rig);
        let events = rig.take_all();
        assert_eq!(events.len(), peers.len());
        assert!(rig.driver().pool().size() > SEGMENT_BUFFERS);
        assert_eq!(rig.driver().pool().lent(), peers.len());
        assert_eq!(rig.driver().counters().parked_receives, 0);
        drop(events);
        assert_eq!(rig.driver().pool().lent(), 0);
    }

    /// What is received in one park should still be warm when it is sent: one segment of full buffers is
    /// enough, and receives that find none wait for the next park. It takes many leases that are kept to
    /// make it grow.
    fn full_buffers_do_not_make_the_pool_grow(rig = buffers(1024)) {
        let mut peers = receives(rig, 32);
        for (near, _) in &mut peers {
            near.write_all(&[1; 4 * BUFFER_SIZE]).unwrap();
        }
        let mut missing = peers.len() * 4 * BUFFER_SIZE;
        let mut kept = None;
        while missing > 0 {
            rig.poll();
            for event in rig.take_all() {
                missing -= event.lease.as_ref().unwrap().len();
                kept.get_or_insert(event);
            }
        }
        assert!(rig.driver().counters().parked_receives > 0);
        assert_eq!(rig.driver().pool().size(), SEGMENT_BUFFERS);
    }

    fn parked_receives_go_on_when_leases_are_dropped(rig = buffers(4)) {
        let mut peers = receives(rig, 8);
        for (number, (near, _)) in peers.iter_mut().enumerate() {
            near.write_all(&[number as u8; 10]).unwrap();
        }
        rest(rig);
        let first = rig.take_all();
        assert_eq!(first.len(), 4);
        assert_eq!(rig.driver().counters().parked_receives, 4);
        assert!(!rig.driver().pool().has_room());
        assert!(!rig.driver().wants_poll());
        let mut seen: Vec<u8> = first.iter().map(|event| event.lease.as_ref().unwrap()[0]).collect();
        drop(first);
        // The buffers are back: those who waited get them.
        assert!(rig.driver().wants_poll());
        while seen.len() < 8 {
            rig.park(Park::Forever);
            seen.extend(rig.take_all().iter().map(|event| event.lease.as_ref().unwrap()[0]));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..8).collect::<Vec<u8>>());
    }

    fn a_buffer_given_back_by_another_thread_wakes_the_park(rig = buffers(4)) {
        let mut peers = receives(rig, 1);
        let (mut near, key) = peers.pop().unwrap();
        near.write_all(&[1; 4 * BUFFER_SIZE]).unwrap();
        let mut taken = Vec::new();
        while rig.driver().pool().lent() < 4 {
            rig.park(Park::Forever);
            taken.extend(rig.take_all().into_iter().map(|event| event.lease.unwrap().into_bytes()));
        }
        let mut missing = 4 * BUFFER_SIZE - taken.iter().map(|bytes| bytes.len()).sum::<usize>();
        near.write_all(b"late").unwrap();
        rest(rig);
        assert!(rig.try_take(key).is_none());
        let sleeper = this_thread();
        let other = std::thread::spawn(move || {
            wait_until_asleep(sleeper);
            drop(taken);
        });
        missing += 4;
        let bytes = rig.receive(key, missing);
        assert!(bytes.ends_with(b"late"));
        other.join().unwrap();
    }

    fn a_parked_receive_can_be_cancelled(rig = buffers(1)) {
        let mut peers = receives(rig, 2);
        for (near, _) in &mut peers {
            near.write_all(b"x").unwrap();
        }
        rest(rig);
        let held = rig.take_all();
        assert_eq!(held.len(), 1);
        let parked = peers.iter().find(|(_, key)| *key != held[0].key).unwrap().1;
        rig.cancel(parked);
        // Completes without the kernel, and ends the wait.
        assert_eq!(rig.park(Park::Forever), 1);
        assert_eq!(rig.result(parked), -libc::ECANCELED);
        drop(held);
        rest(rig);
        assert!(rig.try_take(parked).is_none());
    }

    /// An empty pool makes even a receive without data fail at once; it must not spin.
    fn a_receive_without_data_waits_for_data(rig = buffers(1)) {
        let mut peers = receives(rig, 1);
        let (near, _) = &mut peers[0];
        near.write_all(b"x").unwrap();
        rest(rig);
        let held = rig.take_all();
        assert_eq!(held.len(), 1);
        let mut quiet = receives(rig, 3);
        rest(rig);
        assert!(rig.driver().counters().parked_receives >= 3);
        drop(held);
        rest(rig);
        let enters = rig.driver().counters().enters;
        assert!(!rig.driver().wants_poll());
        // At most one buffer's worth of them was armed; the others follow as it comes back.
        for (near, key) in &mut quiet {
            near.write_all(b"y").unwrap();
            assert_eq!(rig.receive(*key, 1), b"y");
        }
        assert!(rig.driver().counters().enters - enters < 30);
    }

    fn nothing_is_lost_with_four_buffers_and_many_connections(rig = buffers(4)) {
        const LEN: usize = 100_000;
        let mut random = Rng::new();
        let bytes = pattern(LEN);
        let peers = receives(rig, 64);
        let mut arrived = vec![Vec::new(); peers.len()];
        let keys: Vec<Key> = peers.iter().map(|(_, key)| *key).collect();
        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            let mut random = random.clone();
            let mut near: Vec<_> = peers.into_iter().map(|(near, _)| (near, 0)).collect();
            move || {
                while !near.is_empty() {
                    let at = random.below(near.len());
                    let (stream, sent) = &mut near[at];
                    let end = (*sent + 1 + random.below(9000)).min(LEN);
                    stream.write_all(&bytes[*sent..end]).unwrap();
                    *sent = end;
                    if end == LEN {
                        near.swap_remove(at);
                    }
                }
            }
        });
        let mut held: VecDeque<Lease> = VecDeque::new();
        let mut open = keys.len();
        while open > 0 {
            // With every buffer held nothing can come: hold three at most while waiting.
            rig.park(Park::Forever);
            for event in rig.take_all() {
                let at = keys.iter().position(|key| *key == event.key).unwrap();
                match event.lease {
                    Some(lease) => {
                        arrived[at].extend_from_slice(&lease);
                        held.push_back(lease);
                    }
                    None => {
                        assert_eq!((event.result, event.more), (0, false));
                        open -= 1;
                    }
                }
            }
            while held.len() > random.below(4) {
                held.pop_front();
            }
        }
        writer.join().unwrap();
        for arrived in arrived {
            assert!(arrived == bytes);
        }
        let counters = rig.driver().counters();
        println!("{counters:?}");
        assert!(counters.parked_receives > 0, "the test needs parked receives");
        assert_eq!(rig.driver().pool().refused(), 0);
        drop(held);
        assert_eq!(rig.driver().pool().lent(), 0);
    }
}
