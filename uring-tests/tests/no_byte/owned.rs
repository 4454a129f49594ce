//! Through the driver's own receives, which own their buffers: what comes for one that was given up
//! goes to the next, which may have begun already.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ringloop::DriverKind;
use ringloop::driver::{Complete, Event, Fd, Key, Op, Target};
use ringloop::event_loop::{Core, Operation};
use uring_tests::give_up::{Way, give_up};
use uring_tests::lab::Lab;
use uring_tests::moments::at_some_moment;
use uring_tests::peer::{Peer, some_pair};
use uring_tests::worlds::races;
use uring_tests::{Rng, on_both_drivers};

use crate::{some_length, some_piece};

/// One socket, and what was received from it, by one receive at a time.
struct Socket {
    core: Rc<Core>,
    fd: Fd,
    got: RefCell<Vec<u8>>,
    /// How often a receive was told that it is given up.
    given_up: Cell<usize>,
    end: Cell<Option<i32>>,
}

impl Socket {
    fn new(core: &Rc<Core>, fd: Fd) -> Rc<Self> {
        Rc::new(Self {
            core: core.clone(),
            fd,
            got: RefCell::default(),
            given_up: Cell::default(),
            end: Cell::default(),
        })
    }

    fn take(&self, result: i32, bytes: &[u8]) {
        match usize::try_from(result) {
            Ok(0) | Err(_) => self.end.set(Some(result)),
            Ok(count) => self.got.borrow_mut().extend_from_slice(&bytes[..count]),
        }
    }

    /// 1 when bytes wait in the stash. (There is no end of the stream yet, which this would take.)
    fn has_stash(&self) -> usize {
        usize::from(self.fd.take_bytes(&mut []).is_some())
    }

    /// Receives once.
    async fn receive(self: Rc<Self>, len: usize) {
        let op = Op::recv(self.fd.clone(), vec![0; len]);
        let Ok(outcome) = Operation::new(self.core.clone(), op).await else {
            return self.given_up.set(self.given_up.get() + 1);
        };
        let Op::Recv { buf, .. } = outcome.op else {
            unreachable!("what was submitted")
        };
        self.take(outcome.result, &buf);
    }

    /// Receives until it is told to stop.
    fn receive_all(self: &Rc<Self>) -> Key {
        let op = Op::RecvMulti {
            fd: self.fd.clone(),
        };
        self.core.submit(op, Target::Callback(self.clone()))
    }
}

impl Complete for Socket {
    fn complete(self: Rc<Self>, event: Event) {
        match event.lease {
            Some(lease) => self.take(lease.len() as i32, &lease),
            None if event.result == -libc::ECANCELED => {}
            None => self.take(event.result, &[]),
        }
    }
}

/// What is left, with receives that nobody disturbs.
async fn finish(socket: &Rc<Socket>, mut peer: Peer) {
    while !peer.is_done() {
        peer.say(peer.says().len());
        socket.clone().receive(5000).await;
    }
    peer.shut_down();
    while socket.end.get().is_none() {
        socket.clone().receive(5000).await;
    }
    assert_eq!(socket.end.get(), Some(0));
    assert!(*socket.got.borrow() == peer.says(), "not what was said");
}

async fn one_by_one(lab: Lab, mut rng: Rng, way: Way) -> usize {
    let (ours, theirs) = some_pair(&mut rng);
    let length = some_length(&mut rng);
    let mut peer = Peer::new(theirs, rng.bytes(length));
    let socket = Socket::new(lab.core(), Fd::new(ours));
    let mut stashed = 0;
    let mut tries = 0;
    while !peer.is_done() && tries < 12 {
        tries += 1;
        let most = 1 + rng.below(1 + length);
        let talk = |rng: &mut Rng| {
            if rng.chance(1, 2) {
                peer.say(some_piece(rng, length));
            }
        };
        give_up(&lab, &mut rng, way, socket.clone().receive(most), talk).await;
        let got = socket.got.borrow();
        stashed += socket.has_stash();
        let right = peer.said().starts_with(&got);
        assert!(right, "wrong after {} bytes", got.len());
    }
    finish(&socket, peer).await;
    match way {
        // Its timer comes behind what wakes it: only bytes on their way can be too late for it.
        Way::TimedOut => socket.given_up.get(),
        _ => stashed,
    }
}

async fn multishot(lab: Lab, mut rng: Rng) -> usize {
    let (ours, theirs) = some_pair(&mut rng);
    let length = some_length(&mut rng);
    let mut peer = Peer::new(theirs, rng.bytes(length));
    let socket = Socket::new(lab.core(), Fd::new(ours));
    let mut stashed = 0;
    for _ in 0..10 {
        let key = socket.receive_all();
        for _ in 0..rng.below(3) {
            peer.say(some_piece(&mut rng, length));
            lab.pass(&mut rng).await;
        }
        let core = lab.core().clone();
        // One receive at a time hears of its bytes: the next begins when this one does not any more.
        let told = Rc::new(Cell::new(false));
        let tell = told.clone();
        at_some_moment(&lab.event_loop, &mut rng, move || {
            core.abandon(key);
            tell.set(true);
        });
        if rng.chance(1, 2) {
            peer.say(some_piece(&mut rng, length));
        }
        lab.until("the receive is given up", || told.get()).await;
        assert!(peer.said().starts_with(&socket.got.borrow()), "wrong");
        // Behind it, others get what it brings; one that is given up in turn keeps the order.
        for way in [Way::Aborted, Way::Dropped, Way::Cancelled] {
            if rng.chance(1, 4) {
                let most = 1 + rng.below(20_000);
                let talk = |rng: &mut Rng| peer.say(some_piece(rng, length));
                give_up(&lab, &mut rng, way, socket.clone().receive(most), talk).await;
            }
        }
        stashed += socket.has_stash();
    }
    finish(&socket, peer).await;
    stashed
}

const RACE: &str = "a receive was given up, or its bytes came for nobody";

fn all(kind: DriverKind, way: Way) {
    races(kind, 200, RACE, move |lab, rng| one_by_one(lab, rng, way));
}

on_both_drivers! {
    fn a_receive_that_is_dropped_keeps_its_bytes_for_the_next(kind: DriverKind) {
        all(kind, Way::Dropped);
    }

    fn a_receive_whose_task_is_aborted_keeps_its_bytes_for_the_next(kind: DriverKind) {
        all(kind, Way::Aborted);
    }

    fn a_receive_that_is_cancelled_keeps_its_bytes_for_the_next(kind: DriverKind) {
        all(kind, Way::Cancelled);
    }

    fn a_receive_whose_time_is_up_keeps_its_bytes_for_the_next(kind: DriverKind) {
        all(kind, Way::TimedOut);
    }

    fn a_multishot_receive_that_is_abandoned_keeps_its_bytes(kind: DriverKind) {
        races(kind, 200, RACE, multishot);
    }
}
