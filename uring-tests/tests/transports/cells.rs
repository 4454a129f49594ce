//! Protocols with `&mut self`: when they hear of pauses and resumes.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::mpsc::{Sender, channel};

use ringloop::{BaseProtocol, EventLoopExt, Lease, Protocol, ProtocolCell, ProtocolMut, Transport};
use uring_tests::lab::lab;
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::sockets::unix_pair;

/// Notes its calls, and pauses itself inside the first call of each name in `pauses`, as a write above
/// the mark does.
struct Notes {
    me: Weak<ProtocolCell<Self>>,
    calls: Order<&'static str>,
    pauses: Vec<&'static str>,
    panics: bool,
}

impl Notes {
    fn new(pauses: &[&'static str], panics: bool) -> (Rc<ProtocolCell<Self>>, Order<&'static str>) {
        let calls = Order::default();
        let cell = Rc::new_cyclic(|me: &Weak<ProtocolCell<Self>>| {
            ProtocolCell::new(Self {
                me: me.clone(),
                calls: calls.clone(),
                pauses: pauses.to_vec(),
                panics,
            })
        });
        (cell, calls)
    }

    fn called(&mut self, name: &'static str) {
        self.calls.add(name);
        if let Some(at) = self.pauses.iter().position(|pauses| *pauses == name) {
            self.pauses.remove(at);
            self.me.upgrade().expect("it is called").pause_writing();
            assert!(!self.panics, "after a write");
        }
    }
}

impl ProtocolMut for Notes {
    fn connection_made(&mut self, _: Rc<dyn Transport>) {
        self.called("made");
    }
    fn data_received(&mut self, _: Lease) {
        self.called("data");
    }
    fn pause_writing(&mut self) {
        self.called("pause");
    }
    fn resume_writing(&mut self) {
        self.called("resume");
    }
}

fn bytes() -> Lease {
    Lease::from(vec![1])
}

// Not on both drivers: the adapter alone, without a loop.
#[test]
fn a_pause_comes_right_after_the_call_that_it_came_in() {
    for inside in ["data", "resume", "pause"] {
        let (cell, calls) = Notes::new(&[inside], false);
        cell.data_received(bytes());
        if inside != "data" {
            cell.pause_writing();
        }
        cell.resume_writing();
        cell.data_received(bytes());
        let expected: &[_] = match inside {
            "data" => &["data", "pause", "resume", "data"],
            "resume" => &["data", "pause", "resume", "pause", "data"],
            _ => &["data", "pause", "pause", "resume", "data"],
        };
        assert_eq!(calls.take(), expected, "{inside}");
    }
}

// Not on both drivers: the adapter alone, without a loop.
/// A call that panics delivers nothing; what came in it comes before all that follows.
#[test]
fn a_pause_is_not_overtaken_when_a_call_panics() {
    for resumed in [true, false] {
        let (cell, calls) = Notes::new(&["data"], true);
        let thrown = catch_unwind(AssertUnwindSafe(|| cell.data_received(bytes())));
        assert!(thrown.is_err());
        assert_eq!(calls.take(), ["data"]);
        match resumed {
            true => cell.resume_writing(),
            false => cell.data_received(bytes()),
        }
        let last = if resumed { "resume" } else { "data" };
        assert_eq!(calls.take(), ["pause", last]);
    }
}

const ANSWER: usize = 1 << 20;

/// Answers requests of a byte, the first two with a megabyte; while it is paused, requests wait.
struct Answers {
    transport: Option<Rc<dyn Transport>>,
    pauses: Sender<()>,
    paused: bool,
    asked: usize,
    answered: usize,
}

impl Answers {
    fn go_on(&mut self) {
        if self.asked > self.answered && !self.paused {
            let len = if self.answered < 2 { ANSWER } else { 10 };
            self.answered += 1;
            let transport = self.transport.as_ref().expect("it was made");
            transport.write(&vec![1; len]).unwrap();
        }
    }
}

impl ProtocolMut for Answers {
    fn connection_made(&mut self, transport: Rc<dyn Transport>) {
        self.transport = Some(transport);
    }
    fn data_received(&mut self, data: Lease) {
        self.asked += data.len();
        self.go_on();
    }
    fn pause_writing(&mut self) {
        self.paused = true;
        // Whether the peer still listens is not asked here.
        let _ = self.pauses.send(());
    }
    fn resume_writing(&mut self) {
        self.paused = false;
        self.go_on();
    }
    fn connection_lost(&mut self, _: Option<std::io::Error>) {
        self.transport = None;
    }
}

on_both_drivers! {
    /// The second answer is written inside `resume_writing`, and is above the mark again: the peer
    /// reads neither before it was too much.
    fn a_connection_with_a_cell_is_never_stalled(kind: DriverKind) {
        lab(kind, |lab| async move {
            let (near, mut far) = unix_pair();
            let (pauses, paused) = channel();
            let cell = Rc::new(ProtocolCell::new(Answers {
                transport: None,
                pauses,
                paused: false,
                asked: 0,
                answered: 0,
            }));
            let transport = lab.transport(near, cell).await;
            let peer = move || -> std::io::Result<()> {
                let mut answer = vec![0; ANSWER];
                far.write_all(b"??")?;
                for _ in 0..2 {
                    paused.recv().map_err(std::io::Error::other)?;
                    far.read_exact(&mut answer)?;
                }
                for _ in 0..3 {
                    far.write_all(b"?")?;
                    far.read_exact(&mut answer[..10])?;
                }
                Ok(())
            };
            let peer = lab.event_loop.run_in_executor(peer);
            peer.await.unwrap().expect("every request is answered");
            transport.close();
            lab.until("it is lost", || transport.get_protocol().is_none()).await;
        });
    }
}
