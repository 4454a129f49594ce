//! Leases: received buffers that are written, kept, split, or held by a send that does not get on.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use ringloop::{Builder, Chunk, Lease, Transport};
use uring_tests::lab::{Lab, alone, lab};
use uring_tests::on_both_drivers;

use crate::recorder::Call::{Data, Lost};
use crate::recorder::Recorder;
use crate::sockets::{FLOOD, Pair, clogged, connected, pattern, unix_pair};

/// What `from` receives is written to `to` as it is.
fn forward(from: &Recorder, to: &Rc<dyn Transport>) {
    let to = Rc::downgrade(to);
    from.take_leases(move |_, lease| {
        let to = to.upgrade().expect("the test holds it");
        to.write_chunk(lease.into())
            .expect("nobody called write_eof");
    });
}

async fn end(near: &Recorder, far: &Recorder) {
    near.transport().close();
    near.wait(Lost).await;
    far.wait(Lost).await;
}

on_both_drivers! {
    /// Written, it is moved, not copied, and back in the pool when the send is settled.
    fn a_written_lease_is_moved(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                let (near, far) = connected(&lab, pair).await;
                let core = lab.core().clone();
                near.take_leases(move |me, lease| {
                    assert_eq!(core.pool().lent(), 1);
                    me.transport().write_chunk(lease.into()).unwrap();
                    assert_eq!(core.pool().lent(), 1);
                    me.transport().write(b" and a copy").unwrap();
                });
                far.transport().write(b"a lease").unwrap();
                far.wait_received(18).await;
                assert_eq!(far.data(), b"a lease and a copy");
                lab.settle().await;
                assert_eq!(lab.stats().lent_buffers, 0);
                end(&near, &far).await;
            }
        });
    }

    /// However little the socket takes, no buffer waits with the send.
    fn what_a_socket_does_not_take_is_copied(kind: DriverKind) {
        lab(kind, |lab| async move {
            for pair in Pair::BOTH {
                // Judged by the end of the iteration, and inside the write.
                for high in [1 << 30, 0] {
                    let (source, near) = connected(&lab, pair).await;
                    let (onward, far) = clogged(&lab, pair).await;
                    let transport = onward.transport();
                    transport.set_write_buffer_limits(Some(high), Some(0)).unwrap();
                    forward(&near, &transport);
                    source.transport().write(&pattern(FLOOD)).unwrap();
                    near.wait_received(FLOOD).await;
                    lab.settle().await;
                    assert!(transport.get_write_buffer_size() > FLOOD / 2);
                    assert_eq!(lab.stats().lent_buffers, 0);
                    far.transport().resume_reading();
                    far.wait_received(FLOOD).await;
                    assert!(far.data() == pattern(FLOOD));
                    near.forget_leases();
                    end(&source, &near).await;
                    end(&onward, &far).await;
                }
            }
        });
    }

    /// Behind a send in flight it is copied within the write itself, alone or among others.
    fn a_lease_behind_a_send_in_flight_is_copied_at_once(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (source, near) = connected(&lab, Pair::Unix).await;
            let (onward, far) = clogged(&lab, Pair::Unix).await;
            let transport = onward.transport();
            transport.set_write_buffer_limits(Some(1 << 30), None).unwrap();
            transport.write(&pattern(FLOOD)).unwrap();
            lab.settle().await;
            for many in [false, true] {
                let (core, to) = (lab.core().clone(), Rc::downgrade(&transport));
                near.take_leases(move |_, lease| {
                    assert_eq!(core.pool().lent(), 1);
                    let to = to.upgrade().unwrap();
                    if many {
                        to.writelines(vec![lease.into(), b"!".to_vec().into()]).unwrap();
                    } else {
                        to.write_chunk(lease.into()).unwrap();
                    }
                    assert_eq!(core.pool().lent(), 0);
                });
                let before = near.received();
                source.transport().write(b"copied").unwrap();
                near.wait_received(before + 6).await;
            }
            far.transport().resume_reading();
            far.wait_received(FLOOD + 13).await;
            assert!(far.data() == [pattern(FLOOD), b"copiedcopied!".to_vec()].concat());
            near.forget_leases();
            end(&source, &near).await;
            end(&onward, &far).await;
        });
    }

    /// Leases that wait for the end of the iteration go with the connection.
    fn an_abort_gives_back_what_was_not_sent(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = connected(&lab, Pair::Tcp).await;
            let core = lab.core().clone();
            near.take_leases(move |me, lease| {
                me.transport().write_chunk(lease.into()).unwrap();
                assert_eq!(core.pool().lent(), 1);
                me.transport().abort();
                assert_eq!(core.pool().lent(), 0);
            });
            far.transport().write(b"unanswered").unwrap();
            near.wait(Lost).await;
            far.wait(Lost).await;
            assert_eq!(far.data(), b"");
        });
    }

    /// Changed in place, in pieces, some of them sent.
    fn leases_are_changed_and_split(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, far) = connected(&lab, Pair::Unix).await;
            near.take_leases(|me, mut lease| {
                lease.get_mut().expect("the only one").make_ascii_uppercase();
                let mut head = lease.split_to(6);
                assert!(head.get_mut().is_none() && lease.get_mut().is_none());
                head.advance(1);
                let pieces = [lease, head].map(Chunk::from);
                me.transport().writelines(pieces.into()).unwrap();
            });
            far.transport().write(b"hello world").unwrap();
            far.wait_received(10).await;
            assert_eq!(far.data(), b"WORLDELLO ");
            near.forget_leases();
            end(&near, &far).await;
        });
    }

    /// A kept buffer stays readable after its loop is gone, whatever it was made into.
    fn leases_outlive_the_loop(kind: DriverKind) {
        alone(|| {
            let lab = Lab::new(&Builder::new().driver(kind));
            let kept: Rc<RefCell<Vec<Lease>>> = Rc::default();
            let (place, inner) = (kept.clone(), lab.clone());
            lab.run(async move {
                let (near, mut far) = unix_pair();
                let recorder = Recorder::new();
                recorder.take_leases(move |_, lease| place.borrow_mut().push(lease));
                let transport = inner.transport(near, recorder.clone()).await;
                for round in 1..=3 {
                    far.write_all(&[round; 3_000]).unwrap();
                    recorder.wait_received(3_000 * usize::from(round)).await;
                }
                transport.close();
                recorder.wait(Lost).await;
                inner.idle().await;
            });
            let core = lab.core().clone();
            lab.event_loop.close().unwrap();
            assert_eq!(core.stats().leaked_operations, 0);
            drop(lab);
            let mut leases = kept.take();
            assert_eq!(leases.len(), 3);
            assert_eq!(core.pool().lent(), 3);
            assert_eq!(*leases[0], [1; 3_000]);
            leases[0].get_mut().unwrap().fill(9);
            assert_eq!(*leases[0], [9; 3_000]);
            let bytes = leases.remove(1).into_bytes();
            let (pool, core_left) = (core.pool().clone(), Rc::strong_count(&core));
            assert_eq!(core_left, 1, "a lease holds the loop");
            drop(core);
            let thread = std::thread::spawn(move || assert_eq!(bytes, vec![2; 3_000]));
            thread.join().unwrap();
            assert_eq!(*leases[1], [3; 3_000]);
            drop(leases);
            // The one that left in another thread was not collected: nobody receives any more.
            assert_eq!(pool.lent(), 1);
        });
    }

    /// What a paused connection holds goes with it.
    fn held_leases_do_not_outlive_the_connection(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let recorder = Recorder::with(|me, call| {
                if call == Data {
                    me.transport().pause_reading();
                }
            });
            let transport = lab.transport(near, recorder.clone()).await;
            far.write_all(&pattern(30_000)).unwrap();
            recorder.wait(Data).await;
            lab.settle().await;
            transport.abort();
            recorder.wait(Lost).await;
            assert_eq!(lab.stats().lent_buffers, 0);
        });
    }
}
