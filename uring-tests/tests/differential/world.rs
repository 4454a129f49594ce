//! One driver with its sockets, listeners and files, performing a script.
//!
//! *At rest* means: a poll of the driver brings nothing, and nothing that would have to complete is
//! left, judged by poll(2) and by what was sent. While something is due the world parks for long and
//! demands that it comes: a lost edge is a failure, not a wait.

use std::collections::{BTreeMap, HashMap};

use ringloop::driver::{DriverKind, Event, Key, Op, Park};
use uring_tests::TempDir;
use uring_tests::drive::Rig;

use super::files::Files;
use super::listen::{Connects, Listener};
use super::script::{FIRST_TCP, LISTENERS, SOCKETS, Step};
use super::sock::Sock;

/// What is due must come within so many nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

/// Results in order, by descriptor and direction.
pub type Log = BTreeMap<String, Vec<Line>>;

/// One result. The step at which it came is for the reader: a thread may be late.
#[derive(Debug)]
pub struct Line {
    text: String,
    #[expect(dead_code, reason = "printed when two logs differ")]
    step: usize,
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Whose operation it is.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    Read(usize),
    Write(usize),
    Poll(usize),
    Accept(usize),
    Connect(usize),
    File(usize),
    Open,
    Plain(&'static str),
}

/// The part that every other part works with.
pub struct Base {
    pub rig: Rig,
    pub log: Log,
    pub dir: TempDir,
    owners: HashMap<Key, Owner>,
    step: usize,
}

impl Base {
    /// Submits an operation in somebody's name.
    pub fn submit(&mut self, op: Op, owner: Owner) -> Key {
        let key = self.rig.submit(op);
        self.owners.insert(key, owner);
        key
    }

    /// Drops the target; nobody hears of it any more.
    pub fn drop_future(&mut self, key: Key) {
        self.rig.drop_future(key);
        self.owners.remove(&key);
    }

    /// Logs what the script determines.
    pub fn note(&mut self, name: &str, text: String) {
        let step = self.step;
        let lines = self.log.entry(name.to_owned()).or_default();
        lines.push(Line { text, step });
    }
}

pub struct World {
    pub base: Base,
    pub socks: Vec<Sock>,
    pub listeners: Vec<Listener>,
    pub connects: Connects,
    pub files: Files,
}

impl World {
    /// Performs the script on a driver of this kind; what it logged.
    pub fn run(kind: DriverKind, steps: &[Step]) -> Log {
        let dir = TempDir::new();
        let mut world = Self {
            socks: (0..SOCKETS).map(|n| Sock::new(n, n >= FIRST_TCP)).collect(),
            listeners: (0..LISTENERS).map(|n| Listener::new(n, &dir)).collect(),
            connects: Connects::new(&dir),
            files: Files::new(&dir),
            base: Base {
                rig: Rig::open(kind),
                log: Log::new(),
                dir,
                owners: HashMap::new(),
                step: 0,
            },
        };
        for (number, step) in steps.iter().enumerate() {
            world.base.step = number;
            world.perform(*step);
        }
        world.end();
        world.base.rig.close();
        assert_eq!(world.base.rig.driver().pool().lent(), 0, "lost leases");
        world.base.log
    }

    fn perform(&mut self, step: Step) {
        // Whether a step's precondition holds must not depend on how fast a thread or the network is.
        if step.needs_rest() {
            self.settle();
        }
        let base = &mut self.base;
        match step {
            Step::PeerSend { on, .. } | Step::PeerRead { on, .. } if self.socks[on].shutting => {}
            Step::PeerSend { on, len } => self.socks[on].peer_send(len),
            Step::PeerRead { on, len } => self.socks[on].peer_read(len),
            Step::PeerShutdown { on } => self.socks[on].peer_shutdown(),
            Step::PeerClose { on } => self.socks[on].peer_close(),
            Step::Recv { on, len } => self.socks[on].recv(base, Some(len)),
            Step::RecvMulti { on } => self.socks[on].recv(base, None),
            Step::CancelRead { on } => self.stop_read(on, false),
            Step::DropRead { on } => self.stop_read(on, true),
            Step::Send {
                on,
                len,
                chunks,
                inline,
                urgent,
            } => {
                self.socks[on].send(base, len, chunks, inline, urgent);
            }
            Step::CancelSend { on } => self.stop_send(on),
            Step::Shutdown { on, how } => self.socks[on].shutdown(base, how),
            Step::Poll { on, events, multi } => self.socks[on].poll(base, events, multi),
            Step::CancelPoll { on } => self.socks[on].cancel_poll(base),
            Step::PeerConnect { on } => self.listeners[on].peer_connect(),
            Step::Accept { on, multi } => self.listeners[on].accept(base, multi),
            Step::CancelAccept { on } => self.stop_accept(on, false),
            Step::DropAccept { on } => self.stop_accept(on, true),
            Step::Connect { to, cancel } => self.connects.connect(base, to, cancel),
            Step::Write { on, len, offset } => self.files.write(base, on, len, offset),
            Step::Read { on, len, offset } => self.files.read(base, on, len, offset),
            Step::Sync { on, data_only } => self.files.sync(base, on, data_only),
            Step::CancelFile { on } => self.files.cancel(base, on),
            Step::Open { name, flags } => self.files.open(base, name, flags),
            Step::Close => {
                let fd = std::fs::File::open("/dev/null").unwrap().into();
                base.submit(Op::Close { fd: Some(fd) }, Owner::Plain("close"));
            }
            Step::Nop => {
                base.submit(Op::Nop, Owner::Plain("nop"));
            }
            Step::Park => {
                self.park(Park::Poll);
            }
            Step::Settle => self.settle(),
        }
    }

    /// One park; how many completions it brought.
    fn park(&mut self, until: Park) -> usize {
        let count = self.base.rig.park(until);
        for event in self.base.rig.take_all() {
            self.hear(event);
        }
        for sock in &mut self.socks {
            sock.flushed();
        }
        self.files.flushed();
        count
    }

    fn hear(&mut self, event: Event) {
        let base = &mut self.base;
        let Some(owner) = base.owners.get(&event.key).copied() else {
            panic!("a completion for nobody");
        };
        if !event.more {
            base.owners.remove(&event.key);
        }
        match owner {
            Owner::Read(on) => self.socks[on].read_done(base, event),
            Owner::Write(on) => self.socks[on].write_done(base, event),
            Owner::Poll(on) => self.socks[on].poll_done(base, event),
            Owner::Accept(on) => self.listeners[on].accept_done(event),
            Owner::Connect(to) => self.connects.done(base, to, event),
            Owner::File(on) => self.files.done(base, on, event),
            Owner::Open => self.files.opened(base, event),
            Owner::Plain(name) => base.note(name, event.result.to_string()),
        }
    }

    /// Waits until everything is at rest.
    pub fn settle(&mut self) {
        loop {
            if self.park(Park::Poll) > 0 {
                continue;
            }
            let Some(due) = self.due() else { break };
            let end = self.base.rig.driver().now() + PATIENCE;
            // Events are also due that were held until something ends the wait.
            while self.park(Park::Until(end)) == 0 {
                let now = self.base.rig.driver().now();
                assert!(now < end, "step {}: never came: {due}", self.base.step);
            }
        }
        self.connects.reap();
        for sock in &mut self.socks {
            sock.rest();
        }
    }

    /// Something that has to complete.
    fn due(&self) -> Option<String> {
        let socks = self.socks.iter().filter_map(Sock::due);
        let listeners = self.listeners.iter().filter_map(Listener::due);
        let others = self.connects.due().into_iter().chain(self.files.due());
        socks.chain(listeners).chain(others).next()
    }

    /// Ends a receive; then everything the peer sent is read, so that both drivers stand alike again.
    fn stop_read(&mut self, on: usize, drop_it: bool) {
        if self.socks[on].stop_read(&mut self.base, drop_it) {
            self.settle();
            self.drain_reads(on);
        }
    }

    fn drain_reads(&mut self, on: usize) {
        self.socks[on].cancel_poll(&mut self.base);
        self.settle();
        self.socks[on].take_stash();
        self.socks[on].recv(&mut self.base, None);
        self.settle();
        self.socks[on].stop_read(&mut self.base, false);
        self.settle();
        self.socks[on].is_drained(&mut self.base);
    }

    /// Ends a send; then the peer reads everything, for the same reason.
    fn stop_send(&mut self, on: usize) {
        if self.socks[on].stop_send(&mut self.base) {
            self.settle();
            self.socks[on].peer_drain();
            self.settle();
        }
    }

    fn stop_accept(&mut self, on: usize, drop_it: bool) {
        if self.listeners[on].stop(&mut self.base, drop_it) {
            self.drain_accepts(on);
        }
    }

    fn drain_accepts(&mut self, on: usize) {
        self.settle();
        self.listeners[on].take_stash();
        self.listeners[on].accept(&mut self.base, true);
        self.settle();
        self.listeners[on].stop(&mut self.base, false);
        self.settle();
        self.listeners[on].is_drained(&mut self.base);
    }

    /// What is in flight ends, and everything that was sent must have arrived.
    fn end(&mut self) {
        for on in 0..self.socks.len() {
            self.socks[on].stop_read(&mut self.base, false);
            self.settle();
            self.drain_reads(on);
            self.stop_send(on);
            self.socks[on].cancel_poll(&mut self.base);
            self.settle();
            self.socks[on].peer_has_all();
        }
        for on in 0..self.listeners.len() {
            self.listeners[on].stop(&mut self.base, false);
            self.drain_accepts(on);
        }
        self.files.contents(&mut self.base);
    }
}

/// Which of `events` hold now.
pub fn poll_now(fd: &impl std::os::fd::AsRawFd, events: u32) -> u32 {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: events as i16,
        revents: 0,
    };
    // SAFETY: one entry, written during the call, which does not wait.
    let done = unsafe { libc::poll(&raw mut entry, 1, 0) };
    assert!(done >= 0);
    u32::from(entry.revents as u16)
}
