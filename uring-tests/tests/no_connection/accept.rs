//! Accepts that are given up: the connections go to the next accept, in order, or end with the
//! listener.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ringloop::driver::{Complete, Event, Fd, Key, Op, Target};
use ringloop::event_loop::{Core, Operation};
use ringloop::{DriverKind, yield_now};
use uring_tests::give_up::{Way, give_up};
use uring_tests::lab::Lab;
use uring_tests::moments::at_some_moment;
use uring_tests::worlds::worlds;
use uring_tests::{Rng, on_both_drivers};

use crate::{Address, Client, listener, who};

/// A listener, and what was accepted.
struct Desk {
    core: Rc<Core>,
    /// Held here, and by every operation in flight.
    fd: Fd,
    accepted: RefCell<Vec<OwnedFd>>,
    /// How often a connection was in the stash.
    stashed: Cell<usize>,
    /// How often an accept was told that it is given up.
    given_up: Cell<usize>,
}

impl Desk {
    fn new(core: &Rc<Core>, listener: OwnedFd) -> Rc<Self> {
        Rc::new(Self {
            core: core.clone(),
            fd: Fd::new(listener),
            accepted: RefCell::default(),
            stashed: Cell::default(),
            given_up: Cell::default(),
        })
    }

    /// Waits until no operation is in flight any more: what it brings comes first.
    async fn alone(&self) -> bool {
        while !self.fd.is_unique() {
            if yield_now().await.is_err() {
                return false;
            }
        }
        true
    }

    fn take_stash(&self) -> bool {
        let Some(connection) = self.fd.take_accepted() else {
            return false;
        };
        self.stashed.set(self.stashed.get() + 1);
        self.accepted.borrow_mut().push(connection);
        true
    }

    /// Accepts one connection.
    async fn accept(self: Rc<Self>) {
        if !self.alone().await || self.take_stash() {
            return;
        }
        let op = Op::Accept {
            fd: self.fd.clone(),
        };
        let Ok(outcome) = Operation::new(self.core.clone(), op).await else {
            return self.given_up.set(self.given_up.get() + 1);
        };
        outcome.count().expect("the listener listens");
        let connection = outcome.fd.expect("an accept makes one");
        self.accepted.borrow_mut().push(connection);
    }

    /// Accepts until it is told to stop.
    fn accept_all(self: &Rc<Self>) -> Key {
        let op = Op::AcceptMulti {
            fd: self.fd.clone(),
        };
        self.core.submit(op, Target::Callback(self.clone()))
    }
}

impl Complete for Desk {
    fn complete(self: Rc<Self>, event: Event) {
        match event.fd {
            Some(connection) => self.accepted.borrow_mut().push(connection),
            None => assert_eq!(event.result, -libc::ECANCELED),
        }
    }
}

/// Everybody was served, once and in the order of coming, but those the listener ends with.
async fn settle_up(
    lab: &Lab,
    desk: Rc<Desk>,
    mut clients: Vec<Client>,
    address: &Address,
    rng: &mut Rng,
) {
    // Comes when nothing is in flight, so the wait for it ends.
    come(&mut clients, address);
    let last = clients.len();
    for _ in 0..rng.below(3) {
        come(&mut clients, address);
    }
    let mut served = Vec::new();
    while served.last().is_none_or(|number| number + 1 < last as u32) {
        if desk.accepted.borrow().is_empty() {
            desk.clone().accept().await;
        }
        let accepted = desk.accepted.take();
        served.extend(accepted.into_iter().filter_map(who));
    }
    let everybody: Vec<u32> = (0..).take(last).collect();
    assert_eq!(served, everybody, "who was served, and who came");
    // Who is left is in the listener's queue, or comes to an accept that is given up.
    if rng.chance(1, 2) {
        let key = desk.accept_all();
        lab.pass(rng).await;
        lab.core().abandon(key);
    }
    drop(desk);
    lab.idle().await;
    for client in &mut clients {
        // Their connections were closed above, or with the listener.
        assert_eq!(client.told(), []);
    }
}

fn come(clients: &mut Vec<Client>, address: &Address) {
    let mut client = Client::connect(address);
    client.introduce(u32::try_from(clients.len()).expect("few"));
    clients.push(client);
}

async fn one_by_one(lab: Lab, mut rng: Rng, way: Way) -> usize {
    let (listener, address) = listener(&mut rng);
    let desk = Desk::new(lab.core(), listener);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let arrive = |rng: &mut Rng| {
            if rng.chance(1, 3) && clients.len() < 20 {
                come(&mut clients, &address);
            }
        };
        give_up(&lab, &mut rng, way, desk.clone().accept(), arrive).await;
    }
    let raced = match way {
        // Its timer comes behind what wakes it: only a connection on its way can be too late for it.
        Way::TimedOut => desk.given_up.get(),
        _ => desk.stashed.get(),
    };
    assert!(desk.alone().await);
    settle_up(&lab, desk, clients, &address, &mut rng).await;
    raced
}

async fn multishot(lab: Lab, mut rng: Rng) -> usize {
    let (listener, address) = listener(&mut rng);
    let desk = Desk::new(lab.core(), listener);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let key = desk.accept_all();
        for _ in 0..rng.below(3) {
            come(&mut clients, &address);
            lab.pass(&mut rng).await;
        }
        let core = lab.core().clone();
        at_some_moment(&lab.event_loop, &mut rng, move || core.abandon(key));
        if rng.chance(1, 2) {
            come(&mut clients, &address);
        }
        lab.settle().await;
        assert!(desk.alone().await);
        while desk.take_stash() {}
    }
    let raced = desk.stashed.get();
    settle_up(&lab, desk, clients, &address, &mut rng).await;
    raced
}

fn all(kind: DriverKind, way: Way) {
    prove(worlds(kind, 150, move |lab, rng| one_by_one(lab, rng, way)));
}

fn prove(raced: usize) {
    println!("{raced} times an accept was given up, or its connection came for nobody");
    assert!(
        raced > 0,
        "no accept was given up at the wrong moment: this proves nothing"
    );
}

on_both_drivers! {
    fn an_accept_that_is_dropped_keeps_its_connection_for_the_next(kind: DriverKind) {
        all(kind, Way::Dropped);
    }

    fn an_accept_whose_task_is_aborted_keeps_its_connection_for_the_next(kind: DriverKind) {
        all(kind, Way::Aborted);
    }

    fn an_accept_that_is_cancelled_keeps_its_connection_for_the_next(kind: DriverKind) {
        all(kind, Way::Cancelled);
    }

    fn an_accept_whose_time_is_up_keeps_its_connection_for_the_next(kind: DriverKind) {
        all(kind, Way::TimedOut);
    }

    fn a_multishot_accept_that_is_abandoned_keeps_its_connections(kind: DriverKind) {
        prove(worlds(kind, 200, multishot));
    }
}
