//! Random programs of those who wait for one future, against a list.

use ringloop::EventLoopExt;
use ringloop::Task;
use ringloop::event_loop::{CallbackId, Future};
use uring_tests::lab::Lab;
use uring_tests::order::Order;
use uring_tests::{Rng, on_both_drivers};

use crate::support::{lab, turn};

const PROGRAMS: u64 = 300;
const STEPS: usize = 30;

/// Who waits.
enum Waits {
    Task(Task<()>),
    Callback(CallbackId),
}

struct Program<'a> {
    l: &'a Lab,
    future: Future<u32>,
    told: Order<usize>,
    /// Those who wait now, in order, with their names.
    waits: Vec<(usize, Waits)>,
    names: usize,
}

impl Program<'_> {
    fn come(&mut self, is_task: bool) {
        let name = self.names;
        self.names += 1;
        let told = self.told.clone();
        let waits = if is_task {
            let waiting = self.future.wait();
            let task = self.l.event_loop.create_task(async move {
                drop(waiting.await);
                told.add(name);
            });
            turn(self.l);
            Waits::Task(task.unwrap())
        } else {
            Waits::Callback(self.future.add_done_callback(move |_| told.add(name)))
        };
        self.waits.push((name, waits));
    }

    fn go(&mut self, at: usize) {
        match self.waits.remove(at).1 {
            Waits::Task(task) => {
                task.abort();
                turn(self.l);
            }
            Waits::Callback(id) => assert_eq!(self.future.remove_done_callback(id), 1),
        }
    }

    fn end(self, how: usize) {
        let future = &self.future;
        assert!(!future.done());
        match how {
            0 => future.set_result(1).unwrap(),
            1 => future.set_exception("failed").unwrap(),
            _ => assert!(future.cancel()),
        }
        assert_eq!(self.told.take(), []);
        turn(self.l);
        let names: Vec<_> = self.waits.iter().map(|(name, _)| *name).collect();
        assert_eq!(self.told.take(), names);
        drop(future.exception());
    }
}

on_both_drivers! {
    /// Everybody who came and did not go is told once, in the order in which they came.
    fn fut_10_fut_11_who_waits_is_told_in_order(kind: DriverKind) {
        let l = lab(kind);
        for seed in 0..PROGRAMS {
            let mut rng = Rng::with_seed(seed);
            let mut program = Program {
                l: &l,
                future: l.event_loop.create_future(),
                told: Order::default(),
                waits: Vec::new(),
                names: 0,
            };
            for _ in 0..rng.below(STEPS) {
                let waiting = program.waits.len();
                match rng.below(5) {
                    0 | 1 if waiting > 0 => program.go(rng.below(waiting)),
                    chosen => program.come(chosen % 2 == 0),
                }
            }
            program.end(rng.below(3));
        }
        assert_eq!(l.stats().tasks, 0);
        l.close();
    }
}
