//! Queues that are much too small: nothing is lost, and nothing is sent twice.

use std::rc::Rc;

use ringloop::Builder;
use ringloop::driver::uring::UringOptions;
use uring_tests::lab::{Lab, lab_on};
use uring_tests::{DriverKind, Rng, on_both_drivers};

use crate::recorder::Call::{Lost, Made, Pause, Resume};
use crate::recorder::Recorder;
use crate::sockets::{Pair, clogged, pattern};

/// A loop on this kind of driver, if it is io_uring with these options.
fn with(kind: DriverKind, options: UringOptions) -> impl FnOnce() -> Lab + Send {
    move || Lab::new(&Builder::new().driver(kind).uring_options(options))
}

/// One whose io_uring has queues of these sizes.
fn tiny(kind: DriverKind, sq_entries: u32, cq_entries: u32) -> impl FnOnce() -> Lab + Send {
    let options = UringOptions {
        sq_entries,
        cq_entries,
        ..UringOptions::default()
    };
    with(kind, options)
}

async fn connections(lab: &Lab, count: usize) -> Vec<(Rc<Recorder>, Rc<Recorder>)> {
    let mut ends = Vec::new();
    for number in 0..count {
        ends.push(clogged(lab, Pair::BOTH[number % 2]).await);
    }
    ends
}

/// Writes to many connections, and ends them in all ways.
async fn close_all(lab: &Lab) {
    let ends = connections(lab, 40).await;
    for (number, (near, far)) in ends.iter().enumerate() {
        near.transport().write(&pattern(number * 2_500)).unwrap();
        match number % 3 {
            0 => near.transport().close(),
            1 => near.transport().write_eof().unwrap(),
            _ => {}
        }
        far.transport().resume_reading();
    }
    for (number, (near, far)) in ends.iter().enumerate() {
        if number % 3 == 2 {
            far.wait_received(number * 2_500).await;
            far.transport().close();
        }
        near.wait(Lost).await;
        far.wait(Lost).await;
        assert!(far.data() == pattern(number * 2_500), "connection {number}");
    }
}

on_both_drivers! {
    /// In one iteration, more sends fail to be taken whole than there is room for their completions.
    fn partly_taken_sends_overflow_the_completion_queue(kind: DriverKind) {
        for inline_limit in [usize::MAX, 0] {
            lab_on(tiny(kind, 4, 8), move |lab| async move {
                let ends = connections(&lab, 48).await;
                let mut rng = Rng::new();
                let mut sent = vec![0; ends.len()];
                for _ in 0..12 {
                    for ((near, far), sent) in ends.iter().zip(&mut sent) {
                        let transport = near.transport();
                        // Judged at the end of the iteration, or inside the write.
                        let high = inline_limit.min(1 << 30);
                        transport.set_write_buffer_limits(Some(high), Some(high)).unwrap();
                        let len = rng.below(60_000);
                        transport.write(&pattern(*sent + len)[*sent..]).unwrap();
                        *sent += len;
                        if rng.chance(1, 2) {
                            far.transport().resume_reading();
                        } else {
                            far.transport().pause_reading();
                        }
                    }
                    lab.turns(1 + rng.below(3)).await;
                }
                for ((near, far), sent) in ends.iter().zip(&sent) {
                    far.transport().resume_reading();
                    near.transport().close();
                    near.wait(Lost).await;
                    far.wait(Lost).await;
                    assert!(far.data() == pattern(*sent), "{} of {sent}", far.received());
                    assert_eq!(near.lost_with(), None);
                }
                let counters = lab.stats().driver;
                if kind == DriverKind::Uring {
                    assert!(counters.cq_overflow > 0, "{counters:?}");
                    assert!(counters.sq_full > 0, "{counters:?}");
                }
            });
        }
    }

    /// Closing with everything unsent, all in one iteration, and nothing else happens.
    fn closes_with_tiny_queues(kind: DriverKind) {
        lab_on(tiny(kind, 2, 4), move |lab| async move {
            close_all(&lab).await;
            assert!(kind == DriverKind::Epoll || lab.stats().driver.sq_full > 0);
        });
    }

    /// The same where no send is silent.
    fn closes_where_every_send_completes(kind: DriverKind) {
        let options = UringOptions {
            inline_sends: false,
            ..UringOptions::default()
        };
        lab_on(with(kind, options), |lab| async move { close_all(&lab).await });
    }

    /// Aborted in the middle: the operation table empties.
    fn aborts_with_tiny_queues(kind: DriverKind) {
        lab_on(tiny(kind, 2, 4), move |lab| async move {
            let ends = connections(&lab, 40).await;
            for (near, _) in &ends {
                near.transport().write(&pattern(200_000)).unwrap();
            }
            lab.turns(2).await;
            for (near, far) in &ends {
                near.transport().write(b"more").unwrap();
                near.transport().abort();
                far.transport().resume_reading();
            }
            for (near, far) in &ends {
                near.wait(Lost).await;
                far.wait(Lost).await;
                assert_eq!(near.calls(), [Made, Pause, Lost]);
                assert!(!near.has(Resume));
                assert!(pattern(200_000).starts_with(&far.data()));
            }
        });
    }
}
