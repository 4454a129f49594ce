//! FLOW: when writing pauses and resumes.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use ringloop::WriteLimits;
use uring_tests::lab::{Lab, lab};
use uring_tests::on_both_drivers;

use crate::recorder::Call::{Lost, Made, Pause, Resume};
use crate::recorder::Recorder;
use crate::sockets::{FLOOD, Pair, clogged, connected, pattern, unix_pair};

/// No limit that a test reaches.
const HIGH: Option<usize> = Some(1 << 30);

fn limits(high: usize, low: usize) -> WriteLimits {
    WriteLimits { high, low }
}

/// A connection whose socket is full and takes nothing more; how many bytes wait.
async fn full(lab: &Lab) -> (Rc<Recorder>, Rc<Recorder>, usize) {
    let (near, far) = clogged(lab, Pair::Unix).await;
    let transport = near.transport();
    transport.set_write_buffer_limits(HIGH, Some(0)).unwrap();
    transport.write(&pattern(FLOOD)).unwrap();
    lab.settle().await;
    assert_eq!(near.calls(), [Made]);
    let unsent = transport.get_write_buffer_size();
    assert!(unsent > 0);
    (near, far, unsent)
}

/// The far end reads everything, then both end.
async fn finish(near: &Recorder, far: &Recorder) {
    far.transport().resume_reading();
    near.transport().close();
    near.wait(Lost).await;
    far.wait(Lost).await;
}

on_both_drivers! {
    fn flow_01_limits(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far, unsent) = full(&lab).await;
            let transport = near.transport();
            let set = |high, low| transport.set_write_buffer_limits(high, low);
            set(None, None).unwrap();
            assert_eq!(transport.get_write_buffer_limits(), limits(65_536, 16_384));
            // That was lowering them below what waits.
            assert_eq!(near.calls(), [Made, Pause]);
            set(Some(1_001), None).unwrap();
            assert_eq!(transport.get_write_buffer_limits(), limits(1_001, 250));
            set(None, Some(1_001)).unwrap();
            assert_eq!(transport.get_write_buffer_limits(), limits(4_004, 1_001));
            set(Some(0), None).unwrap();
            assert_eq!(transport.get_write_buffer_limits(), limits(0, 0));
            set(Some(5), Some(5)).unwrap();
            let error = set(Some(5), Some(6)).unwrap_err();
            assert_eq!(error.to_string(), "high (5) must be at least low (6)");
            assert_eq!(transport.get_write_buffer_limits(), limits(5, 5));
            assert_eq!(near.calls(), [Made, Pause]);
            assert_eq!(transport.get_write_buffer_size(), unsent);
            finish(&near, &far).await;
            // They can be asked for and set after the end.
            set(Some(7), None).unwrap();
            assert_eq!(transport.get_write_buffer_limits(), limits(7, 1));
            assert_eq!(near.calls(), [Made, Pause, Resume, Lost]);
        });
    }

    /// The default limits of a new transport.
    fn flow_01_defaults(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = connected(&lab, Pair::Tcp).await;
            let found = near.transport().get_write_buffer_limits();
            assert_eq!(found, limits(65_536, 16_384));
            finish(&near, &far).await;
        });
    }

    /// At the high mark nothing happens, one byte more pauses, once.
    fn flow_02_pause_strictly_above(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far, unsent) = full(&lab).await;
            let transport = near.transport();
            transport.set_write_buffer_limits(Some(unsent + 100), Some(0)).unwrap();
            transport.write(&[1; 60]).unwrap();
            transport.write(&[2; 40]).unwrap();
            assert_eq!(transport.get_write_buffer_size(), unsent + 100);
            lab.settle().await;
            assert_eq!(near.calls(), [Made]);
            transport.write(&[3]).unwrap();
            // Inside the write.
            assert_eq!(near.calls(), [Made, Pause]);
            transport.write(&[4; 1_000]).unwrap();
            lab.settle().await;
            assert_eq!(near.calls(), [Made, Pause]);
            finish(&near, &far).await;
            assert_eq!(near.calls(), [Made, Pause, Resume, Lost]);
        });
    }

    /// At the low mark it resumes, a byte above it does not. What waits behind a send in flight is
    /// exactly what is left when that is done.
    fn flow_02_resume_at_or_below(kind: DriverKind) {
        lab(kind, |lab| async move {
            for (low, resumed_at) in [(1_000, 1_000), (999, 0), (0, 0), (1_001, 1_000)] {
                let (near, far, _) = full(&lab).await;
                let transport = near.transport();
                transport.write(&[7; 1_000]).unwrap();
                transport.set_write_buffer_limits(Some(2_000), Some(low)).unwrap();
                assert_eq!(near.calls(), [Made, Pause]);
                let size = Rc::new(Cell::new(None));
                let seen = size.clone();
                near.hook(move |me, call| {
                    if call == Resume {
                        let size = me.transport().get_write_buffer_size();
                        assert_eq!(seen.replace(Some(size)), None);
                    }
                });
                far.transport().resume_reading();
                far.wait_received(FLOOD + 1_000).await;
                lab.settle().await;
                assert_eq!(size.get(), Some(resumed_at), "low mark {low}");
                finish(&near, &far).await;
                assert_eq!(near.calls(), [Made, Pause, Resume, Lost]);
            }
        });
    }

    /// The peer makes room before the loop asks: the socket takes the rest at once, and nothing else
    /// happens in the loop.
    fn flow_02_resume_with_no_other_event(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            far.set_nonblocking(true).unwrap();
            let recorder = Recorder::new();
            let transport = lab.transport(near, recorder.clone()).await;
            transport.set_write_buffer_limits(Some(1_000), Some(0)).unwrap();
            transport.pause_reading();
            lab.idle().await;
            while !recorder.has(Pause) {
                transport.write(&pattern(5_000)).unwrap();
            }
            let mut read = vec![0; FLOOD];
            while far.read(&mut read).is_ok() {}
            recorder.wait(Resume).await;
            assert_eq!(transport.get_write_buffer_size(), 0);
            transport.close();
            recorder.wait(Lost).await;
            assert_eq!(recorder.calls(), [Made, Pause, Resume, Lost]);
        });
    }

    /// Again and again, a write in each callback.
    fn flow_02_they_alternate(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                near.transport().set_write_buffer_limits(Some(100), Some(10)).unwrap();
                let written = Rc::new(Cell::new(0));
                let count = written.clone();
                near.hook(move |me, call| {
                    let len = match call {
                        Pause => 50,
                        Resume if count.get() < 4 * FLOOD => FLOOD,
                        _ => return,
                    };
                    count.set(count.get() + len);
                    me.transport().write(&pattern(FLOOD)[..len]).unwrap();
                });
                near.transport().write(&pattern(FLOOD)).unwrap();
                far.until(|me| me.received() >= 5 * FLOOD).await;
                far.wait_received(FLOOD + written.get()).await;
                finish(&near, &far).await;
                let mut calls = vec![Made];
                calls.extend([Pause, Resume].repeat(near.count(Pause)));
                calls.push(Lost);
                assert_eq!(near.calls(), calls);
                assert!(near.count(Pause) >= 4);
                assert_eq!(far.received(), FLOOD + written.get());
            }
        });
    }

    /// Much more than the high mark, all of which the socket takes.
    fn flow_03_what_the_socket_takes_at_once_does_not_count(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                for high in [0, 1, 1_000] {
                    let (near, far) = clogged(&lab, pair).await;
                    let transport = near.transport();
                    transport.set_write_buffer_limits(Some(high), Some(0)).unwrap();
                    transport.write(&pattern(10_000)).unwrap();
                    assert_eq!(transport.get_write_buffer_size(), 0);
                    lab.settle().await;
                    // Behind what waits for the end of the iteration.
                    transport.write(&[1; 1]).unwrap();
                    transport.write(&[2; 1_000]).unwrap();
                    lab.settle().await;
                    assert_eq!(near.calls(), [Made]);
                    far.transport().resume_reading();
                    far.wait_received(11_001).await;
                    let sent = [&pattern(10_000), &[1][..], &[2; 1_000]].concat();
                    assert!(far.data() == sent);
                    finish(&near, &far).await;
                }
            }
        });
    }

    /// The rest counts, within the same call.
    fn flow_03_only_the_rest_counts(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            transport.write(&pattern(FLOOD)).unwrap();
            let rest = transport.get_write_buffer_size();
            assert!(0 < rest && rest < FLOOD, "{rest}");
            assert_eq!(near.calls(), [Made, Pause]);
            lab.settle().await;
            // The socket was full already.
            assert_eq!(transport.get_write_buffer_size(), rest);
            finish(&near, &far).await;
            assert!(far.data() == pattern(FLOOD));
        });
    }

    /// What the socket took in one iteration is gathered in the next, however low the mark is; when it
    /// does not take it then, the end of the iteration pauses.
    fn flow_03_a_socket_that_took_more_is_trusted_once_more(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            transport.set_write_buffer_limits(Some(1_000), Some(0)).unwrap();
            let piece = pattern(20_000);
            transport.write(&piece).unwrap();
            assert_eq!(transport.get_write_buffer_size(), 0, "tried at once");
            let mut written = 1;
            loop {
                lab.settle().await;
                if near.count(Pause) > 0 {
                    break;
                }
                assert_eq!(transport.get_write_buffer_size(), 0);
                transport.write(&piece).unwrap();
                written += 1;
                assert_eq!(transport.get_write_buffer_size(), piece.len(), "trusted");
                assert_eq!(near.calls(), [Made]);
            }
            let rest = transport.get_write_buffer_size();
            assert!(0 < rest && rest <= piece.len(), "{rest}");
            // No trust any more.
            far.transport().resume_reading();
            near.wait(Resume).await;
            far.wait_received(written * piece.len()).await;
            transport.write(&piece).unwrap();
            assert_eq!(transport.get_write_buffer_size(), 0, "tried at once");
            finish(&near, &far).await;
            assert!(far.data() == piece.repeat(written + 1));
            assert_eq!(near.calls(), [Made, Pause, Resume, Lost]);
        });
    }

    /// Twice what it took may wait for the end of the iteration; with more, all is tried.
    fn flow_03_a_socket_is_trusted_with_twice_what_it_took(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            transport.set_write_buffer_limits(Some(1_000), Some(0)).unwrap();
            let piece = pattern(10_000);
            transport.write(&piece).unwrap();
            assert_eq!(transport.get_write_buffer_size(), 0, "tried at once");
            lab.settle().await;
            for waits in [10_000, 20_000, 0] {
                transport.write(&piece).unwrap();
                assert_eq!(transport.get_write_buffer_size(), waits);
            }
            far.transport().resume_reading();
            finish(&near, &far).await;
            assert!(far.data() == piece.repeat(4));
            assert_eq!(near.calls(), [Made, Lost]);
        });
    }

    /// Who never took more than the mark is told in the write, as ever.
    fn flow_03_who_took_no_more_than_the_mark_is_not_trusted_above_it(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            let piece = pattern(10_000);
            transport.set_write_buffer_limits(Some(1_000), Some(0)).unwrap();
            transport.write(&piece).unwrap();
            lab.settle().await;
            transport.set_write_buffer_limits(Some(15_000), Some(0)).unwrap();
            for waits in [10_000, 0] {
                transport.write(&piece).unwrap();
                assert_eq!(transport.get_write_buffer_size(), waits);
            }
            far.transport().resume_reading();
            finish(&near, &far).await;
            assert!(far.data() == piece.repeat(3));
        });
    }

    /// Iterations in which it takes little make the trust smaller, until the piece is tried again.
    fn flow_03_trust_in_a_socket_fades(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            transport.set_write_buffer_limits(Some(1_000), Some(0)).unwrap();
            let piece = pattern(20_000);
            for trusted in [false, true] {
                transport.write(&piece).unwrap();
                assert_eq!(transport.get_write_buffer_size() > 0, trusted);
                lab.settle().await;
            }
            far.transport().resume_reading();
            for sent in 1..=100 {
                transport.write(b".").unwrap();
                far.wait_received(2 * piece.len() + sent).await;
            }
            transport.write(&piece).unwrap();
            assert_eq!(transport.get_write_buffer_size(), 0, "tried at once");
            finish(&near, &far).await;
            assert_eq!(near.calls(), [Made, Lost]);
        });
    }

    /// With a mark of 0 it is not: after every write it is known whether something waits.
    fn flow_03_a_mark_of_zero_trusts_nobody(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            transport.set_write_buffer_limits(Some(0), Some(0)).unwrap();
            let piece = pattern(20_000);
            let mut written = 0;
            while near.count(Pause) == 0 {
                transport.write(&piece).unwrap();
                written += 1;
                let waits = transport.get_write_buffer_size() > 0;
                assert_eq!(waits, near.count(Pause) > 0);
                lab.settle().await;
            }
            far.transport().resume_reading();
            finish(&near, &far).await;
            assert!(written > 1 && far.data() == piece.repeat(written));
        });
    }

    fn flow_04_raising_the_limits_does_not_resume(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far, unsent) = full(&lab).await;
            let transport = near.transport();
            transport.set_write_buffer_limits(Some(unsent - 1), Some(0)).unwrap();
            assert_eq!(near.calls(), [Made, Pause]);
            transport.set_write_buffer_limits(HIGH, HIGH).unwrap();
            lab.settle().await;
            assert_eq!(near.calls(), [Made, Pause]);
            // The next bytes that go do, far above the old mark.
            far.transport().resume_reading();
            near.wait(Resume).await;
            finish(&near, &far).await;
            assert_eq!(near.calls(), [Made, Pause, Resume, Lost]);
        });
    }

    fn flow_05_failing_callbacks_are_reported(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            near.hook(|_, call| assert!(!matches!(call, Pause | Resume), "a bug"));
            for round in 1..=2 {
                near.transport().write(&pattern(FLOOD)).unwrap();
                assert_eq!(lab.messages(), ["protocol.pause_writing() failed"]);
                far.transport().resume_reading();
                far.wait_received(round * FLOOD).await;
                near.until(|me| me.count(Resume) == round).await;
                far.transport().pause_reading();
                lab.settle().await;
                assert_eq!(lab.messages(), ["protocol.resume_writing() failed"]);
            }
            finish(&near, &far).await;
            assert_eq!(near.calls(), [Made, Pause, Resume, Pause, Resume, Lost]);
            assert_eq!(near.lost_with(), None);
            assert!(far.data() == pattern(FLOOD).repeat(2));
        });
    }
}
