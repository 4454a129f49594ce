//! Random programs on queues and barriers, against small models.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ringloop::sync::{
    Barrier, BarrierError, Fifo, GetError, Lifo, PutError, Queue, QueueStore, Smallest,
};
use uring_tests::{DriverKind, Rng, on_both_drivers};

use crate::actors::{Actors, settle};
use crate::support::Turned;

const PROGRAMS: usize = 25;
const STEPS: usize = 80;

/// What the queue should hold, and in which order it should give that.
struct Model {
    items: VecDeque<u32>,
    /// Takes the next item out.
    next: fn(&mut VecDeque<u32>) -> Option<u32>,
    /// Items that were got and not said to be done.
    working: usize,
}

impl Model {
    fn gets(&mut self, item: u32) {
        assert_eq!((self.next)(&mut self.items), Some(item), "out of order");
        self.working += 1;
    }

    fn unfinished(&self) -> usize {
        self.items.len() + self.working
    }
}

fn smallest(items: &mut VecDeque<u32>) -> Option<u32> {
    let smallest = *items.iter().min()?;
    items.retain(|&item| item != smallest);
    Some(smallest)
}

/// A task that puts; true, when it did.
fn puts<S: QueueStore<u32> + 'static>(
    l: &Turned,
    rng: &mut Rng,
    actors: &mut Actors,
    queue: &Rc<Queue<u32, S>>,
    model: &Rc<RefCell<Model>>,
    item: u32,
) {
    let (queue, model) = (queue.clone(), model.clone());
    let wait = async move |_| match queue.put(item).await {
        Ok(()) => {
            model.borrow_mut().items.push_back(item);
            Ok(())
        }
        Err(PutError::QueueShutDown(back)) => {
            assert_eq!(back, item);
            Ok(())
        }
        Err(PutError::Cancelled(back, cancelled)) => {
            assert_eq!(back, item);
            Err(cancelled)
        }
    };
    actors.add(l, rng, wait, |_, _| {});
}

fn gets<S: QueueStore<u32> + 'static>(
    l: &Turned,
    rng: &mut Rng,
    actors: &mut Actors,
    queue: &Rc<Queue<u32, S>>,
    model: &Rc<RefCell<Model>>,
) {
    let (queue, model) = (queue.clone(), model.clone());
    let wait = async move |_| match queue.get().await {
        Ok(item) => {
            model.borrow_mut().gets(item);
            Ok(())
        }
        Err(GetError::QueueShutDown) => {
            assert!(model.borrow().items.is_empty(), "there are items to be got");
            Ok(())
        }
        Err(GetError::Cancelled(cancelled)) => Err(cancelled),
    };
    actors.add(l, rng, wait, |_, _| {});
}

fn queues<S: QueueStore<u32> + 'static>(
    kind: DriverKind,
    store: impl Fn() -> S,
    next: fn(&mut VecDeque<u32>) -> Option<u32>,
) {
    let mut rng = Rng::new();
    let l = Turned::new(kind);
    for _ in 0..PROGRAMS {
        let queue = Rc::new(Queue::with_store(rng.below(4), store()));
        let model = Rc::new(RefCell::new(Model {
            items: VecDeque::new(),
            next,
            working: 0,
        }));
        let (mut getters, mut putters) = (Actors::default(), Actors::default());
        let mut numbers = 0..;
        // Items come in no order of theirs.
        let mut item = || {
            numbers
                .next()
                .map_or(0, |number: u32| number.wrapping_mul(0x9E37_79B9))
        };
        for _ in 0..STEPS {
            match rng.below(12) {
                0..=2 => puts(&l, &mut rng, &mut putters, &queue, &model, item()),
                3..=5 => gets(&l, &mut rng, &mut getters, &queue, &model),
                6 => drop(getters.stop_one(&mut rng)),
                7 => drop(putters.stop_one(&mut rng)),
                8 => {
                    let item = item();
                    if queue.put_nowait(item).is_ok() {
                        model.borrow_mut().items.push_back(item);
                    }
                }
                9 => {
                    if let Ok(item) = queue.get_nowait() {
                        model.borrow_mut().gets(item);
                    }
                }
                10 => {
                    let working = model.borrow().working;
                    if working > 0 {
                        queue.task_done().expect("one is being worked on");
                        model.borrow_mut().working = working - 1;
                    }
                }
                _ => l.turn(),
            }
            assert_eq!(queue.qsize(), model.borrow().items.len());
            assert!(queue.maxsize() == 0 || queue.qsize() <= queue.maxsize());
            if rng.chance(1, 8) {
                settle(&l);
                let waits = getters.live().next().is_some();
                assert!(
                    queue.empty() || !waits,
                    "a getter waits, and there is an item"
                );
                let waits = putters.live().next().is_some();
                assert!(queue.full() || !waits, "a putter waits, and there is room");
            }
        }
        ends(&l, &mut rng, &queue, &model, [&getters, &putters]);
    }
}

/// Shut down in either way, everybody ends, and what is left is accounted for.
fn ends<S: QueueStore<u32> + 'static>(
    l: &Turned,
    rng: &mut Rng,
    queue: &Rc<Queue<u32, S>>,
    model: &Rc<RefCell<Model>>,
    actors: [&Actors; 2],
) {
    let joins = queue.clone();
    let join = l.spawn(async move { joins.join().await });
    let immediate = rng.chance(1, 2);
    queue.shutdown(immediate);
    if immediate {
        model.borrow_mut().items.clear();
    }
    settle(l);
    for actors in actors {
        assert_eq!(
            actors.pending(),
            0,
            "somebody waits for a queue that was shut down"
        );
    }
    while let Ok(item) = queue.get_nowait() {
        model.borrow_mut().gets(item);
    }
    assert!(model.borrow().items.is_empty());
    assert_eq!(join.done(), model.borrow().unfinished() == 0);
    for _ in 0..model.borrow().working {
        queue.task_done().expect("it was got");
    }
    assert!(queue.task_done().is_err());
    l.turns(2);
    assert!(join.done());
    let text = format!("{queue:?}");
    assert!(
        text.contains("getters: 0, putters: 0, unfinished_tasks: 0"),
        "{text}"
    );
}

on_both_drivers! {
    fn random_programs_on_a_queue(kind: DriverKind) {
        queues(kind, Fifo::default, VecDeque::pop_front);
    }

    fn random_programs_on_a_lifo_queue(kind: DriverKind) {
        queues(kind, Lifo::default, VecDeque::pop_back);
    }

    fn random_programs_on_a_priority_queue(kind: DriverKind) {
        queues(kind, Smallest::default, smallest);
    }

    /// Rounds do not mix, positions in a round differ, and nobody stands outside an empty barrier.
    fn random_programs_on_a_barrier(kind: DriverKind) {
        let mut rng = Rng::new();
        let l = Turned::new(kind);
        for _ in 0..PROGRAMS {
            let parties = 1 + rng.below(4);
            let barrier = Rc::new(Barrier::new(parties));
            // Positions of the round that is being left: the last party leaves first.
            let round: Rc<RefCell<Vec<usize>>> = Rc::default();
            let mut actors = Actors::default();
            for _ in 0..STEPS {
                match rng.below(12) {
                    0..=5 => {
                        let (barrier, round) = (barrier.clone(), round.clone());
                        let wait = async move |_| match barrier.wait().await {
                            Ok(position) => {
                                let mut round = round.borrow_mut();
                                assert!(position < parties);
                                if position == parties - 1 {
                                    round.clear();
                                }
                                assert!(!round.contains(&position), "{position} after {round:?}");
                                round.push(position);
                                assert_eq!(round[0], parties - 1, "rounds mix: {round:?}");
                                Ok(())
                            }
                            Err(BarrierError::Broken) => Ok(()),
                            Err(BarrierError::Cancelled(cancelled)) => Err(cancelled),
                        };
                        actors.add(&l, &mut rng, wait, |_, _| {});
                    }
                    6 | 7 => drop(actors.stop_one(&mut rng)),
                    8 if rng.chance(1, 3) => barrier.abort(),
                    9 if barrier.broken() || rng.chance(1, 3) => barrier.reset(),
                    _ => l.turn(),
                }
                if rng.chance(1, 8) {
                    settle(&l);
                    let waiting = actors.live().count();
                    assert_eq!(actors.pending(), waiting, "who was stopped has ended");
                    assert!(waiting < parties, "{waiting} wait for {parties}: {barrier:?}");
                    assert_eq!(barrier.n_waiting(), waiting, "{barrier:?}");
                    assert!(!barrier.broken() || waiting == 0);
                }
            }
            barrier.abort();
            settle(&l);
            assert_eq!(actors.pending(), 0);
            barrier.reset();
            let text = format!("Barrier {{ state: Filling, waiters: 0, parties: {parties} }}");
            assert_eq!(format!("{barrier:?}"), text);
        }
    }
}
