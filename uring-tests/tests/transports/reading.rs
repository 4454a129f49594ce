//! Reading: TSO-01 to TSO-06, PRO-01 to PRO-03, PRO-10.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use ringloop::{EventLoopExt, Lease};
use uring_tests::lab::{Lab, lab, lab_on};
use uring_tests::net::reset_on_close;
use uring_tests::on_both_drivers;
use uring_tests::signals::Storm;

use crate::recorder::Call::{Data, Eof, Lost, Made};
use crate::recorder::Recorder;
use crate::sockets::{FLOOD, Pair, connected, pattern, tcp_pair, unix_pair};
use crate::tamper;

/// What the protocol of `near` has received while `far` wrote this and reading is paused.
async fn unheard(lab: &Lab, near: &Recorder, far: &Recorder, bytes: &[u8]) -> usize {
    let before = near.received();
    far.transport().write(bytes).unwrap();
    lab.settle().await;
    near.received() - before
}

on_both_drivers! {
    fn tso_01_pause_and_resume(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                let transport = near.transport();
                assert!(transport.is_reading());
                for _ in 0..3 {
                    transport.pause_reading();
                    transport.pause_reading();
                    assert!(!transport.is_reading());
                    // The pause itself may come after the data, never after the settling.
                    lab.settle().await;
                    assert_eq!(unheard(&lab, &near, &far, b"held back").await, 0);
                    let before = near.received();
                    transport.resume_reading();
                    transport.resume_reading();
                    assert!(transport.is_reading());
                    near.wait_received(before + 9).await;
                }
                assert_eq!(near.data(), b"held backheld backheld back");
                transport.close();
                assert!(!transport.is_reading());
                transport.pause_reading();
                transport.resume_reading();
                assert!(!transport.is_reading());
                near.wait(Lost).await;
                transport.pause_reading();
                transport.resume_reading();
                assert!(!transport.is_reading());
                far.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Data, Lost]);
            }
        });
    }

    fn tso_02_pro_10_pause_in_connection_made(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            far.write_all(b"early").unwrap();
            let near_end = Recorder::with(|me, call| {
                if call == Made {
                    me.transport().pause_reading();
                }
            });
            let transport = lab.transport(near, near_end.clone()).await;
            assert!(!transport.is_reading());
            lab.settle().await;
            assert_eq!(lab.stats().live_operations, 0, "nothing was armed");
            assert_eq!(near_end.calls(), [Made]);
            transport.resume_reading();
            near_end.wait(Data).await;
            assert_eq!(near_end.data(), b"early");
            drop(far);
            near_end.wait(Lost).await;
        });
    }

    /// A pause that is taken back inside `connection_made` is none.
    fn tso_02_pause_and_resume_in_connection_made(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            far.write_all(b"early").unwrap();
            let core = lab.core().clone();
            let recorder = Recorder::with(move |me, call| {
                if call == Made {
                    me.transport().pause_reading();
                    me.transport().resume_reading();
                    // Reading starts after this callback, whatever it does.
                    assert_eq!(core.stats().live_operations, 0);
                }
            });
            let transport = lab.transport(near, recorder.clone()).await;
            recorder.wait(Data).await;
            assert_eq!(recorder.data(), b"early");
            transport.close();
            recorder.wait(Lost).await;
        });
    }

    fn tso_03_pro_02_data_is_delivered_in_order(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                let data = pattern(FLOOD);
                far.transport().write(&data).unwrap();
                near.wait_received(FLOOD).await;
                // Armed again: one more byte comes through.
                far.transport().write(b"!").unwrap();
                near.wait_received(FLOOD + 1).await;
                far.transport().close();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert!(near.data() == [data, b"!".to_vec()].concat());
                assert_eq!(near.calls(), [Made, Data, Eof, Lost]);
                assert_eq!(near.lost_with(), None);
            }
        });
    }

    /// Signals that interrupt the wait are nobody's error.
    fn tso_03_signals_do_not_break_a_read(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let recorder = Recorder::new();
            lab.transport(near, recorder.clone()).await;
            let storm = Storm::begin();
            let writer = std::thread::spawn(move || {
                for byte in 0..100 {
                    far.write_all(&[byte]).unwrap();
                }
            });
            recorder.wait(Lost).await;
            writer.join().unwrap();
            drop(storm);
            let sent: Vec<u8> = (0..100).collect();
            assert_eq!(recorder.data(), sent);
            assert_eq!(recorder.calls(), [Made, Data, Eof, Lost]);
            assert_eq!(recorder.lost_with(), None);
        });
    }

    fn tso_04_pro_02_eof_closes(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                far.transport().write(b"last words").unwrap();
                far.transport().write_eof().unwrap();
                near.wait(Eof).await;
                assert!(near.transport().is_closing());
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Data, Eof, Lost]);
                assert_eq!(near.data(), b"last words");
                assert_eq!(near.lost_with(), None);
            }
        });
    }

    /// Kept open, it can be written to, says that it reads, and hears of the end once.
    fn tso_04_eof_keeps_open(kind: DriverKind) {
        lab_on(|| tamper::lab(kind), |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = pair.open();
                let (near_end, far_end) = (Recorder::new().keep_open(), Recorder::new());
                let transport = lab.transport(near, near_end.clone()).await;
                let peer = lab.transport(far, far_end.clone()).await;
                peer.write_eof().unwrap();
                near_end.wait(Eof).await;
                assert!(!transport.is_closing() && transport.is_reading());
                let armed = tamper::receives();
                transport.pause_reading();
                transport.resume_reading();
                lab.settle().await;
                assert_eq!(tamper::receives(), armed);
                assert_eq!(near_end.calls(), [Made, Eof]);
                // The peer's receive is all that is armed.
                assert_eq!(lab.stats().live_operations, 1);
                transport.write(b"still here").unwrap();
                far_end.wait_received(10).await;
                transport.close();
                near_end.wait(Lost).await;
                far_end.wait(Lost).await;
                assert_eq!(near_end.calls(), [Made, Eof, Lost]);
            }
        });
    }

    fn tso_05_a_failing_callback_ends_the_connection(kind: DriverKind) {
        lab(kind, |lab| async move {
            for fails in [Data, Eof] {
                let (near, far) = unix_pair();
                let near_end = Recorder::with(move |_, call| assert_ne!(call, fails, "a bug"));
                let near_end = near_end.keep_open();
                let far_end = Recorder::new();
                lab.transport(near, near_end.clone()).await;
                let peer = lab.transport(far, far_end.clone()).await;
                if fails == Data {
                    peer.write(b"x").unwrap();
                } else {
                    peer.write_eof().unwrap();
                }
                near_end.wait(Lost).await;
                assert_eq!(near_end.calls(), [Made, fails, Lost]);
                assert!(near_end.lost_text().contains("a bug"));
                let callback = if fails == Data { "data" } else { "eof" };
                let message = format!("Fatal error: protocol.{callback}_received() call failed.");
                assert_eq!(lab.messages(), [message]);
                far_end.wait(Lost).await;
            }
        });
    }

    fn tso_06_pro_03_a_reset_ends_the_connection(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = tcp_pair();
            let recorder = Recorder::new();
            lab.transport(near, recorder.clone()).await;
            far.write_all(b"before").unwrap();
            recorder.wait_received(6).await;
            reset_on_close(&far);
            drop(far);
            recorder.wait(Lost).await;
            assert_eq!(recorder.calls(), [Made, Data, Lost]);
            assert_eq!(recorder.lost_with(), Some(ErrorKind::ConnectionReset));
        });
    }

    /// Whatever the error, the protocol gets it and the exception handler does not.
    fn tso_06_pro_03_any_read_error_ends_the_connection(kind: DriverKind) {
        for errno in [libc::EIO, libc::ETIMEDOUT, libc::ECONNABORTED, libc::ECANCELED] {
            lab_on(|| tamper::lab(kind), move |lab| async move {
                tamper::next_receive(-errno);
                let (near, _far) = unix_pair();
                let recorder = Recorder::new();
                lab.transport(near, recorder.clone()).await;
                recorder.wait(Lost).await;
                assert_eq!(recorder.calls(), [Made, Lost]);
                let error = std::io::Error::from_raw_os_error(errno);
                assert_eq!(recorder.lost_text(), error.to_string());
            });
        }
    }

    /// The receive that closing cancels is not an error.
    fn pro_03_a_cancelled_read_is_silent(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, _far) = unix_pair();
            let recorder = Recorder::new();
            let transport = lab.transport(near, recorder.clone()).await;
            lab.settle().await;
            assert_eq!(lab.stats().live_operations, 1);
            transport.pause_reading();
            lab.idle().await;
            transport.resume_reading();
            lab.settle().await;
            transport.close();
            recorder.wait(Lost).await;
            assert_eq!(recorder.calls(), [Made, Lost]);
            assert_eq!(recorder.lost_with(), None);
        });
    }

    fn pro_01_one_read_is_armed(kind: DriverKind) {
        lab(kind, |lab| async move {
            let before = lab.stats().live_operations;
            let (near, far) = connected(&lab, Pair::Tcp).await;
            lab.settle().await;
            assert_eq!(lab.stats().live_operations, before + 2);
            assert_eq!(near.calls(), [Made]);
            near.transport().close();
            far.wait(Lost).await;
            near.wait(Lost).await;
        });
    }

    /// A connection that nothing comes from holds no buffer.
    fn pro_01_an_idle_connection_holds_no_buffer(kind: DriverKind) {
        lab(kind, |lab| async move {
            let mut ends = Vec::new();
            for _ in 0..100 {
                ends.push(connected(&lab, Pair::Unix).await);
            }
            lab.settle().await;
            assert_eq!(lab.stats().live_operations, 200);
            assert_eq!(lab.stats().lent_buffers, 0);
            for (near, far) in &ends {
                near.transport().close();
                far.wait(Lost).await;
                near.wait(Lost).await;
            }
        });
    }

    /// What came before the pause took effect is held, with the end behind it, and comes on resume,
    /// however often reading is paused meanwhile.
    fn pro_10_data_and_end_are_held_in_order(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = pair.open();
                // Each delivery pauses; the test resumes.
                let near_end = Recorder::with(|me, call| {
                    if call == Data {
                        me.transport().pause_reading();
                    }
                });
                let transport = lab.transport(near, near_end.clone()).await;
                let data = pattern(200_000);
                let mut sent = data.clone();
                let far = std::thread::spawn(move || {
                    let mut far = std::fs::File::from(far);
                    far.write_all(&sent).unwrap();
                    sent.clear();
                });
                let mut resumed = 0;
                while near_end.received() < data.len() || !near_end.has(Eof) {
                    let deliveries = near_end.deliveries();
                    near_end
                        .until(|me| !me.transport().is_reading() || me.has(Eof))
                        .await;
                    // Paused: not one more.
                    lab.settle().await;
                    assert!(near_end.deliveries() <= deliveries + 1);
                    resumed += 1;
                    transport.resume_reading();
                }
                far.join().unwrap();
                near_end.wait(Lost).await;
                assert!(resumed > 3, "{resumed}");
                assert!(near_end.data() == data);
                assert_eq!(near_end.calls(), [Made, Data, Eof, Lost]);
                assert_eq!(near_end.lost_with(), None);
            }
        });
    }

    /// Resumed in the middle of an iteration, with more of the same iteration to come, data and the
    /// end: that waits behind what is held.
    fn pro_10_what_comes_while_a_delivery_is_queued_waits_behind_it(kind: DriverKind) {
        lab_on(|| tamper::lab(kind), |lab| async move {
            // Three buffers and the end, all of which the kernel has before anybody reads.
            const LEN: usize = 48_000;
            tamper::interleave();
            let ends = [Recorder::new(), Recorder::new()];
            let [paused, other] = ends.clone();
            paused.hook(|me, call| {
                if call == Data && me.deliveries() == 1 {
                    me.transport().pause_reading();
                }
            });
            // Between two deliveries to it, of which the second comes after the resume.
            let target = Rc::downgrade(&paused);
            other.hook(move |me, call| {
                if call == Data && me.deliveries() == 2 {
                    target.upgrade().expect("it lives").transport().resume_reading();
                }
            });
            for end in &ends {
                let (near, mut far) = UnixStream::pair().unwrap();
                far.write_all(&pattern(LEN)).unwrap();
                drop(far);
                let (inner, end) = (lab.clone(), end.clone());
                let make = async move { drop(inner.transport(near, end).await) };
                drop(lab.event_loop.create_task(make).unwrap());
            }
            other.wait(Lost).await;
            // In case that came in several iterations.
            paused.transport().resume_reading();
            paused.wait(Lost).await;
            assert_eq!(paused.calls(), [Made, Data, Eof, Lost]);
            assert!(paused.data() == pattern(LEN));
        });
    }

    /// The end of the stream waits for the resume like everything else.
    fn pro_10_the_end_alone_is_held(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = unix_pair();
            let recorder = Recorder::new();
            let transport = lab.transport(near, recorder.clone()).await;
            lab.settle().await;
            // In one iteration: the receive completes with the end, and then the pause cancels it.
            far.shutdown(Shutdown::Write).unwrap();
            transport.pause_reading();
            lab.settle().await;
            assert_eq!(recorder.calls(), [Made]);
            transport.resume_reading();
            recorder.wait(Lost).await;
            assert_eq!(recorder.calls(), [Made, Eof, Lost]);
        });
    }

    /// An error too.
    fn pro_10_an_error_is_held(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = tcp_pair();
            let recorder = Recorder::with(|me, call| {
                if call == Data {
                    me.transport().pause_reading();
                }
            });
            let transport = lab.transport(near, recorder.clone()).await;
            far.write_all(b"x").unwrap();
            reset_on_close(&far);
            drop(far);
            recorder.wait(Data).await;
            lab.settle().await;
            assert_eq!(recorder.calls(), [Made, Data]);
            transport.resume_reading();
            recorder.wait(Lost).await;
            assert_eq!(recorder.lost_with(), Some(ErrorKind::ConnectionReset));
        });
    }

    /// What is held is dropped by a close, and by an abort.
    fn pro_10_held_data_is_dropped_with_the_connection(kind: DriverKind) {
        lab(kind, |lab| async move {
            for abort in [false, true] {
                let (near, mut far) = tcp_pair();
                let recorder = Recorder::with(|me, call| {
                    if call == Data {
                        me.transport().pause_reading();
                    }
                });
                let transport = lab.transport(near, recorder.clone()).await;
                // More than one buffer: the second is held.
                far.write_all(&pattern(20_000)).unwrap();
                recorder.wait(Data).await;
                lab.settle().await;
                let seen = recorder.received();
                assert!(seen < 20_000);
                transport.resume_reading();
                // The delivery is queued, and too late.
                if abort {
                    transport.abort();
                } else {
                    transport.close();
                }
                recorder.wait(Lost).await;
                assert_eq!(recorder.calls(), [Made, Data, Lost]);
                assert_eq!(recorder.received(), seen);
            }
        });
    }

    /// A paused connection does not take data out of its socket: the peer feels it, the first time
    /// and every time.
    fn pro_10_a_pause_reaches_the_peer(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                for round in 0..3 {
                    near.transport().pause_reading();
                    lab.settle().await;
                    far.transport().write(&pattern(FLOOD)).unwrap();
                    lab.settle().await;
                    assert!(far.transport().get_write_buffer_size() > FLOOD / 2, "{round}");
                    assert_eq!(near.received(), round * FLOOD);
                    assert_eq!(lab.stats().lent_buffers, 0);
                    near.transport().resume_reading();
                    near.wait_received((round + 1) * FLOOD).await;
                }
                assert!(near.data() == pattern(FLOOD).repeat(3));
                far.transport().close();
                near.wait(Lost).await;
                far.wait(Lost).await;
            }
        });
    }

    /// The leases themselves: unread data stays intact while more is received.
    fn pro_02_kept_leases_stay_as_they_were(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = connected(&lab, Pair::Tcp).await;
            let kept: Rc<RefCell<Vec<Lease>>> = Rc::default();
            let keeper = kept.clone();
            near.take_leases(move |_, lease| keeper.borrow_mut().push(lease));
            let data = pattern(FLOOD);
            far.transport().write(&data).unwrap();
            near.wait_received(FLOOD).await;
            let bytes: Vec<u8> = kept.borrow().iter().flat_map(|lease| lease.to_vec()).collect();
            assert!(bytes == data);
            assert_eq!(lab.stats().lent_buffers, kept.borrow().len());
            kept.take();
            assert_eq!(lab.stats().lent_buffers, 0);
            far.transport().close();
            near.wait(Lost).await;
            far.wait(Lost).await;
        });
    }
}
