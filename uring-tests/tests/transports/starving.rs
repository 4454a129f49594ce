//! Few receive buffers: nothing is lost, nobody waits for ever.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use bytes::Bytes;
use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::uring::UringOptions;
use ringloop::{Builder, EventLoopExt, Lease};
use uring_tests::lab::{Lab, lab_on, this_thread, wait_until_asleep};
use uring_tests::{DriverKind, on_both_drivers};

use crate::recorder::Call::{Data, Lost, Made};
use crate::recorder::{Buffered, Recorder};
use crate::sockets::{pattern, unix_pair};

/// A loop with so many receive buffers.
fn few(kind: DriverKind, buffers: usize) -> impl FnOnce() -> Lab + Send {
    let uring = UringOptions {
        buffers,
        ..UringOptions::default()
    };
    let builder = move || Builder::new().driver(kind).uring_options(uring);
    move || {
        Lab::new(&builder().epoll_options(EpollOptions {
            buffers,
            ..EpollOptions::default()
        }))
    }
}

/// So many connections, on each of which as much is there to be read as `data` gives.
fn flooded(count: usize, data: impl Fn(usize) -> Vec<u8>) -> Vec<(UnixStream, UnixStream)> {
    let pair = |number| {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        far.write_all(&data(number))
            .expect("it fits into the socket");
        (near, far)
    };
    (0..count).map(pair).collect()
}

on_both_drivers! {
    /// Each receives, and sends back, much more than there are buffers for; nothing but the buffers
    /// that are given back brings the loop on. The connections begin in the same iteration, or one
    /// after the other, when some wait for a buffer that have nothing left to receive.
    fn many_connections_share_few_buffers(kind: DriverKind) {
        for (buffers, together) in [1, 2, 4, 7, 16].into_iter().flat_map(|n| [(n, true), (n, false)]) {
            lab_on(few(kind, buffers), move |lab| async move {
                const LEN: usize = 50_000;
                let data = |number: usize| pattern(LEN + 97 * number)[97 * number..].to_vec();
                let (near, mut far): (Vec<_>, Vec<_>) = flooded(64, data).into_iter().unzip();
                let echoes: Vec<_> = near.iter().map(|_| Recorder::echo()).collect();
                for (near, echo) in near.into_iter().zip(&echoes) {
                    let (inner, echo) = (lab.clone(), echo.clone());
                    let make = async move { drop(inner.transport(near, echo).await) };
                    let mut task = lab.event_loop.create_task(make).unwrap();
                    if !together {
                        (&mut task).await.unwrap();
                    }
                }
                let reader = std::thread::spawn(move || {
                    for (number, far) in far.iter_mut().enumerate() {
                        let mut bytes = vec![0; LEN];
                        far.read_exact(&mut bytes).unwrap();
                        assert!(bytes == data(number), "connection {number}");
                    }
                });
                for echo in &echoes {
                    echo.wait(Lost).await;
                    assert_eq!(echo.received(), LEN);
                    assert_eq!(echo.lost_with(), None);
                }
                reader.join().unwrap();
                assert!(lab.stats().driver.parked_receives > 0 || !together);
                assert_eq!(lab.stats().buffers, buffers);
            });
        }
    }

    /// The one buffer is sent back by a send that completes silently: its completion must not wait
    /// for an event, since the other receive waits for the buffer.
    fn a_silent_send_gives_its_buffer_to_the_next_receive(kind: DriverKind) {
        lab_on(few(kind, 1), |lab| async move {
            let mut echoes = Vec::new();
            let (near, far): (Vec<_>, Vec<_>) =
                flooded(3, |_| b"one buffer".to_vec()).into_iter().unzip();
            for near in near {
                let echo = Recorder::echo();
                lab.transport(near, echo.clone()).await;
                echoes.push(echo);
            }
            // Not for the others, which would keep the loop awake.
            echoes[2].wait(Data).await;
            drop(far);
            for echo in &echoes {
                echo.wait(Lost).await;
            }
        });
    }

    /// Paused connections hold what had been received for them, but no buffer that another needs.
    fn paused_connections_starve_nobody(kind: DriverKind) {
        for buffers in [1, 2, 8, 64] {
            lab_on(few(kind, buffers), |lab| async move {
                const LEN: usize = 60_000;
                let data = |number: usize| pattern(LEN + 97 * number)[97 * number..].to_vec();
                let mut paused = Vec::new();
                for (number, (near, far)) in flooded(80, data).into_iter().enumerate() {
                    let recorder = Recorder::with(|me, call| {
                        if call == Data && me.received() < LEN {
                            me.transport().pause_reading();
                        }
                    });
                    // The second kind pauses in the middle of a buffer.
                    let kind = match number % 2 {
                        0 => recorder.clone().into(),
                        _ => Buffered::new(&recorder, 1_000).kind(),
                    };
                    lab.transport(near, kind).await;
                    paused.push((recorder, far));
                }
                for (recorder, _) in &paused {
                    recorder.wait(Data).await;
                }
                lab.settle().await;
                let spare = buffers - lab.stats().lent_buffers;
                assert!(spare >= (buffers / 8).max(1), "{spare} of {buffers} left");
                let (near, mut far) = unix_pair();
                let echo = Recorder::echo();
                lab.transport(near, echo.clone()).await;
                let client = std::thread::spawn(move || {
                    for round in 0..50 {
                        let sent = pattern(20_000 + round)[round..].to_vec();
                        far.write_all(&sent).unwrap();
                        let mut bytes = vec![0; sent.len()];
                        far.read_exact(&mut bytes).unwrap();
                        assert!(bytes == sent);
                    }
                });
                echo.wait(Lost).await;
                client.join().unwrap();
                assert_eq!(echo.received(), 50 * 20_000);
                for (number, (recorder, far)) in paused.into_iter().enumerate() {
                    assert!(recorder.received() < LEN, "it was not paused");
                    recorder.hook(|_, _| ());
                    recorder.transport().resume_reading();
                    drop(far);
                    recorder.wait(Lost).await;
                    assert!(recorder.data() == data(number));
                }
            });
        }
    }

    /// Buffers that a protocol keeps are missing to the others until it drops them.
    fn receives_wait_for_kept_leases(kind: DriverKind) {
        lab_on(few(kind, 2), |lab| async move {
            let kept: Rc<RefCell<Vec<Lease>>> = Rc::default();
            let mut keepers = Vec::new();
            for (near, far) in flooded(2, |_| pattern(2_000)) {
                let keeper = Recorder::new();
                let place = kept.clone();
                keeper.take_leases(move |_, lease| place.borrow_mut().push(lease));
                lab.transport(near, keeper.clone()).await;
                keeper.wait(Data).await;
                keepers.push((keeper, far));
            }
            assert_eq!(lab.stats().lent_buffers, 2);
            let (near, mut far) = unix_pair();
            let recorder = Recorder::new();
            lab.transport(near, recorder.clone()).await;
            far.write_all(b"wait for it").unwrap();
            lab.settle().await;
            assert_eq!(recorder.calls(), [Made]);
            assert!(lab.stats().driver.parked_receives > 0);
            assert!(kept.borrow().iter().all(|lease| **lease == pattern(2_000)));
            kept.borrow_mut().pop();
            recorder.wait(Data).await;
            assert_eq!(recorder.data(), b"wait for it");
            // A receive that waits for a buffer can be ended.
            let (near, mut other) = unix_pair();
            let (last, unheard) = (lab.stats().driver.parked_receives, Recorder::new());
            let place = kept.clone();
            recorder.take_leases(move |_, lease| place.borrow_mut().push(lease));
            far.write_all(&pattern(2_000)).unwrap();
            recorder.wait_received(2_011).await;
            lab.transport(near, unheard.clone()).await;
            other.write_all(b"never read").unwrap();
            lab.settle().await;
            assert!(lab.stats().driver.parked_receives > last);
            unheard.transport().close();
            unheard.wait(Lost).await;
            assert_eq!(unheard.calls(), [Made, Lost]);
            kept.take();
            drop(far);
            recorder.wait(Lost).await;
            for (keeper, far) in keepers {
                drop(far);
                keeper.wait(Lost).await;
            }
        });
    }

    /// The last buffer is in another thread, as `Bytes`, and the loop sleeps: it is woken.
    fn bytes_dropped_on_another_thread_wake_starved_receives(kind: DriverKind) {
        lab_on(few(kind, 1), |lab| async move {
            let kept: Rc<RefCell<Option<Bytes>>> = Rc::default();
            let keeper = Recorder::new();
            let place = kept.clone();
            keeper.take_leases(move |_, lease| *place.borrow_mut() = Some(lease.into_bytes()));
            let (near, mut first) = unix_pair();
            lab.transport(near, keeper.clone()).await;
            first.write_all(&pattern(2_000)).unwrap();
            keeper.wait(Data).await;
            let (near, mut second) = unix_pair();
            let recorder = Recorder::new();
            lab.transport(near, recorder.clone()).await;
            second.write_all(b"starved").unwrap();
            lab.settle().await;
            assert_eq!(recorder.calls(), [Made]);
            let (bytes, this) = (kept.take().unwrap(), this_thread());
            let thread = std::thread::spawn(move || {
                wait_until_asleep(this);
                assert!(*bytes == pattern(2_000));
            });
            recorder.wait(Data).await;
            thread.join().unwrap();
            assert_eq!(recorder.data(), b"starved");
            drop((first, second));
            recorder.wait(Lost).await;
            keeper.wait(Lost).await;
        });
    }
}
