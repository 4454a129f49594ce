//! Drives a [`Driver`] by hand: the loop's part without the loop.
//!
//! **Guarantees.** Events are kept in the order they came. Dropping a rig drains the driver, and a
//! test that leaves something behind fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ringloop::Builder;
use ringloop::driver::epoll::{EpollDriver, EpollOptions};
use ringloop::driver::uring::{UringDriver, UringOptions};
use ringloop::driver::{
    Chunk, Complete, Driver, DriverKind, Engine, Event, Fd, Gather, Key, Op, Park, Target,
};

/// Nanoseconds that closing may take: more than a loaded machine needs.
const CLOSE_DEADLINE: u64 = 30_000_000_000;

/// Hears of every completion.
#[derive(Default)]
struct Log {
    events: RefCell<VecDeque<Event>>,
}

impl Complete for Log {
    fn complete(self: Rc<Self>, event: Event) {
        self.events.borrow_mut().push_back(event);
    }
}

/// A driver with its operations, and what completed so far.
pub struct Rig {
    /// The driver with its operations.
    pub engine: Engine,
    log: Rc<Log>,
}

impl Rig {
    /// A driver of this kind with default options, or those of `RINGLOOP_URING`.
    ///
    /// # Panics
    /// When the kernel refuses it, and for [`DriverKind::Auto`].
    pub fn open(kind: DriverKind) -> Self {
        assert_ne!(
            kind,
            DriverKind::Auto,
            "a test runs on a driver that it names"
        );
        let driver = Builder::new().driver(kind).build_driver();
        Self::new(driver.expect("the driver is there"))
    }

    /// Takes the driver over.
    pub fn new(driver: Box<dyn Driver>) -> Self {
        Self {
            engine: Engine::new(driver),
            log: Rc::default(),
        }
    }

    /// The driver.
    pub fn driver(&self) -> &dyn Driver {
        self.engine.driver()
    }

    /// Submits an operation whose events are kept.
    pub fn submit(&mut self, op: Op) -> Key {
        let target = Target::Callback(self.log.clone());
        self.submit_to(op, target)
    }

    /// Submits an operation with a target of its own.
    pub fn submit_to(&mut self, op: Op, target: Target) -> Key {
        self.engine.start(op, target)
    }

    /// Asks for the operation's end.
    pub fn cancel(&mut self, key: Key) {
        self.engine.cancel(key);
    }

    /// Orphans the operation and asks for its end, as a dropped future does.
    pub fn drop_future(&mut self, key: Key) {
        if self.engine.orphan(key).adopt() {
            self.engine.cancel(key);
        }
    }

    /// One park and the dispatch of what it brought; how many completions that was.
    ///
    /// # Panics
    /// When the driver is broken.
    pub fn park(&mut self, until: Park) -> usize {
        self.engine.turn(until).expect("the driver works")
    }

    /// Parks without sleeping.
    pub fn poll(&mut self) -> usize {
        self.park(Park::Poll)
    }

    /// The next event of `key`, parked for as long as it takes.
    pub fn wait(&mut self, key: Key) -> Event {
        loop {
            if let Some(event) = self.try_take(key) {
                return event;
            }
            self.park(Park::Forever);
        }
    }

    /// Parks without sleeping until a park brings nothing: what had to happen at once has happened.
    pub fn settle(&mut self) {
        while self.poll() > 0 {}
    }

    /// The result of an operation that completes once, parked for as long as it takes.
    ///
    /// # Panics
    /// When more completions follow.
    #[track_caller]
    pub fn result(&mut self, key: Key) -> i32 {
        let event = self.wait(key);
        assert!(!event.more, "more than one completion: {}", event.result);
        event.result
    }

    /// The bytes of the multishot receive `key` until there are `len`, parked for as long as it
    /// takes. The leases are dropped at once.
    ///
    /// # Panics
    /// When the receive ends before, or brings more.
    #[track_caller]
    pub fn receive(&mut self, key: Key, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let event = self.wait(key);
            let lease = event.lease;
            let lease = lease.unwrap_or_else(|| panic!("ended with {}", event.result));
            bytes.extend_from_slice(&lease);
        }
        assert_eq!(bytes.len(), len, "more came");
        bytes
    }

    /// Submits and waits for the first event.
    pub fn run(&mut self, op: Op) -> Event {
        let key = self.submit(op);
        self.wait(key)
    }

    /// Submits a send that the park does not sleep on.
    pub fn send_now(&mut self, fd: &Fd, bytes: impl Into<Vec<u8>>) -> Key {
        let mut op = send(fd, bytes, true);
        if let Op::Send { urgent, .. } = &mut op {
            *urgent = true;
        }
        self.submit(op)
    }

    /// Sends until the socket is full; how many bytes it took. A TCP socket may get room again by
    /// itself, when an acknowledgement comes late.
    pub fn fill(&mut self, socket: &Fd) -> usize {
        self.fill_with(socket, |_| vec![0; 1 << 20])
    }

    /// The same with what `next` gives from so many bytes on.
    ///
    /// # Panics
    /// When the socket fails.
    pub fn fill_with(&mut self, socket: &Fd, next: impl Fn(usize) -> Vec<u8>) -> usize {
        let mut taken = 0;
        loop {
            let sent = self.send_now(socket, next(taken));
            self.poll();
            match self.result(sent) {
                full if full == -libc::EAGAIN => return taken,
                part => taken += usize::try_from(part).expect("the socket works"),
            }
        }
    }

    /// The oldest event of `key` that was not taken yet.
    pub fn try_take(&mut self, key: Key) -> Option<Event> {
        let mut events = self.log.events.borrow_mut();
        let index = events.iter().position(|event| event.key == key)?;
        events.remove(index)
    }

    /// All events not taken yet, in order.
    pub fn take_all(&mut self) -> Vec<Event> {
        self.log.events.borrow_mut().drain(..).collect()
    }

    /// How many events were not taken yet.
    pub fn pending(&self) -> usize {
        self.log.events.borrow().len()
    }

    /// Closes the driver without waiting longer than `deadline`; what did not come back. The rig goes on
    /// with another driver.
    pub fn give_up(&mut self, deadline: u64) -> Vec<&'static str> {
        let next = EpollDriver::new(EpollOptions::default()).expect("epoll is always there");
        std::mem::replace(&mut self.engine, Engine::new(Box::new(next))).close(deadline)
    }

    /// Ends everything and closes the driver, as a loop does.
    ///
    /// # Panics
    /// When an operation does not come back.
    pub fn close(&mut self) {
        self.log.events.borrow_mut().clear();
        let lost = self.engine.close(CLOSE_DEADLINE);
        assert!(lost.is_empty(), "never came back: {lost:?}");
    }
}

impl From<UringOptions> for Rig {
    /// # Panics
    /// When io_uring refuses them.
    fn from(options: UringOptions) -> Self {
        Self::new(Box::new(
            UringDriver::new(options).expect("io_uring is allowed here"),
        ))
    }
}

impl From<EpollOptions> for Rig {
    /// # Panics
    /// When the process has no descriptor left.
    fn from(options: EpollOptions) -> Self {
        Self::new(Box::new(
            EpollDriver::new(options).expect("epoll is always there"),
        ))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
        }
    }
}

/// The chunks of one send.
pub fn gather<C: Into<Chunk>>(chunks: impl IntoIterator<Item = C>) -> Box<Gather> {
    let mut gather = Gather::new();
    for chunk in chunks {
        gather.push(chunk.into());
    }
    gather
}

/// Bytes in which a missing, doubled or swapped one shows.
pub fn pattern(len: usize) -> Vec<u8> {
    crate::Rng::with_seed(len as u64).bytes(len)
}

/// A send of one vector.
pub fn send(fd: &Fd, bytes: impl Into<Vec<u8>>, inline: bool) -> Op {
    Op::Send {
        fd: fd.clone(),
        data: gather([bytes.into()]),
        inline,
        urgent: false,
    }
}

/// A receive of at most `len` bytes.
pub fn recv(fd: &Fd, len: usize) -> Op {
    Op::recv(fd.clone(), vec![0; len])
}

/// The bytes that a one-shot receive brought.
///
/// # Panics
/// When the event is not one of a finished receive.
pub fn received(event: &Event) -> &[u8] {
    match &event.op {
        Some(Op::Recv { buf, .. }) => &buf[..event.result as usize],
        Some(Op::ReadAt { part, .. }) => &part.buf[..event.result as usize],
        _ => panic!("not a receive"),
    }
}

/// A descriptor as operations hold it.
pub fn fd(owned: impl Into<OwnedFd>) -> Fd {
    Fd::new(owned.into())
}

/// A connected TCP pair on the loopback interface.
///
/// # Errors
/// When there is no loopback interface.
pub fn tcp_pair() -> io::Result<(std::net::TcpStream, std::net::TcpStream)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let near = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}
