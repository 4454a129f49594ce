//! A loop with much in flight, and what outlives it.
//!
//! | in flight | who waits | the kernel |
//! |---|---|---|
//! | reads past the page cache | a callback | writes to the heap, also after the ring is closed |
//! | receives | tasks, and nobody | writes to the heap |
//! | multishot receives | transports | writes to the receive buffers |
//! | sends to full sockets | transports, and nobody | reads the heap |
//! | accepts, single and multishot | nobody, and a server | makes descriptors |
//! | an attempt to connect | a task | reads the heap |

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::sync::OnceLock;

use bytes::Bytes;
use ringloop::driver::{Driver, Fd, Op, Target};
use ringloop::event_loop::Operation;
use ringloop::stream::open_connection;
use ringloop::transport::DefaultTransports;
use ringloop::{
    AbstractEventLoop, BaseEventLoop, BaseProtocol, ConnectOptions, EventLoopExt, Lease, Protocol,
    ProtocolKind, ServerOptions, yield_now,
};
use uring_tests::Rng;
use uring_tests::drive::{pattern, recv, send};
use uring_tests::net::{Silent, own_addr};

use crate::disk::Disk;

/// Bytes received before the end by each transport.
const RECEIVED: usize = 6000;
/// Bytes written to each socket that does not take them.
const WRITTEN: usize = 2 << 20;

/// What is received and written.
fn all() -> &'static [u8] {
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    ALL.get_or_init(|| pattern(WRITTEN))
}

/// Keeps what it receives.
#[derive(Default)]
struct Keeper(RefCell<Vec<Lease>>);

impl BaseProtocol for Keeper {}

impl Protocol for Keeper {
    fn data_received(&self, data: Lease) {
        self.0.borrow_mut().push(data);
    }
}

/// Received buffers, and where in the pattern they begin.
#[derive(Default)]
pub struct Leases(Vec<(usize, Lease)>);

impl Leases {
    /// They hold what was received.
    pub fn check(&self) {
        assert!(!self.0.is_empty(), "nothing was received");
        for (start, lease) in &self.0 {
            assert!(all()[*start..].starts_with(lease), "a lease changed");
        }
    }

    /// Where one of them stands.
    pub fn some_address(&self) -> *mut u8 {
        self.0[0].1.as_ptr().cast_mut()
    }
}

/// What outlives the loop, and may go to another thread.
#[derive(Default)]
pub struct Outside {
    /// Made from leases, likewise.
    bytes: Vec<(usize, Bytes)>,
    /// Peers of sockets that receive.
    talkers: Vec<UnixStream>,
    /// Peers of sockets that send.
    listeners: Vec<UnixStream>,
    silent: Option<Silent>,
}

impl Outside {
    /// The loop is gone: what would still be received is sent, and what was sent is compared.
    pub fn check(&mut self) {
        for (start, bytes) in self.bytes.drain(..) {
            // On another thread, as `Bytes` may be.
            let there = std::thread::spawn(move || {
                assert!(all()[start..].starts_with(&bytes), "bytes changed");
            });
            there.join().expect("they hold what was received");
        }
        for talker in &mut self.talkers {
            talker.set_nonblocking(true).expect("a socket");
            // Taken, refused or too much: all the same.
            let _ = talker.write(&[0xEE; 65536]);
        }
        for listener in &mut self.listeners {
            listener.set_nonblocking(true).expect("a socket");
            let mut heard = Vec::new();
            if let Err(error) = listener.read_to_end(&mut heard) {
                let kinds = [ErrorKind::WouldBlock, ErrorKind::ConnectionReset];
                assert!(kinds.contains(&error.kind()), "{error}");
            }
            assert!(!heard.is_empty(), "nothing was sent");
            assert!(all().starts_with(&heard), "not what was written");
        }
        self.silent = None;
    }
}

/// A loop on that driver.
pub fn new_loop(driver: Box<dyn Driver>) -> Rc<BaseEventLoop> {
    let event_loop = Rc::new_cyclic(|me: &Weak<BaseEventLoop>| {
        BaseEventLoop::new(driver, Rc::new(DefaultTransports), me.clone())
    });
    // That it was not closed, and what was lost with it, is what the tests are about.
    event_loop.set_exception_handler(Some(Rc::new(|_| ())));
    event_loop
}

/// Puts everything in flight.
pub fn set(event_loop: &Rc<BaseEventLoop>, disk: &Disk, rng: &mut Rng) -> (Leases, Outside) {
    let me = event_loop.clone();
    let setting = async move {
        let (mut leases, mut outside) = (Leases::default(), Outside::default());
        transports(&me, &mut leases, &mut outside).await;
        sockets(&me, &mut outside);
        outside.silent = Some(connections(&me).await);
        yield_now().await.expect("not cancelled");
        (leases, outside)
    };
    let outside = event_loop
        .run_until_complete(setting)
        .unwrap_or_else(|error| panic!("{error}"));
    // The reads last: a disk may be fast.
    for _ in 0..100 {
        let core = event_loop.core().expect("a base loop");
        let reads = disk.read(rng, |op, target| core.submit(op, target));
        let once = async { yield_now().await.expect("not cancelled") };
        event_loop
            .run_until_complete(once)
            .unwrap_or_else(|error| panic!("{error}"));
        if reads.in_flight() > 0 {
            let stats = core.stats();
            assert!(stats.live_operations > reads.in_flight() + 12, "{stats:?}");
            println!("in flight: {} operations", stats.live_operations);
            return outside;
        }
    }
    panic!("no read was in flight when the loop stopped: the disk is too fast for this test");
}

/// Transports that receive, whose leases are kept, and one that sends more than its peer takes.
async fn transports(event_loop: &Rc<BaseEventLoop>, leases: &mut Leases, outside: &mut Outside) {
    for number in 0..4 {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let keeper = Rc::new(Keeper::default());
        let protocol = ProtocolKind::Stream(keeper.clone());
        let factory = Rc::new(move || protocol.clone());
        let connecting = event_loop.connect_accepted_socket_dyn(factory, ours.into());
        let (transport, _) = connecting.await.expect("a connected socket");
        theirs.write_all(&all()[..RECEIVED]).expect("there is room");
        let received = || {
            keeper
                .0
                .borrow()
                .iter()
                .map(|lease| lease.len())
                .sum::<usize>()
        };
        while received() < RECEIVED {
            yield_now().await.expect("not cancelled");
        }
        let mut start = 0;
        for lease in keeper.0.take() {
            let len = lease.len();
            if number % 2 == 0 {
                leases.0.push((start, lease));
            } else {
                outside.bytes.push((start, lease.into_bytes()));
            }
            start += len;
        }
        if number == 0 {
            let written = transport.write_chunk(all().to_vec().into());
            written.expect("the direction is open");
            outside.listeners.push(theirs);
        } else {
            outside.talkers.push(theirs);
        }
    }
}

/// Operations on sockets: receives that wait, and a send to a socket that is full.
fn sockets(event_loop: &Rc<BaseEventLoop>, outside: &mut Outside) {
    let core = event_loop.core().expect("a base loop");
    for number in 0..8 {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let op = recv(&Fd::new(ours.into()), 65536);
        if number % 2 == 0 {
            core.submit(op, Target::Orphan);
        } else {
            let waits = Operation::new(core.clone(), op);
            drop(event_loop.create_task(waits).expect("it is open"));
        }
        outside.talkers.push(theirs);
    }
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    let mut taken = 0;
    while let Ok(count) = ours.write(&all()[taken..]) {
        taken += count;
    }
    let rest = &all()[taken..];
    core.submit(send(&Fd::new(ours.into()), rest, false), Target::Orphan);
    outside.listeners.push(theirs);
}

/// Accepts for nobody, a server, and an attempt to connect that gets no answer.
async fn connections(event_loop: &Rc<BaseEventLoop>) -> Silent {
    let core = event_loop.core().expect("a base loop");
    let listener = TcpListener::bind(own_addr()).expect("loopback is up");
    let fd = Fd::new(listener.into());
    core.submit(Op::Accept { fd }, Target::Orphan);
    let listener = TcpListener::bind(own_addr()).expect("loopback is up");
    let fd = Fd::new(listener.into());
    core.submit(Op::AcceptMulti { fd }, Target::Orphan);
    let options = ServerOptions::from(own_addr());
    let factory = || Rc::new(Keeper::default());
    let server = event_loop.create_server(factory, options).await;
    drop(server.expect("it binds"));
    let silent = Silent::new();
    let connecting = open_connection(ConnectOptions::from(silent.address));
    drop(event_loop.create_task(connecting).expect("it is open"));
    silent
}
