//! Writing: TSO-07 to TSO-13, TSO-15, TSO-18, TSO-19, TSO-21, PRO-04, PRO-05.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

use bytes::Bytes;
use ringloop::{Chunk, Lease, Transport};
use uring_tests::lab::{lab, lab_on};
use uring_tests::{Rng, on_both_drivers};

use crate::recorder::Call::{Data, Eof, Lost, Made, Pause, Resume};
use crate::recorder::Recorder;
use crate::sockets::{FLOOD, Pair, clogged, connected, pattern, unix_pair};
use crate::tamper;

/// What is reported of writes that go nowhere.
const DROPPED: &str = "data is written to a connection that is closed or lost, and dropped";

/// Every way to write.
fn write_every_kind(transport: &dyn Transport) {
    let array = *b"and ";
    transport.write(b"slices ").unwrap();
    transport.write(&array).unwrap();
    let vector = b"vectors ".to_vec();
    transport.write(&vector).unwrap();
    assert_eq!(vector, b"vectors ");
    transport.write_chunk(b"moved ".to_vec().into()).unwrap();
    let shared = Bytes::from(b"shared ".to_vec());
    transport.write_chunk(shared.clone().into()).unwrap();
    assert_eq!(shared, b"shared "[..]);
    transport
        .write_chunk(Bytes::from_static(b"static ").into())
        .unwrap();
    transport
        .write_chunk(Lease::from(b"leased ".to_vec()).into())
        .unwrap();
    transport
        .writelines(vec![
            b"many ".to_vec().into(),
            Bytes::from_static(b"at once ").into(),
            Lease::from(b"leased".to_vec()).into(),
        ])
        .unwrap();
}
const EVERY_KIND: &[u8] = b"slices and vectors moved shared static leased many at once leased";

on_both_drivers! {
    /// What is written in one iteration goes out in it, in one send.
    fn tso_07_every_kind_of_bytes_at_once(kind: DriverKind) {
        lab_on(|| tamper::lab(kind), |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                let before = tamper::sends();
                write_every_kind(&*near.transport());
                lab.turns(1).await;
                assert_eq!(tamper::sends(), before + 1);
                far.wait_received(EVERY_KIND.len()).await;
                assert_eq!(far.data(), EVERY_KIND);
                near.transport().close();
                near.wait(Lost).await;
                far.wait(Lost).await;
            }
        });
    }

    fn tso_08_pro_04_an_empty_write_does_nothing(kind: DriverKind) {
        lab_on(|| tamper::lab(kind), |lab| async move {
            let (near, far) = connected(&lab, Pair::Unix).await;
            let transport = near.transport();
            let write_nothing = || {
                transport.write(b"").unwrap();
                transport.write_chunk(Vec::new().into()).unwrap();
                transport.write_chunk(Bytes::new().into()).unwrap();
                transport.writelines(Vec::new()).unwrap();
                transport.writelines(vec![Vec::new().into(), Vec::new().into()]).unwrap();
            };
            write_nothing();
            assert_eq!(transport.get_write_buffer_size(), 0);
            lab.settle().await;
            assert_eq!(tamper::sends(), 0);
            // Nor does it count as a write that goes nowhere.
            transport.close();
            (0..10).for_each(|_| write_nothing());
            near.wait(Lost).await;
            (0..10).for_each(|_| write_nothing());
            far.wait(Lost).await;
            assert_eq!(far.data(), b"");
        });
    }

    fn tso_09_a_write_behind_others_appends(kind: DriverKind) {
        lab_on(|| tamper::lab(kind), |lab| async move {
            // Not over TCP, where the kernel moves bytes on by itself for a while.
            {
                let (near, far) = clogged(&lab, Pair::Unix).await;
                let transport = near.transport();
                transport.write(&pattern(FLOOD)).unwrap();
                lab.settle().await;
                let (sends, unsent) = (tamper::sends(), transport.get_write_buffer_size());
                let mut written = pattern(FLOOD);
                for n in 1..=10 {
                    transport.write(&[n; 10]).unwrap();
                    written.extend([n; 10]);
                    assert_eq!(transport.get_write_buffer_size(), unsent + 10 * n as usize);
                    lab.turns(1).await;
                }
                lab.settle().await;
                // One send is in flight, and it is still the same one.
                assert_eq!(tamper::sends(), sends);
                far.transport().resume_reading();
                far.wait_received(written.len()).await;
                assert!(far.data() == written);
                transport.close();
                near.wait(Lost).await;
                far.wait(Lost).await;
            }
        });
    }

    fn tso_10_tso_13_pro_04_what_is_not_taken_waits(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = clogged(&lab, pair).await;
                let transport = near.transport();
                let receives = lab.stats().live_operations;
                // Idle, written, sent.
                assert_eq!(transport.get_write_buffer_size(), 0);
                transport.write(b"first").unwrap();
                assert_eq!(transport.get_write_buffer_size(), 5);
                lab.settle().await;
                assert_eq!(transport.get_write_buffer_size(), 0);
                // Backed up, and armed.
                transport.write(&pattern(FLOOD)).unwrap();
                lab.settle().await;
                let unsent = transport.get_write_buffer_size();
                assert!(0 < unsent && unsent < FLOOD, "{unsent}");
                lab.in_flight(receives + 1).await;
                // A little is taken: still armed.
                far.transport().resume_reading();
                far.until(|me| me.received() > 5).await;
                far.transport().pause_reading();
                lab.settle().await;
                let less = transport.get_write_buffer_size();
                assert!(0 < less && less < unsent, "{less} of {unsent}");
                lab.in_flight(receives + 1).await;
                // All is taken: no longer.
                far.transport().resume_reading();
                far.wait_received(5 + FLOOD).await;
                lab.settle().await;
                assert_eq!(transport.get_write_buffer_size(), 0);
                lab.in_flight(2).await;
                assert!(far.data() == [b"first".to_vec(), pattern(FLOOD)].concat());
                transport.close();
                near.wait(Lost).await;
                far.wait(Lost).await;
            }
        });
    }

    /// Nothing taken, said in three ways: nothing is lost, nothing is sent twice.
    fn tso_10_tso_13_a_send_that_takes_nothing(kind: DriverKind) {
        for result in [0, -libc::EAGAIN, -libc::EINTR] {
            lab_on(|| tamper::lab(kind), move |lab| async move {
                let (near, far) = connected(&lab, Pair::Unix).await;
                tamper::next_send(result);
                near.transport().write(b"patience").unwrap();
                far.wait_received(8).await;
                assert!(tamper::send_was_answered());
                near.transport().close();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert_eq!(far.data(), b"patience");
                assert_eq!(near.calls(), [Made, Lost]);
            });
        }
    }

    fn tso_11_pro_05_a_write_error_ends_the_connection(kind: DriverKind) {
        for errno in [libc::EPIPE, libc::EIO, libc::ENOBUFS] {
            lab_on(|| tamper::lab(kind), move |lab| async move {
                let (near, far) = connected(&lab, Pair::Unix).await;
                let transport = near.transport();
                tamper::next_send(-errno);
                transport.write(b"lost").unwrap();
                near.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Lost]);
                let error = std::io::Error::from_raw_os_error(errno);
                assert_eq!(near.lost_text(), error.to_string());
                // The fifth write that goes nowhere is reported, and no other.
                for n in 1..=4 {
                    transport.write(&[n]).unwrap();
                    assert_eq!(lab.messages(), [""; 0]);
                }
                transport.write_chunk(vec![5].into()).unwrap();
                assert_eq!(lab.messages(), [DROPPED]);
                (6..20).for_each(|n| transport.write(&[n]).unwrap());
                assert_eq!(lab.messages(), [""; 0]);
                far.wait(Lost).await;
                assert_eq!(far.data(), b"");
            });
        }
    }

    /// From `close` on, also while what was written before is still being sent.
    fn tso_12_a_write_after_close_is_dropped(kind: DriverKind) {
        lab(kind, |lab| async move {
            for flushing in [false, true] {
                let (near, far) = clogged(&lab, Pair::Tcp).await;
                let transport = near.transport();
                let len = if flushing { FLOOD } else { 10 };
                transport.write(&pattern(len)).unwrap();
                lab.settle().await;
                transport.close();
                let unsent = transport.get_write_buffer_size();
                assert_eq!(unsent > 0, flushing);
                (0..4).for_each(|n| transport.write(&[n]).unwrap());
                assert_eq!(lab.messages(), [""; 0]);
                transport.writelines(vec![vec![5].into(), vec![6].into()]).unwrap();
                assert_eq!(lab.messages(), [DROPPED]);
                (0..9).for_each(|n| transport.write(&[n]).unwrap());
                assert_eq!(transport.get_write_buffer_size(), unsent);
                far.transport().resume_reading();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert!(far.data() == pattern(len));
            }
        });
    }

    /// Also when the protocol was paused and resumed before: what may be written then may not later.
    fn tso_12_a_resume_before_the_close_makes_no_difference(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            let transport = near.transport();
            transport.write(&pattern(FLOOD)).unwrap();
            far.transport().resume_reading();
            near.wait(Resume).await;
            far.wait_received(FLOOD).await;
            far.transport().pause_reading();
            lab.settle().await;
            transport.write(&pattern(FLOOD)).unwrap();
            transport.close();
            let unsent = transport.get_write_buffer_size();
            assert!(unsent > 0);
            transport.write(b"dropped").unwrap();
            assert_eq!(transport.get_write_buffer_size(), unsent);
            far.transport().resume_reading();
            near.wait(Lost).await;
            far.wait(Lost).await;
            assert!(far.data() == pattern(FLOOD).repeat(2));
        });
    }

    /// The peer goes while a send waits for it.
    fn tso_15_a_flush_error_ends_the_connection(kind: DriverKind) {
        lab(kind, |lab| async move {
            for closing in [false, true] {
                for pair in Pair::BOTH {
                    let (near, far) = clogged(&lab, pair).await;
                    let transport = near.transport();
                    // So that it is the send that finds out.
                    transport.pause_reading();
                    transport.write(&pattern(FLOOD)).unwrap();
                    lab.settle().await;
                    transport.write(b"more").unwrap();
                    if closing {
                        transport.close();
                    }
                    far.transport().abort();
                    near.wait(Lost).await;
                    assert_eq!(near.calls(), [Made, Pause, Lost]);
                    let error = near.lost_with();
                    use ErrorKind::{BrokenPipe, ConnectionReset};
                    assert!(matches!(error, Some(BrokenPipe | ConnectionReset)), "{error:?}");
                    assert_eq!(transport.get_write_buffer_size(), 0);
                    far.wait(Lost).await;
                }
            }
        });
    }

    fn tso_18_gathered_writes(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                // Complete; partial, with ends inside pieces; partial with tiny pieces.
                for (count, len) in [(10, 7), (100, 9_999), (3_000, 333)] {
                    let (near, far) = clogged(&lab, pair).await;
                    let data = pattern(count * len);
                    let pieces = data.chunks(len).map(|piece| Chunk::from(piece.to_vec()));
                    near.transport().writelines(pieces.collect()).unwrap();
                    lab.settle().await;
                    let unsent = near.transport().get_write_buffer_size();
                    assert_eq!(unsent == 0, count == 10);
                    far.transport().resume_reading();
                    far.wait_received(data.len()).await;
                    assert!(far.data() == data, "{pair:?}: {count} pieces of {len}");
                    near.transport().close();
                    near.wait(Lost).await;
                    far.wait(Lost).await;
                }
            }
        });
    }

    /// More pieces than a send carries, all of which the socket takes; nothing else happens in the
    /// loop that could bring the rest on its way.
    fn tso_18_more_pieces_than_a_send_carries(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = unix_pair();
            let mut far = far;
            let reader = std::thread::spawn(move || {
                let mut bytes = vec![0; 5_000];
                far.read_exact(&mut bytes).unwrap();
                far.write_all(b"all there").unwrap();
                bytes
            });
            let recorder = Recorder::new();
            let transport = lab.transport(near, recorder.clone()).await;
            lab.settle().await;
            let data = pattern(5_000);
            let pieces = data.chunks(1).map(|piece| Chunk::from(piece.to_vec()));
            transport.writelines(pieces.collect()).unwrap();
            recorder.wait(Lost).await;
            assert!(reader.join().unwrap() == data);
            assert_eq!(recorder.data(), b"all there");
        });
    }

    fn tso_18_an_error_of_a_gathered_write(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = unix_pair();
            let recorder = Recorder::new().keep_open();
            let transport = lab.transport(near, recorder.clone()).await;
            drop(far);
            recorder.wait(Eof).await;
            transport.writelines(vec![vec![1; 100].into(), vec![2; 100].into()]).unwrap();
            recorder.wait(Lost).await;
            assert_eq!(recorder.lost_with(), Some(ErrorKind::BrokenPipe));
        });
    }

    fn tso_19_writelines_obeys_flow_control_and_loss(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Tcp).await;
            let transport = near.transport();
            let pieces = || (0..16).map(|n| Chunk::from(vec![n; FLOOD / 16])).collect();
            transport.writelines(pieces()).unwrap();
            assert_eq!(near.calls(), [Made, Pause]);
            transport.abort();
            near.wait(Lost).await;
            // Each call counts once.
            (0..4).for_each(|_| transport.writelines(pieces()).unwrap());
            assert_eq!(lab.messages(), [""; 0]);
            transport.writelines(pieces()).unwrap();
            assert_eq!(lab.messages(), [DROPPED]);
            assert_eq!(transport.get_write_buffer_size(), 0);
            far.transport().resume_reading();
            far.wait(Lost).await;
        });
    }

    fn tso_21_a_write_after_write_eof_is_an_error(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = connected(&lab, Pair::Unix).await;
            let transport = near.transport();
            let refused = || {
                for result in [
                    transport.write(b"x"),
                    transport.write(b""),
                    transport.write_chunk(vec![1].into()),
                    transport.writelines(vec![vec![1].into()]),
                    transport.writelines(Vec::new()),
                ] {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert_eq!(error.to_string(), "Cannot call write() after write_eof()");
                }
            };
            transport.write(b"before").unwrap();
            transport.write_eof().unwrap();
            refused();
            far.wait(Lost).await;
            near.wait(Lost).await;
            refused();
            transport.close();
            refused();
            assert_eq!(far.data(), b"before");
        });
    }

    /// Everything mixed, at random: every byte arrives once and in order, and pauses and resumes
    /// alternate.
    fn tso_10_tso_18_flow_02_random_writes(kind: DriverKind) {
        lab(kind, |lab| async move {
            let mut rng = Rng::new();
            for round in 0..6 {
                let pair = Pair::BOTH[round % 2];
                let (near, far) = clogged(&lab, pair).await;
                let transport = near.transport();
                let mut written = Vec::new();
                for _ in 0..300 {
                    let len = match rng.below(10) {
                        0 => rng.below(200_000),
                        1..=3 => rng.below(20_000),
                        _ => rng.below(300),
                    };
                    let data = rng.bytes(len);
                    written.extend(&data);
                    match rng.below(4) {
                        0 => transport.write(&data).unwrap(),
                        1 => transport.write_chunk(data.into()).unwrap(),
                        2 => transport.write_chunk(Bytes::from(data).into()).unwrap(),
                        _ => {
                            let pieces = data.chunks(1 + rng.below(5_000));
                            let pieces = pieces.map(|piece| Chunk::from(piece.to_vec()));
                            transport.writelines(pieces.collect()).unwrap();
                        }
                    }
                    match rng.below(6) {
                        0 => far.transport().resume_reading(),
                        1 => far.transport().pause_reading(),
                        2 | 3 => lab.turns(1 + rng.below(3)).await,
                        _ => {}
                    }
                }
                far.transport().resume_reading();
                transport.close();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert!(far.data() == written, "{} of {}", far.received(), written.len());
                let calls = near.calls();
                let flow = calls.iter().filter(|call| matches!(call, Pause | Resume));
                let expected = [Pause, Resume].into_iter().cycle();
                assert!(flow.zip(expected).all(|(seen, due)| *seen == due), "{calls:?}");
                assert!(near.has(Resume), "{calls:?}");
            }
        });
    }

    /// The memory of `Bytes` is given back as soon as they are sent, and what their destructor does
    /// to the transport is legal.
    fn tso_07_bytes_are_dropped_when_sent(kind: DriverKind) {
        thread_local! {
            static DROPPED: Cell<usize> = const { Cell::new(0) };
            static TRANSPORT: Cell<Option<Rc<dyn Transport>>> = const { Cell::new(None) };
        }
        struct Noisy(Vec<u8>);
        impl AsRef<[u8]> for Noisy {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Noisy {
            fn drop(&mut self) {
                DROPPED.set(DROPPED.get() + 1);
                if let Some(transport) = TRANSPORT.take() {
                    transport.write(b"!").unwrap();
                    TRANSPORT.set(Some(transport));
                }
            }
        }
        lab(kind, |lab| async move {
            let (near, far) = connected(&lab, Pair::Unix).await;
            TRANSPORT.set(Some(near.transport()));
            let noisy = |len| Bytes::from_owner(Noisy(vec![b'.'; len]));
            // Sent by the driver, and (above the limit) inside the write itself.
            near.transport().write_chunk(noisy(10).into()).unwrap();
            far.wait_received(11).await;
            assert_eq!(DROPPED.get(), 1);
            near.transport().set_write_buffer_limits(Some(10), None).unwrap();
            near.transport().write_chunk(noisy(20).into()).unwrap();
            assert_eq!(DROPPED.get(), 2);
            far.wait_received(32).await;
            // Dropped unsent.
            far.transport().pause_reading();
            lab.settle().await;
            near.transport().write_chunk(noisy(FLOOD).into()).unwrap();
            lab.settle().await;
            assert_eq!(DROPPED.get(), 2);
            near.transport().write_chunk(noisy(20).into()).unwrap();
            near.transport().abort();
            near.wait(Lost).await;
            lab.idle().await;
            assert_eq!(DROPPED.get(), 4);
            drop(TRANSPORT.take());
            far.transport().resume_reading();
            far.wait(Lost).await;
            assert!(far.data().starts_with(b"..........!....................!...."));
            assert_eq!(near.count(Data), 0);
        });
    }
}
