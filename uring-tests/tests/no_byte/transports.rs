//! Through transports: reading is paused, resumed and given to other protocols, from outside and
//! inside the callbacks.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use ringloop::{BaseProtocol, BufferedProtocol, Lease, Protocol, ProtocolKind, Transport};
use uring_tests::lab::Lab;
use uring_tests::moments::at_some_moment;
use uring_tests::peer::{Peer, some_pair};
use uring_tests::worlds::races;
use uring_tests::{Rng, on_both_drivers};

use crate::{some_length, some_piece};

/// What all protocols of one connection were told.
struct Log {
    rng: RefCell<Rng>,
    transport: RefCell<Option<Rc<dyn Transport>>>,
    got: RefCell<Vec<u8>>,
    /// Received buffers that a protocol keeps, and where in the stream they begin.
    kept: RefCell<Vec<(usize, Lease)>>,
    ends: Cell<usize>,
    lost: Cell<bool>,
}

impl Log {
    fn transport(&self) -> Rc<dyn Transport> {
        self.transport.borrow().clone().expect("it is connected")
    }

    /// Data came: sees that it may, and perhaps does something.
    fn heard(self: &Rc<Self>, bytes: &[u8]) {
        let transport = self.transport();
        assert!(transport.is_reading(), "data while reading is paused");
        assert_eq!(self.ends.get(), 0, "data behind the end");
        self.got.borrow_mut().extend_from_slice(bytes);
        let act = self.rng.borrow_mut().below(16);
        match act {
            0..3 => transport.pause_reading(),
            3 => {
                transport.pause_reading();
                transport.resume_reading();
            }
            4..7 => self.change(),
            _ => {}
        }
    }

    /// Gives the connection to another protocol.
    fn change(self: &Rc<Self>) {
        let protocol = self.protocol();
        self.transport().set_protocol(protocol);
    }

    fn protocol(self: &Rc<Self>) -> ProtocolKind {
        let sink = Rc::new(Sink(self.clone()));
        if self.rng.borrow_mut().chance(1, 2) {
            ProtocolKind::Stream(sink)
        } else {
            ProtocolKind::Buffered(sink)
        }
    }
}

struct Sink(Rc<Log>);

impl BaseProtocol for Sink {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        *self.0.transport.borrow_mut() = Some(transport);
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        assert!(error.is_none(), "{error:?}");
        self.0.lost.set(true);
    }
}

impl Protocol for Sink {
    fn data_received(&self, data: Lease) {
        let start = self.0.got.borrow().len();
        self.0.heard(&data);
        let mut kept = self.0.kept.borrow_mut();
        if kept.len() < 2 {
            kept.push((start, data));
        }
    }

    fn eof_received(&self) -> bool {
        self.0.ends.set(self.0.ends.get() + 1);
        false
    }
}

impl BufferedProtocol for Sink {
    fn get_buffer(&self, hint: Option<usize>) -> Vec<u8> {
        let most = hint.unwrap_or(1000);
        vec![0; 1 + self.0.rng.borrow_mut().below(most)]
    }

    fn buffer_updated(&self, buffer: Vec<u8>, count: usize) {
        self.0.heard(&buffer[..count]);
    }

    fn eof_received(&self) -> bool {
        Protocol::eof_received(self)
    }
}

/// How often received bytes waited in a paused transport.
async fn connection(lab: Lab, mut rng: Rng) -> usize {
    let (ours, theirs) = some_pair(&mut rng);
    let length = some_length(&mut rng);
    let mut peer = Peer::new(theirs, rng.bytes(length));
    let log = Rc::new(Log {
        rng: RefCell::new(Rng::with_seed(rng.next_u64())),
        transport: RefCell::default(),
        got: RefCell::default(),
        kept: RefCell::default(),
        ends: Cell::default(),
        lost: Cell::default(),
    });
    let transport = lab.transport(ours, log.protocol()).await;
    let mut held = 0;
    for _ in 0..24 {
        if rng.chance(2, 3) {
            peer.say(some_piece(&mut rng, length));
        }
        let (act, other, changing) = (rng.below(4), transport.clone(), log.clone());
        at_some_moment(&lab.event_loop, &mut rng, move || match act {
            0 => other.pause_reading(),
            1 => other.resume_reading(),
            2 => changing.change(),
            _ => {}
        });
        lab.pass(&mut rng).await;
        let kept = log.kept.borrow().len();
        held += usize::from(!transport.is_reading() && lab.stats().lent_buffers > kept);
        assert!(peer.said().starts_with(&log.got.borrow()), "wrong");
    }
    while !peer.is_done() {
        peer.say(length);
        transport.resume_reading();
        lab.pass(&mut rng).await;
    }
    peer.shut_down();
    while !log.lost.get() {
        transport.resume_reading();
        lab.pass(&mut rng).await;
    }
    assert_eq!(log.ends.get(), 1);
    assert!(*log.got.borrow() == peer.says(), "not what was said");
    for (start, lease) in log.kept.take() {
        assert!(
            peer.says()[start..].starts_with(&lease),
            "a kept buffer was written to"
        );
    }
    drop(log.transport.take());
    held
}

on_both_drivers! {
    fn a_pause_and_a_change_of_protocol_take_no_byte(kind: DriverKind) {
        races(kind, 400, "bytes were received that a paused transport kept", connection);
    }
}
