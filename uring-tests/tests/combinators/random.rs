//! Random programs of groups, timeouts, clean-up, cancel and uncancel, against the model of
//! `model.rs`: the same end, at the same time, with the same failures, and nothing left behind.
//!
//! All durations are long random numbers, so that no two events happen at the same time and the
//! order of what does not take time is nobody's business.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use ringloop::{
    Cancelled, EventLoopExt, Failure, GroupError, JoinError, TaskGroup, sleep, task_group, timeout,
};

use uring_tests::tasks::me;
use uring_tests::watch::Watch;
use uring_tests::{Rng, Seeds, on_both_drivers};

use crate::model::{End, Node, simulate};

/// How a part of a program ends that gives no value.
#[derive(Debug)]
enum Ended {
    Cancelled(Cancelled),
    /// The numbers of what failed.
    Failed(Vec<u32>),
}

impl From<Cancelled> for Ended {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

type Part = Pin<Box<dyn Future<Output = Result<(), Ended>>>>;

fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// The program.
fn run(node: Rc<Node>) -> Part {
    Box::pin(async move {
        match &*node {
            Node::Sleep(time) => Ok(sleep(nanos(*time)).await?),
            Node::Fail(number) => Err(Ended::Failed(vec![*number])),
            Node::Seq(parts) => {
                for part in parts {
                    run(part.clone()).await?;
                }
                Ok(())
            }
            Node::Catch { part, uncancel } => match run(part.clone()).await {
                Err(Ended::Cancelled(cancelled)) => {
                    drop(cancelled);
                    if *uncancel {
                        me().uncancel();
                    }
                    Ok(())
                }
                ended => ended,
            },
            Node::OnCancel { part, clean_up } => match run(part.clone()).await {
                Err(Ended::Cancelled(cancelled)) => match run(clean_up.clone()).await {
                    Err(Ended::Failed(numbers)) => Err(Ended::Failed(numbers)),
                    Ok(()) | Err(Ended::Cancelled(_)) => Err(Ended::Cancelled(cancelled)),
                },
                ended => ended,
            },
            Node::Timeout { id, time, part } => {
                let limited = timeout(nanos(*time), run(part.clone())).await;
                limited.unwrap_or_else(|_| Err(Ended::Failed(vec![*id])))
            }
            Node::Group { children, body, .. } => {
                let (children, body) = (children.clone(), body.clone());
                let group = task_group(async move |group: TaskGroup<Ended>| {
                    for child in children {
                        group
                            .create_task(run(child))
                            .expect("nothing has failed yet");
                    }
                    run(body).await
                });
                match group.await {
                    Ok(()) => Ok(()),
                    Err(GroupError::Cancelled(ended)) => Err(ended),
                    Err(GroupError::Failed(group)) => {
                        Err(Ended::Failed(group.into_iter().flat_map(numbers).collect()))
                    }
                }
            }
        }
    })
}

fn numbers(failure: Failure<Ended>) -> Vec<u32> {
    match failure {
        Failure::Error(Ended::Failed(numbers)) => numbers,
        other => panic!("a failure that none is: {other:?}"),
    }
}

/// Makes programs.
struct Maker {
    rng: Rng,
    next: u32,
}

impl Maker {
    fn time(&mut self) -> u64 {
        1 + self.rng.next_u64() % (1 << 40)
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn sleep(&mut self) -> Rc<Node> {
        Rc::new(Node::Sleep(self.time()))
    }

    fn part(&mut self, depth: usize) -> Rc<Node> {
        let inner = depth.saturating_sub(1);
        let kind = if depth == 0 { 0 } else { self.rng.below(9) };
        Rc::new(match kind {
            0 | 1 if self.rng.chance(1, 3) => {
                let fail = Rc::new(Node::Fail(self.number()));
                Node::Seq(vec![self.sleep(), fail])
            }
            0 | 1 => Node::Sleep(self.time()),
            2 | 3 => Node::Seq((0..2).map(|_| self.part(inner)).collect()),
            4 => Node::Catch {
                part: self.part(inner),
                uncancel: self.rng.chance(1, 2),
            },
            5 => Node::OnCancel {
                part: self.part(inner),
                clean_up: self.part(inner),
            },
            6 => Node::Timeout {
                id: self.number(),
                time: self.time(),
                part: self.part(inner),
            },
            _ => Node::Group {
                id: self.number(),
                children: (0..self.rng.below(4)).map(|_| self.part(inner)).collect(),
                body: self.part(inner),
            },
        })
    }
}

/// What became of the program, as the model says it.
fn perform(l: &Watch, program: &Rc<Node>, cancels: &[u64]) -> (End, u64, u32) {
    let start = l.time();
    let mut task = l
        .create_task(run(program.clone()))
        .expect("the loop is open");
    let timers: Vec<_> = cancels
        .iter()
        .map(|&time| {
            let task = task.local();
            let cancel = move || {
                task.cancel();
            };
            l.call_at(start + time, cancel).expect("the loop is open")
        })
        .collect();
    let event_loop = l.event_loop();
    let seen = l.run(async move {
        let ended = match (&mut task).await {
            Ok(Ok(())) => End::Finished,
            Ok(Err(Ended::Failed(mut numbers))) => {
                numbers.sort_unstable();
                End::Failed(numbers)
            }
            Ok(Err(Ended::Cancelled(_))) => panic!("a cancellation as a value"),
            Err(JoinError::Cancelled(_)) => End::Cancelled,
            Err(JoinError::Panicked(_)) => panic!("it panicked"),
        };
        (ended, event_loop.time() - start, task.cancelling())
    });
    timers.iter().for_each(|timer| timer.cancel());
    seen
}

on_both_drivers! {
    fn tgr_04_tgr_05_tgr_13_tmo_06_random_programs_end_as_the_model_says(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let mut ends = [0; 3];
        for seed in Seeds::new(400) {
            let mut maker = Maker { rng: seed.rng(), next: 0 };
            let program = maker.part(5);
            let mut cancels: Vec<u64> = (0..maker.rng.below(4)).map(|_| maker.time()).collect();
            cancels.sort_unstable();
            let expected = simulate(&program, &cancels);
            let seen = perform(&l, &program, &cancels);
            assert_eq!(seen, expected, "{program:#?}\ncancelled at {cancels:?}");
            ends[match seen.0 {
                End::Finished => 0,
                End::Failed(_) => 1,
                End::Cancelled => 2,
            }] += 1;
            let left = format!("{:?}", l.core().tasks());
            assert!(left.contains("len: 0, waits: 0, scopes: 0"), "{left}\n{program:#?}");
            l.turn();
            assert_eq!(l.stats().timers, 0, "{program:#?}");
            drop(l.seen.parks());
        }
        assert!(ends.iter().all(|&count| count > 0), "not every end was seen: {ends:?}");
    }
}
