//! The end: drains, leaks instead of freeing, and leaves a forked child alone.
//!
//! Not on both drivers: it is about one.

use std::io::Write;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use ringloop::driver::uring::{UringDriver, UringOptions};
use ringloop::driver::{
    BUFFER_SIZE, Completions, Driver, Engine, Op, OpTable, Park, SEGMENT_BUFFERS, Target,
};
use uring_tests::drive::{Rig, fd, tcp_pair};
use uring_tests::isolated;
use uring_tests::{forked, on_one_driver, with_rig};

use crate::exercise;

fn options() -> UringOptions {
    UringOptions::default()
}

with_rig! { Uring:
    /// A read of an empty pipe stands in a worker thread of the kernel; even that comes back.
    fn a_worker_is_interrupted(rig = options()) {
        let (reader, _writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let reader = fd(reader);
        let key = rig.submit(Op::read_at(reader, vec![0; 16], 0));
        rig.settle();
        rig.cancel(key);
        assert_eq!(rig.result(key), -libc::ECANCELED);
    }

    fn parks_fail_after_the_end(rig = options()) {
        rig.close();
        let park = rig.engine.turn(Park::Poll);
        assert_eq!(park.unwrap_err().raw_os_error(), Some(libc::ESHUTDOWN));
        let mut driver = UringDriver::new(options()).unwrap();
        let unparker = driver.unparker();
        driver.shut_down(0);
        let park = driver.park(&mut OpTable::new(), Park::Poll, &mut Completions::new());
        assert_eq!(park.unwrap_err().raw_os_error(), Some(libc::ESHUTDOWN));
        // A wake after the end is harmless.
        unparker.unpark();
    }

    fn leases_outlive_the_driver(rig = options()) {
        let (mut near, far) = tcp_pair().unwrap();
        let key = rig.submit(Op::RecvMulti { fd: fd(far) });
        near.write_all(&[7; 5000]).unwrap();
        let lease = rig.wait(key).lease.unwrap();
        let len = lease.len();
        let next = Rig::from(options());
        let old = std::mem::replace(rig, next);
        drop(old);
        assert!(lease.iter().all(|byte| *byte == 7));
        let bytes = lease.into_bytes();
        assert_eq!(bytes.len(), len);
        std::thread::spawn(move || drop(bytes)).join().unwrap();
    }
}

/// Bytes of private writable memory that this process has mapped.
fn mapped() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: usize = statm.split(' ').nth(5).unwrap().parse().unwrap();
    pages * 4096
}

/// Whether any mapping of this process covers the address.
fn is_mapped(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    maps.lines().any(|line| {
        let range = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [range.0, range.1].map(|hex| usize::from_str_radix(hex, 16).unwrap());
        (start..end).contains(&address)
    })
}

on_one_driver! { Uring:
    /// A driver that ends with operations in flight: the table and the pool leak what the kernel may
    /// still write to. One that was drained leaks nothing.
    fn what_did_not_come_back_is_leaked() {
        isolated(|| {
            a_drained_driver_unmaps_its_buffers();
            a_driver_with_operations_in_flight_leaks();
        });
    }
}

fn a_drained_driver_unmaps_its_buffers() {
    let (mut near, far) = tcp_pair().unwrap();
    let mut rig = Rig::from(options());
    let key = rig.submit(Op::RecvMulti { fd: fd(far) });
    near.write_all(&[7]).unwrap();
    let lease = rig.wait(key).lease.unwrap();
    let buffer = lease.as_ptr() as usize;
    drop(lease);
    rig.close();
    assert!(is_mapped(buffer), "the driver is still there");
    drop(rig);
    assert!(!is_mapped(buffer), "a drained driver leaks");
}

fn a_driver_with_operations_in_flight_leaks() {
    const SEGMENT: usize = SEGMENT_BUFFERS * BUFFER_SIZE;
    const BUFFER: usize = 1 << 20;
    const RUNS: usize = 20;
    let run = |closed: bool| {
        let (_near, far) = tcp_pair().unwrap();
        let driver = UringDriver::new(options()).unwrap();
        let mut engine = Engine::new(Box::new(driver));
        let op = Op::recv(fd(far), vec![0; BUFFER]);
        engine.start(op, Target::Orphan);
        engine.turn(Park::Poll).unwrap();
        if closed {
            // No time to give anything back.
            assert_eq!(engine.close(0), ["recv"]);
        }
    };
    for closed in [true, false] {
        let before = mapped();
        (0..RUNS).for_each(|_| run(closed));
        let growth = mapped() - before;
        assert!(growth >= (SEGMENT + BUFFER) * RUNS, "{closed}: {growth}");
    }
}

on_one_driver! { Uring:
    /// In a forked child neither a park nor a drop disturbs the parent's ring.
    fn a_forked_child_leaves_the_ring_alone() {
        isolated(|| {
            let mut ours = Rig::from(options());
            let (mut near, far) = tcp_pair().unwrap();
            let key = ours.submit(Op::RecvMulti { fd: fd(far) });
            ours.poll();
            forked(|| in_the_child(&mut ours));
            // The parent's receive is armed still, its buffers and its queues work.
            near.write_all(b"after the fork").unwrap();
            assert_eq!(ours.receive(key, 14), b"after the fork");
            exercise(&mut ours);
        });
    }
}

/// What a loop of the parent would do when the child ends it.
fn in_the_child(rig: &mut Rig) {
    let key = rig.submit(Op::Nop);
    rig.cancel(key);
    assert!(!rig.driver().wants_poll());
    assert!(rig.engine.turn(Park::Forever).is_err());
    assert_eq!(rig.give_up(1_000_000_000).len(), 2);
}

on_one_driver! { Uring:
    /// Nothing stays open.
    fn descriptors_are_closed() {
        isolated(|| {
            let before = uring_tests::open_fds();
            let mut ours = Rig::from(options());
            exercise(&mut ours);
            ours.close();
            // The driver lives, its ring is closed.
            let rings = std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
                .filter(|link| link.to_string_lossy().contains("io_uring"));
            assert_eq!(rings.count(), 0);
            assert!(!ours.driver().wants_poll());
            let key = ours.submit(Op::Nop);
            ours.cancel(key);
            drop(ours);
            assert_eq!(uring_tests::open_fds(), before);
        });
    }
}
