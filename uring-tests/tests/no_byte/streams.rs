//! Through streams: reads of every kind.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use ringloop::Cancelled;
use ringloop::stream::{IncompleteReadError, StreamReader};
use uring_tests::give_up::{Way, give_up};
use uring_tests::lab::Lab;
use uring_tests::peer::{Peer, some_pair};
use uring_tests::worlds::races;
use uring_tests::{Rng, on_both_drivers};

use crate::{some_length, some_piece};

/// A read.
#[derive(Clone, Copy)]
enum Read {
    UpTo(usize),
    Lease,
    Into(usize),
    Fill,
    More,
    Exactly(usize),
    Until(u8),
}

impl Read {
    fn some(rng: &mut Rng, length: usize) -> Self {
        let count = 1 + rng.below(1 + length);
        match rng.below(7) {
            0 => Self::UpTo(count),
            1 => Self::Lease,
            2 => Self::Into(count),
            3 => Self::Fill,
            4 => Self::More,
            5 => Self::Exactly(count),
            _ => Self::Until(rng.below(256) as u8),
        }
    }

    /// Whether a single byte satisfies it.
    fn is_easy(self) -> bool {
        matches!(
            self,
            Self::UpTo(_) | Self::Lease | Self::Into(_) | Self::Fill
        )
    }

    async fn of(self, reader: &mut StreamReader) -> io::Result<Vec<u8>> {
        match self {
            Self::UpTo(count) => reader.read(count).await,
            Self::Lease => Ok(reader
                .read_lease()
                .await?
                .map_or(Vec::new(), |lease| lease.to_vec())),
            Self::Into(count) => {
                let mut bytes = vec![0; count];
                let count = reader.read_into(&mut bytes).await?;
                bytes.truncate(count);
                Ok(bytes)
            }
            Self::Fill => {
                let bytes = reader.fill_buf().await?.to_vec();
                reader.consume(bytes.len());
                Ok(bytes)
            }
            Self::More => {
                let bytes = reader.fill_more().await?.to_vec();
                reader.consume(bytes.len());
                Ok(bytes)
            }
            Self::Exactly(count) => reader.readexactly(count).await,
            Self::Until(byte) => reader.readuntil(&[byte]).await,
        }
    }
}

/// Where the reader is while nobody reads, and what was read.
struct Desk {
    reader: Cell<Option<StreamReader>>,
    got: RefCell<Vec<u8>>,
    /// Reads that were given up although what they waited for was there.
    raced: Cell<usize>,
}

/// The reader, lent to one read; goes back however that ends.
struct Lent {
    desk: Rc<Desk>,
    reader: Option<StreamReader>,
    read: Read,
    ended: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let reader = self.reader.take().expect("taken only here");
        if !self.ended && self.read.is_easy() && reader.buffered() > 0 {
            self.desk.raced.set(self.desk.raced.get() + 1);
        }
        self.desk.reader.set(Some(reader));
    }
}

async fn read(desk: Rc<Desk>, read: Read) {
    let reader = desk.reader.take();
    assert!(reader.is_some(), "one read at a time");
    let mut lent = Lent {
        desk,
        reader,
        read,
        ended: false,
    };
    let reader = lent.reader.as_mut().expect("lent above");
    let bytes = match read.of(reader).await {
        Ok(bytes) => bytes,
        Err(error) if Cancelled::in_error(&error).is_some() => return,
        Err(error) => match error.downcast::<IncompleteReadError>() {
            Ok(incomplete) => incomplete.partial,
            // A separator further away than the limit: nothing is taken.
            Err(error) => {
                assert!(matches!(read, Read::Until(_)), "{error}");
                return;
            }
        },
    };
    lent.ended = true;
    lent.desk.got.borrow_mut().extend(bytes);
}

async fn connection(lab: Lab, mut rng: Rng, way: Way) -> usize {
    let (ours, theirs) = some_pair(&mut rng);
    let length = some_length(&mut rng);
    let mut peer = Peer::new(theirs, rng.bytes(length));
    let limit = [10, 1000, 65536][rng.below(3)];
    let reader = StreamReader::new(limit).expect("the loop runs");
    let transport = lab.transport(ours, reader.protocol()).await;
    let desk = Rc::new(Desk {
        reader: Cell::new(Some(reader)),
        got: RefCell::default(),
        raced: Cell::default(),
    });
    let mut tries = 0;
    while !peer.is_done() && tries < 12 {
        tries += 1;
        let kind = Read::some(&mut rng, length);
        let talk = |rng: &mut Rng| {
            if rng.chance(1, 2) {
                peer.say(some_piece(rng, length));
            }
        };
        give_up(&lab, &mut rng, way, read(desk.clone(), kind), talk).await;
        let got = desk.got.borrow();
        assert!(
            peer.said().starts_with(&got),
            "wrong after {} bytes",
            got.len()
        );
    }
    // What is left, with reads that nobody disturbs.
    while !peer.is_done() {
        peer.say(length);
        read(desk.clone(), Read::Lease).await;
    }
    peer.shut_down();
    loop {
        read(desk.clone(), Read::Lease).await;
        let reader = desk.reader.take().expect("nobody reads");
        if reader.at_eof() {
            break;
        }
        desk.reader.set(Some(reader));
    }
    assert!(*desk.got.borrow() == peer.says(), "not what was said");
    transport.close();
    desk.raced.get()
}

/// So many connections for each way.
const CONNECTIONS: usize = 200;

fn all(kind: uring_tests::DriverKind, way: Way) {
    let what = "a read was given up although its bytes were there";
    races(kind, CONNECTIONS, what, move |lab, rng| {
        connection(lab, rng, way)
    });
}

on_both_drivers! {
    fn a_read_that_is_dropped_takes_no_byte(kind: DriverKind) {
        all(kind, Way::Dropped);
    }

    fn a_read_whose_task_is_aborted_takes_no_byte(kind: DriverKind) {
        all(kind, Way::Aborted);
    }

    fn a_read_that_is_cancelled_takes_no_byte(kind: DriverKind) {
        all(kind, Way::Cancelled);
    }

    fn a_read_whose_time_is_up_takes_no_byte(kind: DriverKind) {
        all(kind, Way::TimedOut);
    }
}
