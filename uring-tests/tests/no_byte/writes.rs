//! Writes: what was written is queued whole, whatever becomes of who wrote it, and `drain` tells
//! whether the connection took it.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;

use ringloop::stream::{StreamReader, StreamWriter};
use ringloop::{Cancelled, DriverKind};
use uring_tests::give_up::{Way, give_up};
use uring_tests::lab::Lab;
use uring_tests::peer::{Peer, some_pair};
use uring_tests::worlds::{races, worlds};
use uring_tests::{Rng, on_both_drivers};

/// A writer, and what it was given.
struct Desk {
    writer: StreamWriter,
    written: RefCell<Vec<u8>>,
    /// Writes whose drain was given up while it waited.
    raced: Cell<usize>,
    /// Nothing may wait behind a drain that succeeded.
    strict: bool,
}

/// Says so when it is dropped before its time.
struct Waits<'a>(&'a Desk, bool);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let unsent = self.0.writer.transport().get_write_buffer_size();
        if self.1 && unsent > 0 {
            self.0.raced.set(self.0.raced.get() + 1);
        }
    }
}

async fn write(desk: Rc<Desk>, messages: Vec<Vec<u8>>) {
    for message in messages {
        match message.len() % 3 {
            0 => desk.writer.write(&message),
            1 => desk.writer.write_chunk(message.clone()),
            _ => {
                let (head, tail) = message.split_at(message.len() / 2);
                desk.writer.writelines([head.to_vec(), tail.to_vec()])
            }
        }
        .expect("the writing direction is open");
        desk.written.borrow_mut().extend(message);
        let mut waits = Waits(&desk, true);
        match desk.writer.drain().await {
            Ok(()) => {
                waits.1 = false;
                let unsent = desk.writer.transport().get_write_buffer_size();
                assert!(
                    !desk.strict || unsent == 0,
                    "drained, and {unsent} bytes wait"
                );
            }
            Err(error) if Cancelled::in_error(&error).is_some() => return,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn connection(lab: Lab, mut rng: Rng, way: Way) -> usize {
    let (ours, theirs) = some_pair(&mut rng);
    let mut peer = Peer::new(theirs, Vec::new());
    let reader = StreamReader::new(65536).expect("the loop runs");
    let transport = lab.transport(ours, reader.protocol()).await;
    let strict = rng.chance(1, 2);
    if strict {
        let limits = transport.set_write_buffer_limits(Some(0), Some(0));
        limits.expect("low is not above high");
    }
    let desk = Rc::new(Desk {
        writer: StreamWriter::new(transport, reader.protocol()),
        written: RefCell::default(),
        raced: Cell::default(),
        strict,
    });
    let mut heard = Vec::new();
    for _ in 0..6 {
        let messages = (0..rng.below(4)).map(|_| {
            let large = rng.chance(1, 5);
            let length = rng.below(if large { 400_000 } else { 3000 });
            rng.bytes(1 + length)
        });
        let messages = messages.collect();
        let listen = |rng: &mut Rng| {
            let most = rng.below(200_000);
            // Nobody closes yet; hearing nothing of nothing is not the end.
            assert!(most == 0 || peer.hear(&mut heard, most), "ended early");
        };
        // A wait for a peer that does not listen would never end.
        give_up(&lab, &mut rng, way, write(desk.clone(), messages), listen).await;
        assert!(desk.written.borrow().starts_with(&heard), "wrong");
    }
    desk.writer.close();
    while peer.hear(&mut heard, 1 << 20) {
        lab.turns(1).await;
    }
    assert!(*desk.written.borrow() == heard, "not what was written");
    desk.writer.wait_closed().await.expect("an orderly end");
    desk.raced.get()
}

/// After the peer is gone, `drain` says so; what the peer had heard is a beginning of what was
/// written.
async fn lost(lab: Lab, mut rng: Rng) -> usize {
    let (ours, theirs) = some_pair(&mut rng);
    let mut peer = Peer::new(theirs, Vec::new());
    let reader = StreamReader::new(65536).expect("the loop runs");
    let transport = lab.transport(ours, reader.protocol()).await;
    let writer = StreamWriter::new(transport, reader.protocol());
    let mut written = Vec::new();
    let mut heard = Vec::new();
    let mut peer = loop {
        let length = 1 + rng.below(100_000);
        let message = rng.bytes(length);
        writer.write(&message).expect("the direction is open");
        written.extend(message);
        lab.pass(&mut rng).await;
        if rng.chance(1, 4) {
            break Some(peer);
        }
        peer.hear(&mut heard, 1 + rng.below(100_000));
    };
    // With unread bytes in its queue this is a reset, else an end.
    drop(peer.take());
    let error = loop {
        writer.write(&[7; 100]).expect("the direction is open");
        written.extend([7; 100]);
        if let Err(error) = writer.drain().await {
            break error;
        }
        lab.turns(1).await;
    };
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert!(written.starts_with(&heard), "wrong");
    assert!(writer.drain().await.is_err(), "and says so again");
    1
}

fn all(kind: DriverKind, way: Way) {
    let what = "a write was given up while it waited for the peer";
    races(kind, 80, what, move |lab, rng| connection(lab, rng, way));
}

on_both_drivers! {
    fn a_write_that_is_dropped_is_queued_whole(kind: DriverKind) {
        all(kind, Way::Dropped);
    }

    fn a_write_whose_task_is_aborted_is_queued_whole(kind: DriverKind) {
        all(kind, Way::Aborted);
    }

    fn a_write_that_is_cancelled_is_queued_whole(kind: DriverKind) {
        all(kind, Way::Cancelled);
    }

    fn drain_says_that_the_peer_is_gone(kind: DriverKind) {
        worlds(kind, 60, lost);
    }
}
