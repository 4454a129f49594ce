//! Accepts that are given up: the connections go to the next accept, in order, or end with the
//! listener.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ringloop::DriverKind;
use ringloop::driver::{Complete, Event, Fd, Key, Op, Target};
use ringloop::event_loop::{Core, Operation};
use uring_tests::give_up::{Way, give_up};
use uring_tests::lab::Lab;
use uring_tests::moments::at_some_moment;
use uring_tests::worlds::races;
use uring_tests::{Rng, on_both_drivers};

use crate::{Address, Client, listener, who};

/// A listener, and what was accepted.
struct Desk {
    core: Rc<Core>,
    fd: Fd,
    accepted: RefCell<Vec<OwnedFd>>,
    /// How many clients have come.
    come: Cell<usize>,
    /// How often an accept was given up, and how often although somebody was there.
    given_up: Cell<usize>,
    raced: Cell<usize>,
}

impl Desk {
    fn new(core: &Rc<Core>, listener: OwnedFd) -> Rc<Self> {
        Rc::new(Self {
            core: core.clone(),
            fd: Fd::new(listener),
            accepted: RefCell::default(),
            come: Cell::default(),
            given_up: Cell::default(),
            raced: Cell::default(),
        })
    }

    /// Accepts one connection.
    async fn accept(self: Rc<Self>) {
        let mut waits = Waits(&self, true);
        let op = Op::Accept {
            fd: self.fd.clone(),
        };
        let Ok(outcome) = Operation::new(self.core.clone(), op).await else {
            return;
        };
        waits.1 = false;
        outcome.count().expect("the listener listens");
        let connection = outcome.fd.expect("an accept makes one");
        self.accepted.borrow_mut().push(connection);
    }

    fn came(&self) {
        self.come.set(self.come.get() + 1);
    }

    /// An accept is given up.
    fn give_up(&self) {
        self.given_up.set(self.given_up.get() + 1);
        if self.come.get() > self.accepted.borrow().len() {
            self.raced.set(self.raced.get() + 1);
        }
    }

    /// Accepts until it is told to stop.
    fn accept_all(self: &Rc<Self>) -> Key {
        let op = Op::AcceptMulti {
            fd: self.fd.clone(),
        };
        self.core.submit(op, Target::Callback(self.clone()))
    }
}

/// Tells the desk when it is dropped before its time.
struct Waits<'a>(&'a Desk, bool);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.give_up();
        }
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
    come(&desk, &mut clients, address);
    let last = clients.len();
    for _ in 0..rng.below(3) {
        come(&desk, &mut clients, address);
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

fn come(desk: &Desk, clients: &mut Vec<Client>, address: &Address) {
    let mut client = Client::connect(address);
    client.introduce(u32::try_from(clients.len()).expect("few"));
    clients.push(client);
    desk.came();
}

async fn one_by_one(lab: Lab, mut rng: Rng, way: Way) -> usize {
    let (listener, address) = listener(&mut rng);
    let desk = Desk::new(lab.core(), listener);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let arrive = |rng: &mut Rng| {
            if rng.chance(1, 3) && clients.len() < 20 {
                come(&desk, &mut clients, &address);
            }
        };
        give_up(&lab, &mut rng, way, desk.clone().accept(), arrive).await;
    }
    let raced = match way {
        // Its timer comes behind what wakes it: only a connection on its way can be too late for it.
        Way::TimedOut => desk.given_up.get(),
        _ => desk.raced.get(),
    };
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
            come(&desk, &mut clients, &address);
            lab.pass(&mut rng).await;
        }
        let core = lab.core().clone();
        let told = Rc::new(Cell::new(false));
        let (tell, abandoned) = (told.clone(), desk.clone());
        at_some_moment(&lab.event_loop, &mut rng, move || {
            core.abandon(key);
            abandoned.give_up();
            tell.set(true);
        });
        if rng.chance(1, 2) {
            come(&desk, &mut clients, &address);
        }
        lab.until("the accept is given up", || told.get()).await;
        // Behind it, others get what it brings; one that is given up in turn keeps the order.
        for way in [Way::Aborted, Way::Dropped, Way::Cancelled] {
            if rng.chance(1, 4) {
                give_up(&lab, &mut rng, way, desk.clone().accept(), |_| ()).await;
            }
        }
    }
    let raced = desk.raced.get();
    settle_up(&lab, desk, clients, &address, &mut rng).await;
    raced
}

const RACE: &str = "an accept was given up, or its connection came for nobody";

fn all(kind: DriverKind, way: Way) {
    races(kind, 150, RACE, move |lab, rng| one_by_one(lab, rng, way));
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
        races(kind, 200, RACE, multishot);
    }
}
