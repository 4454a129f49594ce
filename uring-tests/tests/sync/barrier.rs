use std::panic::catch_unwind;
use std::rc::Rc;

use ringloop::sync::{Barrier, BarrierError};
use ringloop::{Cancelled, Task};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::support::{Turned, cancelled, ended};

/// What a party was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Position(usize),
    Broken,
}
use Told::{Broken, Position};

type Party = Task<Result<(), Cancelled>>;

/// A task that waits once and says what it was told.
fn party(l: &Turned, barrier: &Rc<Barrier>, log: &Order<(u32, Told)>, name: u32) -> Party {
    let (barrier, log) = (barrier.clone(), log.clone());
    l.spawn(async move {
        log.add(match barrier.wait().await {
            Ok(position) => (name, Position(position)),
            Err(BarrierError::Broken) => (name, Broken),
            Err(BarrierError::Cancelled(cancelled)) => return Err(cancelled),
        });
        Ok(())
    })
}

fn parties(
    l: &Turned,
    barrier: &Rc<Barrier>,
    log: &Order<(u32, Told)>,
    names: impl IntoIterator<Item = u32>,
) -> Vec<Party> {
    let names = names.into_iter();
    names.map(|name| party(l, barrier, log, name)).collect()
}

fn barrier(count: usize) -> (Rc<Barrier>, Order<(u32, Told)>) {
    (Rc::new(Barrier::new(count)), Order::default())
}

fn shows(barrier: &Barrier, state: &str, waiters: usize) {
    let parties = barrier.parties();
    let text = format!("Barrier {{ state: {state}, waiters: {waiters}, parties: {parties} }}");
    assert_eq!(format!("{barrier:?}"), text);
}

on_both_drivers! {
    fn bar_01_it_takes_at_least_one_party(_kind: DriverKind) {
        assert!(catch_unwind(|| Barrier::new(0)).is_err());
        assert_eq!(Barrier::new(5).parties(), 5);
    }

    fn bar_01_the_text_shows_state_and_count(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(2);
        shows(&barrier, "Filling", 0);
        let one = party(&l, &barrier, &log, 1);
        l.turn();
        shows(&barrier, "Filling", 1);
        assert_eq!(barrier.n_waiting(), 1);
        let two = party(&l, &barrier, &log, 2);
        l.turn();
        // The other one was woken and has yet to leave.
        shows(&barrier, "Draining", 0);
        l.turn();
        shows(&barrier, "Filling", 0);
        barrier.abort();
        shows(&barrier, "Broken", 0);
        drop((one, two));
    }

    fn bar_02_all_pass_together_in_the_order_in_which_they_came(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(4);
        let first = parties(&l, &barrier, &log, 0..3);
        l.turns(3);
        assert_eq!((log.take().len(), barrier.n_waiting()), (0, 3));
        let last = party(&l, &barrier, &log, 3);
        l.turns(2);
        assert_eq!(
            log.take(),
            [(3, Position(3)), (0, Position(0)), (1, Position(1)), (2, Position(2))]
        );
        assert_eq!(barrier.n_waiting(), 0);
        drop((first, last));
    }

    /// Positions stay distinct when somebody who came in between left.
    fn bar_02_positions_are_distinct_after_a_cancellation(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let mut first = parties(&l, &barrier, &log, 0..2);
        l.turn();
        first[0].cancel();
        l.turn();
        cancelled(&mut first[0]);
        let second = parties(&l, &barrier, &log, 2..4);
        l.turns(2);
        assert_eq!(log.take(), [(3, Position(2)), (1, Position(0)), (2, Position(1))]);
        drop(second);
    }

    fn bar_03_one_party_never_waits(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(1);
        for name in 0..3 {
            let mut task = party(&l, &barrier, &log, name);
            l.turn();
            ended(&mut task).unwrap();
            assert_eq!(log.take(), [(name, Position(0))]);
            shows(&barrier, "Filling", 0);
        }
    }

    fn bar_04_it_is_used_in_rounds(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (barrier, log) = (barrier.clone(), log.clone());
                l.spawn(async move {
                    for round in 0..5 {
                        log.add((round, Position(barrier.wait().await?)));
                    }
                    Ok::<_, BarrierError>(())
                })
            })
            .collect();
        l.run(async {
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        });
        let mut told = log.take();
        for (round, told) in told.chunks_mut(3).enumerate() {
            told.sort_by_key(|(_, told)| match told {
                Position(position) => *position,
                Broken => usize::MAX,
            });
            let positions = [0, 1, 2].map(|position| (round as u32, Position(position)));
            assert_eq!(told, positions, "a round ends before the next begins");
        }
    }

    fn bar_04_late_comers_wait_until_it_is_drained(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let first = parties(&l, &barrier, &log, 0..3);
        // These come while the first are on their way out.
        let late = parties(&l, &barrier, &log, 3..8);
        l.turn();
        shows(&barrier, "Draining", 0);
        assert_eq!(log.take(), [(2, Position(2))]);
        l.turns(4);
        assert_eq!(
            log.take(),
            [
                (0, Position(0)),
                (1, Position(1)),
                (5, Position(2)),
                (3, Position(0)),
                (4, Position(1)),
            ]
        );
        // Two of the next round are in, one is missing.
        l.turns(4);
        shows(&barrier, "Filling", 2);
        let last = party(&l, &barrier, &log, 8);
        l.turns(2);
        assert_eq!(log.take(), [(8, Position(2)), (6, Position(0)), (7, Position(1))]);
        drop((first, late, last));
    }

    fn bar_05_a_cancelled_party_only_leaves(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let mut tasks = parties(&l, &barrier, &log, 0..2);
        l.turn();
        tasks[0].cancel();
        l.turn();
        cancelled(&mut tasks[0]);
        shows(&barrier, "Filling", 1);
        // So does a dropped one.
        let mut dropped = party(&l, &barrier, &log, 2);
        l.turn();
        assert_eq!(barrier.n_waiting(), 2);
        dropped.abort();
        l.turn();
        cancelled(&mut dropped);
        assert_eq!(barrier.n_waiting(), 1);
        assert!(!barrier.broken());
        let more = parties(&l, &barrier, &log, 3..5);
        l.turns(2);
        assert_eq!(log.take().len(), 3);
        drop(more);
    }

    /// Cancelled when it had been let through: the others are through, the next round is whole.
    fn bar_05_cancelled_on_the_way_out(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(2);
        let mut one = party(&l, &barrier, &log, 1);
        l.turn();
        let two = party(&l, &barrier, &log, 2);
        let late = party(&l, &barrier, &log, 3);
        l.turn();
        one.cancel();
        l.turns(2);
        cancelled(&mut one);
        assert_eq!(log.take(), [(2, Position(1))]);
        shows(&barrier, "Filling", 1);
        let last = party(&l, &barrier, &log, 4);
        l.turns(2);
        assert_eq!(log.take(), [(4, Position(1)), (3, Position(0))]);
        drop((two, late, last));
    }

    /// Cancelled outside, where it waits for the last round to leave.
    fn bar_05_cancelled_outside(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(2);
        let tasks = parties(&l, &barrier, &log, 0..2);
        let mut late = party(&l, &barrier, &log, 2);
        l.turn();
        late.cancel();
        l.turns(2);
        cancelled(&mut late);
        shows(&barrier, "Filling", 0);
        drop(tasks);
    }

    fn bar_06_reset_when_nobody_waits(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(2);
        barrier.reset();
        shows(&barrier, "Filling", 0);
        let tasks = parties(&l, &barrier, &log, 0..2);
        l.turns(2);
        assert_eq!(log.take(), [(1, Position(1)), (0, Position(0))]);
        drop(tasks);
    }

    fn bar_06_reset_with_waiters_tells_them(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let tasks = parties(&l, &barrier, &log, 0..2);
        l.turn();
        barrier.reset();
        shows(&barrier, "Resetting", 0);
        assert!(!barrier.broken());
        // Newcomers wait until those have left, and then are the first of a new round.
        let late = parties(&l, &barrier, &log, 2..5);
        l.turns(3);
        assert_eq!(log.take()[..2], [(0, Broken), (1, Broken)]);
        l.turns(3);
        shows(&barrier, "Filling", 0);
        drop((tasks, late));
    }

    fn bar_06_reset_with_waiters_then_used_again(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        for _ in 0..2 {
            let tasks = parties(&l, &barrier, &log, 0..2);
            l.turn();
            barrier.reset();
            l.turn();
            assert_eq!(log.take(), [(0, Broken), (1, Broken)]);
            drop(tasks);
        }
        let tasks = parties(&l, &barrier, &log, 0..3);
        l.turns(2);
        assert_eq!(log.take().len(), 3);
        drop(tasks);
    }

    /// Those who are still inside are told; who had left is through.
    fn bar_06_reset_while_draining(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let tasks = parties(&l, &barrier, &log, 0..3);
        let late = party(&l, &barrier, &log, 3);
        l.turn();
        assert_eq!(log.take(), [(2, Position(2))]);
        shows(&barrier, "Draining", 0);
        barrier.reset();
        shows(&barrier, "Resetting", 0);
        l.turns(2);
        assert_eq!(log.take(), [(0, Broken), (1, Broken)]);
        shows(&barrier, "Filling", 1);
        let more = parties(&l, &barrier, &log, 4..6);
        l.turns(2);
        assert_eq!(log.take(), [(5, Position(2)), (3, Position(0)), (4, Position(1))]);
        drop((tasks, late, more));
    }

    /// One of those inside resets it on its way out: the one behind it is told.
    fn bar_06_reset_when_half_drained(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let (inner, note) = (barrier.clone(), log.clone());
        let resets = l.spawn(async move {
            note.add((0, Position(inner.wait().await?)));
            inner.reset();
            Ok::<_, BarrierError>(())
        });
        let tasks = parties(&l, &barrier, &log, 1..3);
        let late = party(&l, &barrier, &log, 3);
        l.turns(2);
        assert_eq!(log.take(), [(2, Position(2)), (0, Position(0)), (1, Broken)]);
        l.turn();
        shows(&barrier, "Filling", 1);
        drop((resets, tasks));
        barrier.reset();
        l.turn();
        assert_eq!(log.take(), [(3, Broken)]);
        drop(late);
    }

    fn bar_07_abort_breaks_it_until_reset(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let tasks = parties(&l, &barrier, &log, 0..2);
        l.turn();
        barrier.abort();
        assert!(barrier.broken());
        assert_eq!(barrier.n_waiting(), 0);
        l.turn();
        assert_eq!(log.take(), [(0, Broken), (1, Broken)]);
        // Newcomers are told at once.
        let newcomer = party(&l, &barrier, &log, 2);
        l.turn();
        assert_eq!(log.take(), [(2, Broken)]);
        assert!(barrier.broken());
        barrier.reset();
        assert!(!barrier.broken());
        let more = parties(&l, &barrier, &log, 3..6);
        l.turns(2);
        assert_eq!(log.take().len(), 3);
        shows(&barrier, "Filling", 0);
        drop((tasks, newcomer, more));
    }

    /// Half of them are out, some wait outside: all who are not out are told.
    fn bar_07_abort_when_half_drained(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(3);
        let tasks = parties(&l, &barrier, &log, 0..3);
        let late = parties(&l, &barrier, &log, 3..5);
        l.turn();
        assert_eq!(log.take(), [(2, Position(2))]);
        barrier.abort();
        l.turns(2);
        assert_eq!(log.take(), [(0, Broken), (1, Broken), (3, Broken), (4, Broken)]);
        shows(&barrier, "Broken", 0);
        drop((tasks, late));
    }

    /// Aborted and reset before anybody ran: those inside are told, and then it is as new.
    fn bar_07_abort_and_reset_at_once(kind: DriverKind) {
        let l = Turned::new(kind);
        let (barrier, log) = barrier(2);
        let task = party(&l, &barrier, &log, 0);
        l.turn();
        barrier.abort();
        barrier.reset();
        shows(&barrier, "Resetting", 0);
        l.turn();
        assert_eq!(log.take(), [(0, Broken)]);
        shows(&barrier, "Filling", 0);
        drop(task);
    }
}
