//! The end of writing: TSO-16, TSO-17, TSO-20, PRO-07, and what the peer sees of a connection that
//! ends while nothing else happens in the loop.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::socket::{MsgFlags, send};
use ringloop::protocol::ExtraInfo;
use ringloop::{Lease, Transport};
use uring_tests::lab::lab;
use uring_tests::on_both_drivers;

use crate::recorder::Call::{self, Data, Eof, Lost, Made, Pause, Resume};
use crate::recorder::Recorder;
use crate::sockets::{FLOOD, Pair, clogged, connected, pattern, read_all, unix_pair};

/// A peer outside the loop that reads to the end and then answers.
fn answering(far: OwnedFd, answer: &'static [u8]) -> std::thread::JoinHandle<Vec<u8>> {
    let mut far = std::fs::File::from(far);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).expect("a clean end");
        far.write_all(answer).expect("the other direction is open");
        bytes
    })
}

on_both_drivers! {
    /// At once, and reading goes on.
    fn tso_16_write_eof(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = pair.open();
                let (near_end, far_end) = (Recorder::new(), Recorder::new().keep_open());
                let transport = lab.transport(near, near_end.clone()).await;
                let peer = lab.transport(far, far_end.clone()).await;
                assert!(transport.can_write_eof());
                transport.write_eof().unwrap();
                transport.write_eof().unwrap();
                far_end.wait(Eof).await;
                assert!(!transport.is_closing());
                peer.write(b"and you?").unwrap();
                near_end.wait_received(8).await;
                peer.close();
                near_end.wait(Lost).await;
                far_end.wait(Lost).await;
                assert_eq!(near_end.calls(), [Made, Data, Eof, Lost]);
                assert_eq!(far_end.calls(), [Made, Eof, Lost]);
                // No error after the end either.
                transport.write_eof().unwrap();
            }
        });
    }

    fn tso_16_write_eof_behind_what_was_written(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                for len in [1, FLOOD] {
                    let (near, far) = clogged(&lab, pair).await;
                    near.transport().write(&pattern(len)).unwrap();
                    if len == FLOOD {
                        lab.settle().await;
                    }
                    near.transport().write_eof().unwrap();
                    near.transport().write_eof().unwrap();
                    lab.settle().await;
                    far.transport().resume_reading();
                    far.wait(Lost).await;
                    near.wait(Lost).await;
                    assert_eq!(far.calls(), [Made, Data, Eof, Lost]);
                    assert!(far.data() == pattern(len));
                }
            }
        });
    }

    /// It takes no part in a close, before or after.
    fn tso_16_write_eof_and_close(kind: DriverKind) {
        lab(kind, |lab| async move {
            for eof_first in [false, true] {
                let (near, far) = clogged(&lab, Pair::Tcp).await;
                let transport = near.transport();
                transport.write(&pattern(FLOOD)).unwrap();
                lab.settle().await;
                if eof_first {
                    transport.write_eof().unwrap();
                    transport.close();
                } else {
                    transport.close();
                    transport.write_eof().unwrap();
                    // Not the error of a write after write_eof: that one did nothing.
                    transport.write(b"dropped").unwrap();
                }
                far.transport().resume_reading();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert_eq!(near.lost_with(), None);
                assert!(far.data() == pattern(FLOOD));
            }
        });
    }

    /// Nothing else happens in the loop: the peer sees bytes and end all the same.
    fn tso_16_write_eof_with_no_other_event(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                for len in [0, 1, 20_000, FLOOD] {
                    let (near, far) = pair.open();
                    let answer = answering(far, b"seen");
                    let recorder = Recorder::new();
                    let transport = lab.transport(near, recorder.clone()).await;
                    lab.settle().await;
                    transport.write(&pattern(len)).unwrap();
                    transport.write_eof().unwrap();
                    drop(transport);
                    recorder.wait(Lost).await;
                    assert_eq!(recorder.data(), b"seen");
                    assert!(answer.join().unwrap() == pattern(len));
                }
            }
        });
    }

    /// While reading is paused there is not even the end of a receive.
    fn tso_14_close_with_no_other_event(kind: DriverKind) {
        lab(kind, |lab| async move {
            for (pair, paused) in [(Pair::Unix, false), (Pair::Unix, true), (Pair::Tcp, true)] {
                for len in [0, 1, 20_000, FLOOD] {
                    let (near, far) = pair.open();
                    let reader = read_all(far);
                    let recorder = Recorder::new();
                    let transport = lab.transport(near, recorder.clone()).await;
                    if paused {
                        transport.pause_reading();
                    }
                    lab.settle().await;
                    transport.write(&pattern(len)).unwrap();
                    transport.close();
                    drop(transport);
                    recorder.wait(Lost).await;
                    lab.idle().await;
                    assert!(reader.join().unwrap() == (pattern(len), None));
                }
            }
        });
    }

    /// Written inside a callback, with the close or the end right behind it.
    fn tso_14_tso_16_last_words_inside_a_callback(kind: DriverKind) {
        type End = fn(&dyn Transport);
        let close: End = |transport| transport.close();
        let write_eof: End = |transport| transport.write_eof().unwrap();
        for end in [close, write_eof] {
            for inside in [Made, Data, Eof] {
                lab(kind, move |lab| async move {
                    let (near, mut far) = unix_pair();
                    let recorder = Recorder::with(move |me, call| {
                        if call == inside {
                            me.transport().write(b"last words").unwrap();
                            end(&*me.transport());
                        }
                    });
                    lab.transport(near, recorder.clone()).await;
                    if inside == Data {
                        far.write_all(b"x").unwrap();
                    } else if inside == Eof {
                        far.shutdown(Shutdown::Write).unwrap();
                    }
                    // The peer leaves once it has seen the end.
                    let reader = read_all(far);
                    recorder.wait(Lost).await;
                    lab.idle().await;
                    assert!(reader.join().unwrap() == (b"last words".to_vec(), None));
                });
            }
        }
    }

    /// The peer ends its direction while much is unsent: the close that follows waits for it.
    fn tso_04_tso_14_eof_with_a_full_buffer(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = pair.open();
                let (near_end, far_end) = (Recorder::new(), Recorder::new().keep_open());
                let transport = lab.transport(near, near_end.clone()).await;
                let peer = lab.transport(far, far_end.clone()).await;
                peer.pause_reading();
                lab.settle().await;
                transport.write(&pattern(FLOOD)).unwrap();
                peer.write_eof().unwrap();
                near_end.wait(Eof).await;
                lab.settle().await;
                assert!(transport.is_closing() && !near_end.has(Lost));
                peer.resume_reading();
                near_end.wait(Lost).await;
                far_end.wait(Eof).await;
                peer.close();
                far_end.wait(Lost).await;
                assert!(far_end.data() == pattern(FLOOD));
                assert_eq!(near_end.calls(), [Made, Pause, Eof, Resume, Lost]);
                assert_eq!(near_end.lost_with(), None);
            }
        });
    }

    /// The send is done, but its completion comes after the abort, in the same iteration.
    fn pro_08_a_late_send_completion_is_silent(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                near.transport().write(b"sent").unwrap();
                // Something waits for the completion, so it is not settled at once. A task that is
                // ready runs before what the kernel brings.
                near.transport().write_eof().unwrap();
                lab.turns(1).await;
                let Some(ExtraInfo::Socket(socket)) = near.transport().get_extra_info("socket")
                else {
                    panic!("it is open");
                };
                // The end of writing, which the completion brings, has not come.
                assert_eq!(send(socket, b"", MsgFlags::MSG_NOSIGNAL), Ok(0));
                assert_eq!(near.transport().get_write_buffer_size(), 0);
                near.transport().abort();
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Lost]);
                assert_eq!(far.data(), b"sent");
            }
        });
    }

    /// The socket took a part; the transport has not heard of that when it is closed.
    fn tso_14_close_before_a_partial_send_is_answered(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                far.transport().pause_reading();
                let sent = pattern(1 << 20).repeat(16);
                near.transport().write(&sent).unwrap();
                // A task that is ready runs before what the kernel brings.
                lab.turns(1).await;
                near.transport().close();
                far.transport().resume_reading();
                far.wait(Lost).await;
                assert!(far.data() == sent, "{} bytes", far.data().len());
            }
        });
    }

    /// A lease that is the last thing sent.
    fn tso_14_close_behind_a_lease(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                near.take_leases(|me, lease: Lease| {
                    me.transport().write_chunk(lease.into()).unwrap();
                    me.transport().close();
                });
                far.transport().write(&pattern(10_000)).unwrap();
                far.wait(Lost).await;
                near.wait(Lost).await;
                assert!(!far.data().is_empty());
                assert!(far.data() == near.data());
            }
        });
    }

    fn tso_17_close_leaves_nothing_armed(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = clogged(&lab, pair).await;
                near.transport().write(&pattern(FLOOD)).unwrap();
                lab.settle().await;
                near.transport().close();
                far.transport().resume_reading();
                near.wait(Lost).await;
                far.wait(Lost).await;
                lab.settle().await;
                assert_eq!(lab.stats().live_operations, 0);
            }
        });
    }

    /// The header of `socket.rs` says which writes of a closing transport are sent.
    fn tso_20_writes_from_resume_writing_while_closing(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let rounds = Rc::new(Cell::new(3));
                let left = rounds.clone();
                let (near, far) = clogged(&lab, pair).await;
                near.hook(move |me, call| {
                    if call == Resume && left.get() > 0 {
                        left.set(left.get() - 1);
                        assert!(me.transport().is_closing());
                        me.transport().write(&pattern(FLOOD)).unwrap();
                        me.transport().write(b"end of the round").unwrap();
                    }
                });
                near.transport().write(&pattern(FLOOD)).unwrap();
                near.transport().close();
                near.transport().write(b"dropped").unwrap();
                lab.settle().await;
                far.transport().resume_reading();
                far.wait(Lost).await;
                near.wait(Lost).await;
                let round = [pattern(FLOOD), b"end of the round".to_vec()].concat();
                let sent = [pattern(FLOOD), round.repeat(3)].concat();
                assert!(far.data() == sent, "{} of {}", far.received(), sent.len());
                let mut calls = vec![Made];
                calls.extend([Pause, Resume].repeat(4));
                calls.push(Lost);
                assert_eq!(near.calls(), calls);
                assert_eq!(near.lost_with(), None);
            }
        });
    }

    /// A few bytes, which the socket takes at once: also sent, and the end comes after them.
    fn tso_20_a_small_write_from_resume_writing_while_closing(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = clogged(&lab, Pair::Unix).await;
            near.hook(|me, call: Call| {
                if call == Resume {
                    me.transport().write(b"bye").unwrap();
                }
            });
            near.transport().write(&pattern(FLOOD)).unwrap();
            near.transport().close();
            far.transport().resume_reading();
            far.wait(Lost).await;
            near.wait(Lost).await;
            assert!(far.data() == [pattern(FLOOD), b"bye".to_vec()].concat());
        });
    }

    /// A socket that somebody else shut down already.
    fn pro_07_close_of_a_socket_that_is_shut_down(kind: DriverKind) {
        lab(kind, |lab| async move {
            for eof in [false, true] {
                let (near, far) = connected(&lab, Pair::Tcp).await;
                let transport = near.transport();
                lab.settle().await;
                transport.pause_reading();
                lab.settle().await;
                transport.with_fd(&mut |fd| {
                    // SAFETY: takes no pointer.
                    let done = unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
                    assert_eq!(done, 0);
                });
                far.wait(Lost).await;
                if eof {
                    transport.write_eof().unwrap();
                }
                transport.close();
                near.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Lost]);
                assert_eq!(near.lost_with(), None);
            }
        });
    }
}
