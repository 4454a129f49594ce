//! BUF: protocols that lend their own buffers.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use ringloop::ProtocolKind;
use uring_tests::lab::{lab, lab_on};
use uring_tests::net::reset_on_close;
use uring_tests::on_both_drivers;

use crate::recorder::Call::{Data, Eof, Lost, Made};
use crate::recorder::{Buffered, Recorder};
use crate::sockets::{FLOOD, Pair, pattern, tcp_pair, unix_pair};
use crate::tamper;

on_both_drivers! {
    fn buf_01_get_buffer_then_buffer_updated(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = pair.open();
                let recorder = Recorder::new();
                let buffered = Buffered::new(&recorder, 100_000);
                let transport = lab.transport(near, buffered.kind()).await;
                let mut far = std::fs::File::from(far);
                far.write_all(b"hello").unwrap();
                recorder.wait_received(5).await;
                assert_eq!(recorder.data(), b"hello");
                // asked for once, with what is known: as many as there are
                assert_eq!(buffered.hints.take(), [Some(5)]);
                assert_eq!((buffered.gets.get(), buffered.updates.get()), (1, 1));
                let writer = std::thread::spawn(move || {
                    far.write_all(&pattern(FLOOD)).unwrap();
                });
                recorder.wait_received(5 + FLOOD).await;
                writer.join().unwrap();
                assert!(recorder.data()[5..] == pattern(FLOOD));
                assert_eq!(buffered.gets.get(), buffered.updates.get());
                transport.close();
                recorder.wait(Lost).await;
            }
        });
    }

    fn buf_02_failures_end_the_connection(kind: DriverKind) {
        lab(kind, |lab| async move {
            for case in ["get", "empty", "update"] {
                let (near, mut far) = unix_pair();
                let recorder = Recorder::new();
                let buffered = Buffered::new(&recorder, 10);
                match case {
                    "get" => buffered.fail_get.set(true),
                    "empty" => buffered.size.set(0),
                    _ => recorder.hook(|_, call| assert_ne!(call, Data, "no update today")),
                }
                let transport = lab.transport(near, buffered.kind()).await;
                far.write_all(&[1; 25]).unwrap();
                recorder.wait(Lost).await;
                let updates = usize::from(case == "update");
                assert_eq!((buffered.gets.get(), buffered.updates.get()), (1, updates));
                let (callback, text) = match case {
                    "get" => ("get_buffer", "no buffer today"),
                    "empty" => ("get_buffer", "get_buffer() returned an empty buffer"),
                    _ => ("buffer_updated", "no update today"),
                };
                let message = format!("Fatal error: protocol.{callback}() call failed.");
                let reports = lab.reports();
                let [report] = reports.as_slice() else { panic!("{reports:?}") };
                assert_eq!(report.message, message);
                assert!(Rc::ptr_eq(report.transport.as_ref().unwrap(), &transport));
                assert!(matches!(report.protocol, Some(ProtocolKind::Buffered(_))));
                assert!(recorder.lost_text().contains(text), "{}", recorder.lost_text());
            }
        });
    }

    fn buf_03_eof(kind: DriverKind) {
        lab(kind, |lab| async move {
            for case in ["closes", "keeps open", "fails"] {
                let (near, far) = unix_pair();
                let recorder = Recorder::new();
                let recorder = if case == "closes" { recorder } else { recorder.keep_open() };
                if case == "fails" {
                    recorder.hook(|_, call| assert_ne!(call, Eof, "a bug"));
                }
                let buffered = Buffered::new(&recorder, 10);
                let transport = lab.transport(near, buffered.kind()).await;
                drop(far);
                recorder.wait(Eof).await;
                lab.settle().await;
                assert_eq!(recorder.has(Lost), case != "keeps open");
                if case == "fails" {
                    let message = "Fatal error: protocol.eof_received() call failed.";
                    assert_eq!(lab.messages(), [message]);
                    assert!(recorder.lost_text().contains("a bug"));
                }
                transport.close();
                recorder.wait(Lost).await;
                assert_eq!(recorder.calls(), [Made, Eof, Lost]);
                assert_eq!(buffered.gets.get(), 0);
            }
        });
    }

    fn buf_04_errors(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = tcp_pair();
            let recorder = Recorder::new();
            lab.transport(near, Buffered::new(&recorder, 10).kind()).await;
            // Nothing is there, then something, then nothing: no error.
            for _ in 0..3 {
                lab.settle().await;
                let before = recorder.received();
                far.write_all(b"x").unwrap();
                recorder.wait_received(before + 1).await;
            }
            reset_on_close(&far);
            drop(far);
            recorder.wait(Lost).await;
            assert_eq!(recorder.calls(), [Made, Data, Lost]);
            assert_eq!(recorder.lost_with(), Some(ErrorKind::ConnectionReset));
        });
        lab_on(|| tamper::lab(kind), |lab| async move {
            tamper::next_receive(-libc::EIO);
            let (near, _far) = unix_pair();
            let recorder = Recorder::new();
            lab.transport(near, Buffered::new(&recorder, 10).kind()).await;
            recorder.wait(Lost).await;
            let error = std::io::Error::from_raw_os_error(libc::EIO);
            assert_eq!(recorder.lost_text(), error.to_string());
        });
    }

    /// From the outside, between two deliveries.
    fn buf_05_the_kind_is_switched(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let recorder = Recorder::new();
            let buffered = Buffered::new(&recorder, 4);
            let transport = lab.transport(near, recorder.clone()).await;
            for round in 0..6 {
                if round % 2 == 0 {
                    transport.set_protocol(recorder.clone().into());
                } else {
                    transport.set_protocol(buffered.kind());
                }
                far.write_all(b"some data").unwrap();
                recorder.wait_received(9 * (round + 1)).await;
                // Three buffers of four for each of the odd rounds.
                assert_eq!(buffered.updates.get(), 3 * round.div_ceil(2));
            }
            assert_eq!(recorder.data(), b"some data".repeat(6));
            transport.close();
            recorder.wait(Lost).await;
        });
    }

    /// From within the callbacks, in the middle of what was received: every byte once, in order.
    fn buf_05_the_kind_is_switched_inside_callbacks(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = pair.open();
                let recorder = Recorder::new();
                let buffered = Buffered::new(&recorder, 5_000);
                let switched = Rc::new(Cell::new(0));
                let (other, count) = (Rc::downgrade(&buffered), switched.clone());
                let stream = Rc::downgrade(&recorder);
                recorder.hook(move |me, call| {
                    if call == Data {
                        count.set(count.get() + 1);
                        if count.get() % 2 == 1 {
                            me.transport().set_protocol(other.upgrade().unwrap().kind());
                        } else {
                            me.transport().set_protocol(stream.upgrade().unwrap().into());
                        }
                    }
                });
                lab.transport(near, recorder.clone()).await;
                let writer = std::thread::spawn(move || {
                    std::fs::File::from(far).write_all(&pattern(FLOOD)).unwrap();
                });
                recorder.wait(Lost).await;
                writer.join().unwrap();
                assert!(recorder.data() == pattern(FLOOD));
                assert_eq!(recorder.calls(), [Made, Data, Eof, Lost]);
                assert!(switched.get() > 10);
            }
        });
    }

    /// In the middle of what was received: the rest goes to the new protocol, in one piece.
    fn buf_05_the_rest_goes_to_the_new_protocol(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let (old, new) = (Recorder::new(), Recorder::new());
            let next = new.clone();
            old.hook(move |me, call| {
                if call == Data {
                    me.transport().set_protocol(next.clone().into());
                }
            });
            let buffered = Buffered::new(&old, 10);
            let transport = lab.transport(near, buffered.kind()).await;
            far.write_all(&pattern(35)).unwrap();
            lab.until("it is delivered", || old.received() + new.received() == 35).await;
            assert_eq!(old.data(), pattern(35)[..10]);
            assert_eq!(new.data(), pattern(35)[10..]);
            assert_eq!((buffered.updates.get(), new.deliveries()), (1, 1));
            transport.close();
            new.wait(Lost).await;
            assert_eq!(old.calls(), [Made, Data]);
        });
    }

    fn buf_06_bytes_spread_over_several_buffers(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let recorder = Recorder::new();
            let buffered = Buffered::new(&recorder, 10);
            let transport = lab.transport(near, buffered.kind()).await;
            far.write_all(&pattern(35)).unwrap();
            recorder.wait_received(35).await;
            assert_eq!(buffered.hints.take(), [Some(35), Some(25), Some(15), Some(5)]);
            assert_eq!(buffered.updates.get(), 4);
            assert_eq!(recorder.data(), pattern(35));
            // A buffer in the middle that is empty.
            recorder.hook({
                let buffered = Rc::downgrade(&buffered);
                move |me, call| {
                    if call == Data && me.received() == 55 {
                        buffered.upgrade().unwrap().size.set(0);
                    }
                }
            });
            far.write_all(&[0; 35]).unwrap();
            recorder.wait(Lost).await;
            assert_eq!(recorder.received(), 55);
            assert_eq!(recorder.lost_text(), "get_buffer() returned an empty buffer");
            assert_eq!(lab.messages().len(), 1);
            assert!(transport.is_closing());
        });
    }

    /// Between two buffers reading can be paused: what was received already is held.
    fn buf_06_tso_01_pause_between_buffers(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let recorder = Recorder::with(|me, call| {
                if call == Data {
                    me.transport().pause_reading();
                }
            });
            let buffered = Buffered::new(&recorder, 10);
            let transport = lab.transport(near, buffered.kind()).await;
            far.write_all(&pattern(35)).unwrap();
            for received in [10, 20, 30, 35] {
                recorder.wait_received(received).await;
                lab.settle().await;
                assert_eq!(recorder.received(), received);
                transport.resume_reading();
            }
            drop(far);
            recorder.wait(Lost).await;
            assert_eq!(recorder.data(), pattern(35));
            assert_eq!(recorder.calls(), [Made, Data, Eof, Lost]);
        });
    }

    /// With more behind it: the rest of the one comes before the next.
    fn buf_06_pause_between_buffers_with_more_behind(kind: DriverKind) {
        lab(kind, |lab| async move {
            // Three receives, all of which the kernel has before anybody reads.
            const LEN: usize = 48_000;
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(&pattern(LEN)).unwrap();
            let recorder = Recorder::with(|me, call| {
                if call == Data {
                    me.transport().pause_reading();
                }
            });
            let transport = lab.transport(near, Buffered::new(&recorder, 5_000).kind()).await;
            recorder.wait(Data).await;
            while recorder.received() < LEN {
                let before = recorder.received();
                lab.settle().await;
                assert_eq!(recorder.received(), before);
                transport.resume_reading();
                recorder.wait_received(before + 1).await;
            }
            assert!(recorder.data() == pattern(LEN));
            transport.close();
            recorder.wait(Lost).await;
        });
    }

    /// In the question for a buffer: nothing is filled that belongs to a closed connection.
    fn buf_06_trn_06_close_for_want_of_a_buffer(kind: DriverKind) {
        lab(kind, |lab| async move {
            for abort in [false, true] {
                let (near, mut far) = unix_pair();
                let recorder = Recorder::new();
                let buffered = Buffered::new(&recorder, 10);
                buffered.on_get(move |me| match abort {
                    true => me.transport().abort(),
                    false => me.transport().close(),
                });
                lab.transport(near, buffered.kind()).await;
                far.write_all(&pattern(35)).unwrap();
                recorder.wait(Lost).await;
                assert_eq!((buffered.gets.get(), buffered.updates.get()), (1, 0));
                assert_eq!(recorder.calls(), [Made, Lost]);
            }
        });
    }

    /// And the connection ended: the rest is dropped.
    fn buf_06_trn_06_close_between_buffers(kind: DriverKind) {
        lab(kind, |lab| async move {
            for abort in [false, true] {
                let (near, mut far) = unix_pair();
                let recorder = Recorder::with(move |me, call| match call {
                    Data if abort => me.transport().abort(),
                    Data => me.transport().close(),
                    _ => {}
                });
                let buffered = Buffered::new(&recorder, 10);
                lab.transport(near, buffered.kind()).await;
                far.write_all(&pattern(35)).unwrap();
                recorder.wait(Lost).await;
                assert_eq!((buffered.gets.get(), buffered.updates.get()), (1, 1));
                assert_eq!(recorder.calls(), [Made, Data, Lost]);
            }
        });
    }
}
