//! Random programs on locks, semaphores, events and conditions, against small models.
//!
//! Whatever is stopped whenever: never more holders than units, first in first out among those who
//! were not stopped, and nobody waits for what is free once everything has come to rest.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use ringloop::sync::{
    BoundedSemaphore, Condition, Event, Lock, LockGuard, Semaphore, SemaphorePermit,
};
use ringloop::{Cancelled, yield_now};
use uring_tests::{Rng, on_both_drivers};

use crate::actors::{Actors, settle};
use crate::support::Turned;

const PROGRAMS: usize = 25;
const STEPS: usize = 60;

/// What is acquired and given back.
trait Gate: 'static {
    fn pass(&self) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>> + '_>>;
    fn try_pass(&self) -> bool;
    fn give_back(&self);
    /// As its text shows it.
    fn text(&self) -> String;
}

impl Gate for Lock {
    fn pass(&self) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>> + '_>> {
        Box::pin(async { self.acquire().await.map(LockGuard::forget) })
    }
    fn try_pass(&self) -> bool {
        self.try_acquire().map(LockGuard::forget).is_some()
    }
    fn give_back(&self) {
        self.release().expect("it is locked");
    }
    fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl Gate for Semaphore {
    fn pass(&self) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>> + '_>> {
        Box::pin(async { self.acquire().await.map(SemaphorePermit::forget) })
    }
    fn try_pass(&self) -> bool {
        self.try_acquire().map(SemaphorePermit::forget).is_some()
    }
    fn give_back(&self) {
        self.release();
    }
    fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl Gate for BoundedSemaphore {
    fn pass(&self) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>> + '_>> {
        Box::pin(async { self.acquire().await.map(SemaphorePermit::forget) })
    }
    fn try_pass(&self) -> bool {
        self.try_acquire().map(SemaphorePermit::forget).is_some()
    }
    fn give_back(&self) {
        self.release().expect("a unit is out");
    }
    fn text(&self) -> String {
        format!("{self:?}")
    }
}

/// What a gate should do.
#[derive(Default)]
struct Model {
    /// Those who came, in order, and neither passed nor left.
    line: VecDeque<usize>,
    /// Who passed, since the last look.
    passed: Vec<(usize, Vec<usize>)>,
    units: usize,
    out: usize,
    /// Of those, how many their holders will give back.
    own: usize,
}

/// A holder that will give back, unless it is stopped.
struct Own(Rc<RefCell<Model>>);

impl Own {
    fn new(model: &Rc<RefCell<Model>>) -> Self {
        model.borrow_mut().own += 1;
        Self(model.clone())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.borrow_mut().own -= 1;
    }
}

impl Model {
    fn passes(&mut self, id: usize) {
        self.out += 1;
        assert!(self.out <= self.units, "more passed than there are units");
        let place = self.line.iter().position(|&other| other == id);
        let place = place.expect("who passes has come");
        let before = self.line.iter().take(place).copied().collect();
        self.line.remove(place);
        self.passed.push((id, before));
    }
}

fn gates(
    kind: uring_tests::DriverKind,
    units: impl Fn(&mut Rng) -> usize,
    make: impl Fn(usize) -> Rc<dyn Gate>,
) {
    let mut rng = Rng::new();
    let l = Turned::new(kind);
    for _ in 0..PROGRAMS {
        let units = units(&mut rng);
        let gate = make(units);
        let model = Rc::new(RefCell::new(Model {
            units,
            ..Model::default()
        }));
        let mut actors = Actors::default();
        for _ in 0..STEPS {
            match rng.below(10) {
                0..=3 => comes(&l, &mut rng, &mut actors, &gate, &model),
                4..=5 => drop(actors.stop_one(&mut rng)),
                6..=8 => give_back(&*gate, &model),
                _ => l.turn(),
            }
            look(&actors, &model);
            if rng.chance(1, 8) {
                settle(&l);
                look(&actors, &model);
                let free = model.borrow().units - model.borrow().out;
                assert!(
                    free == 0 || actors.live().next().is_none(),
                    "somebody waits for what is free"
                );
            }
        }
        for _ in 0..=STEPS {
            settle(&l);
            give_back(&*gate, &model);
        }
        look(&actors, &model);
        assert_eq!(
            actors.pending(),
            0,
            "somebody was forgotten: {}",
            gate.text()
        );
        for _ in model.borrow().out..units {
            assert!(gate.try_pass(), "a unit was lost: {}", gate.text());
        }
        assert!(!gate.try_pass(), "a unit too many: {}", gate.text());
        assert!(gate.text().contains("waiters: 0"), "{}", gate.text());
    }
}

/// Gives back a unit that nobody else will.
fn give_back(gate: &dyn Gate, model: &RefCell<Model>) {
    let kept = {
        let mut model = model.borrow_mut();
        let kept = model.out > model.own;
        model.out -= usize::from(kept);
        kept
    };
    if kept {
        gate.give_back();
    }
}

/// Those before who passed had been stopped.
fn look(actors: &Actors, model: &RefCell<Model>) {
    for (id, before) in model.borrow_mut().passed.drain(..) {
        for other in before {
            assert!(actors.is_condemned(other), "{id} passed before {other}");
        }
    }
}

/// Somebody comes, passes, and gives back: itself after a while, or it leaves that to others.
fn comes(
    l: &Turned,
    rng: &mut Rng,
    actors: &mut Actors,
    gate: &Rc<dyn Gate>,
    model: &Rc<RefCell<Model>>,
) {
    let (gate, arrives, ends) = (gate.clone(), model.clone(), model.clone());
    let holds = rng.chance(1, 3).then(|| rng.below(4));
    actors.add(
        l,
        rng,
        async move |id| {
            arrives.borrow_mut().line.push_back(id);
            gate.pass().await?;
            arrives.borrow_mut().passes(id);
            if let Some(turns) = holds {
                let own = Own::new(&arrives);
                for _ in 0..turns {
                    yield_now().await?;
                }
                drop(own);
                arrives.borrow_mut().out -= 1;
                gate.give_back();
            }
            Ok(())
        },
        move |id, _| ends.borrow_mut().line.retain(|&other| other != id),
    );
}

on_both_drivers! {
    fn random_programs_on_a_lock(kind: DriverKind) {
        gates(kind, |_| 1, |_| Rc::new(Lock::new(())));
    }

    fn random_programs_on_a_semaphore(kind: DriverKind) {
        gates(kind, |rng| 1 + rng.below(4), |units| Rc::new(Semaphore::new(units)));
    }

    fn random_programs_on_a_bounded_semaphore(kind: DriverKind) {
        gates(kind, |rng| 1 + rng.below(4), |units| Rc::new(BoundedSemaphore::new(units)));
    }

    /// Who waits when the event is set returns, and nobody else does.
    fn random_programs_on_an_event(kind: DriverKind) {
        let mut rng = Rng::new();
        let l = Turned::new(kind);
        for _ in 0..PROGRAMS {
            let event = Rc::new(Event::new());
            // How often it was set; when each came, and whether it was set then.
            let sets = Rc::new(Cell::new(0));
            let mut actors = Actors::default();
            let mut came = Vec::new();
            let returned = Rc::new(RefCell::new(Vec::new()));
            for _ in 0..STEPS {
                match rng.below(8) {
                    0..=3 => {
                        let (inner, log) = (event.clone(), returned.clone());
                        let id = actors.add(
                            &l,
                            &mut rng,
                            async move |_| inner.wait().await,
                            move |id, outcome| {
                                if outcome.is_some() {
                                    log.borrow_mut().push(id);
                                }
                            },
                        );
                        // It waits, or has returned, before anything else happens.
                        l.turn();
                        came.push((id, sets.get(), event.is_set()));
                    }
                    4 => drop(actors.stop_one(&mut rng)),
                    5 => {
                        sets.set(sets.get() + 1);
                        event.set();
                    }
                    6 => event.clear(),
                    _ => l.turn(),
                }
                if rng.chance(1, 6) {
                    settle(&l);
                    let live: Vec<_> = actors.live().map(|actor| actor.id).collect();
                    for (id, sets_then, set_then) in &came {
                        let released = *set_then || sets.get() > *sets_then;
                        if live.contains(id) {
                            assert!(!released, "{id} waits on");
                        }
                        if returned.borrow().contains(id) {
                            assert!(released, "{id} returned too early");
                        }
                    }
                }
            }
            event.set();
            settle(&l);
            assert_eq!(actors.pending(), 0);
            assert_eq!(format!("{event:?}"), "Event { set: true, waiters: 0 }");
        }
    }

    /// As many go on as were notified, in order; a notification of one that was stopped goes to
    /// the next; all hold the lock when they return, cancelled or not.
    fn random_programs_on_a_condition(kind: DriverKind) {
        let mut rng = Rng::new();
        let l = Turned::new(kind);
        for _ in 0..PROGRAMS {
            let condition = Rc::new(Condition::new(0_u32));
            let mut actors = Actors::default();
            let went_on: Rc<RefCell<Vec<usize>>> = Rc::default();
            for _ in 0..STEPS / 4 {
                for _ in 0..rng.below(6) {
                    let (inner, log) = (condition.clone(), went_on.clone());
                    actors.add(
                        &l,
                        &mut rng,
                        async move |id| {
                            let mut guard = inner.acquire().await?;
                            let outcome = inner.wait(&mut guard).await;
                            assert!(LockGuard::is_held(&guard));
                            *guard += 1;
                            outcome?;
                            log.borrow_mut().push(id);
                            Ok(())
                        },
                        |_, _| {},
                    );
                }
                settle(&l);
                let waiting: Vec<_> = actors.live().map(|actor| actor.id).collect();
                went_on.take();
                // Notifications and ends in any order, with the lock held or free in between.
                let mut notified = 0;
                let mut guard = None;
                for _ in 0..rng.below(8) {
                    match rng.below(4) {
                        0 => drop(actors.stop_one(&mut rng)),
                        1 => l.turn(),
                        2 => match guard.take() {
                            Some(held) => drop(held),
                            None => guard = condition.lock().try_acquire(),
                        },
                        _ => {
                            let held = guard.take().or_else(|| condition.lock().try_acquire());
                            if let Some(held) = held {
                                let n = rng.below(3);
                                condition.notify(n).expect("locked");
                                notified += n;
                                guard = Some(held);
                            }
                        }
                    }
                }
                drop(guard);
                settle(&l);
                let stopped = waiting.iter().filter(|id| actors.is_condemned(**id)).count();
                let left = actors.live().count();
                let went_on = went_on.take();
                assert!(went_on.is_sorted(), "in order: {went_on:?}");
                assert!(went_on.len() <= notified, "{} went on, {notified} notified", went_on.len());
                // Those who were stopped may have gone on before; no notification was lost on them.
                let owed = notified.min(waiting.len());
                assert!(left == 0 || went_on.len() >= owed, "{went_on:?} of {notified}, {stopped} stopped");
            }
            let guard = condition.lock().try_acquire().expect("nobody holds it");
            condition.notify_all().expect("locked");
            drop(guard);
            settle(&l);
            assert_eq!(actors.pending(), 0);
            assert_eq!(format!("{condition:?}"), "Condition { locked: false, waiters: 0 }");
            assert_eq!(format!("{:?}", condition.lock()), "Lock { locked: false, waiters: 0 }");
        }
    }
}
