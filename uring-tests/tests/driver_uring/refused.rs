//! What the kernel refuses to submit stays in the queue, and behind it in the backlog (trap T15).
//!
//! A filter answers `EAGAIN`, as a kernel short of memory does, to every enter that only submits:
//! so nothing gets through between parks, and everything beyond the queue waits in the backlog.
//!
//! Not on both drivers: it is about one.

use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use ringloop::driver::uring::UringOptions;
use ringloop::driver::{Key, Op};
use uring_tests::drive::{Rig, fd, send};
use uring_tests::{on_one_driver, seccomp};

/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;

/// From now on, on this thread, an enter without `GETEVENTS` fails.
fn refuse_early_submits() {
    // Offsets in `struct seccomp_data`: the number of the call, the low half of argument 3.
    const NUMBER: u32 = 0;
    const FLAGS: u32 = 16 + 3 * 8;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let has = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(load, 0, 0, NUMBER),
        step(equal, 0, 3, libc::SYS_io_uring_enter as u32),
        step(load, 0, 0, FLAGS),
        step(has, 1, 0, GETEVENTS),
        step(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    seccomp::install(&mut steps).expect("a filter may be set");
}

/// Runs a test on a thread of its own, with which the filter ends.
fn refused(body: impl FnOnce(&mut Rig) + Send + 'static) {
    let test = std::thread::spawn(|| {
        let mut rig = Rig::from(UringOptions {
            sq_entries: 4,
            ..UringOptions::default()
        });
        refuse_early_submits();
        body(&mut rig);
        rig.close();
    });
    test.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

on_one_driver! { Uring:
    fn the_backlog_runs_in_order() {
        refused(|rig| {
            let (mut near, far) = UnixStream::pair().unwrap();
            let far = fd(far);
            let keys: Vec<Key> = (0..200u8)
                .map(|n| rig.submit(send(&far, [n], false)))
                .collect();
            assert!(rig.driver().wants_poll());
            // One park takes all of it.
            rig.poll();
            assert!(!rig.driver().wants_poll());
            for key in keys {
                assert_eq!(rig.try_take(key).expect("completed").result, 1);
            }
            let mut bytes = [0; 200];
            near.read_exact(&mut bytes).unwrap();
            assert!(bytes.iter().copied().eq(0..200));
            assert!(rig.driver().counters().sq_full >= 190);
        });
    }

    /// Also when the park may sleep: what it would sleep for is in the backlog.
    fn a_park_submits_the_backlog_before_it_sleeps() {
        refused(|rig| {
            let keys: Vec<Key> = (0..50).map(|_| rig.submit(Op::Nop)).collect();
            for key in keys {
                assert_eq!(rig.result(key), 0);
            }
        });
    }

    /// Silence is not believed of a send that the kernel has not seen.
    fn sends_in_the_backlog_are_not_believed() {
        refused(|rig| {
            let (_near, far) = UnixStream::pair().unwrap();
            let far = fd(far);
            let big = rig.submit(send(&far, vec![0; 4 << 20], true));
            rig.poll();
            assert!(rig.result(big) < 4 << 20);
            // The socket is full: each of these fails.
            let keys: Vec<Key> = (0..100)
                .map(|_| rig.submit(send(&far, *b"x", true)))
                .collect();
            rig.poll();
            for key in keys {
                let event = rig
                    .try_take(key)
                    .expect("settled by the park that submitted it");
                assert_eq!(event.result, -libc::EAGAIN);
            }
            assert_eq!(rig.engine.stale(), 0);
        });
    }

    fn a_shutdown_keeps_its_place() {
        refused(|rig| {
            for before in 0..10 {
                let (mut near, far) = UnixStream::pair().unwrap();
                let far = fd(far);
                let mut keys: Vec<Key> = (0..before)
                    .map(|_| rig.submit(send(&far, *b"x", true)))
                    .collect();
                let ended = rig.submit(Op::Shutdown {
                    fd: far.clone(),
                    how: Shutdown::Write,
                });
                let late: Vec<Key> = (0..10)
                    .map(|_| rig.submit(send(&far, *b"y", true)))
                    .collect();
                rig.poll();
                for key in keys.drain(..) {
                    assert_eq!(rig.result(key), 1);
                }
                assert_eq!(rig.result(ended), 0);
                for key in late {
                    assert_eq!(rig.result(key), -libc::EPIPE);
                }
                let mut bytes = Vec::new();
                near.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, vec![b'x'; before]);
            }
        });
    }

    fn a_cancel_in_the_backlog_reaches_its_operation() {
        refused(|rig| {
            let (_near, far) = UnixStream::pair().unwrap();
            let far = fd(far);
            let keys: Vec<Key> = (0..20)
                .map(|_| rig.submit(Op::RecvMulti { fd: far.clone() }))
                .collect();
            for key in &keys {
                rig.cancel(*key);
            }
            for key in keys {
                assert_eq!(rig.result(key), -libc::ECANCELED);
            }
        });
    }
}
