//! Loops and protocols for tests of connections and servers.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};
use ringloop::driver::DriverKind;
use ringloop::{
    AbstractEventLoop, Address, BaseProtocol, Builder, Cancelled, ExtraInfo, JoinError, Lease,
    Protocol, Transport, block_on, yield_now,
};

use crate::isolated::open_fds;

/// Runs `main` on a loop on that driver.
///
/// # Panics
/// When the loop cannot be made, or `main` panics.
pub fn run_on<F: Future + 'static>(
    kind: DriverKind,
    main: impl FnOnce(Rc<dyn AbstractEventLoop>) -> F,
) -> F::Output {
    let event_loop = Builder::new()
        .driver(kind)
        .build()
        .expect("the driver is to be had");
    assert_eq!(event_loop.core().expect("a base loop").driver_kind(), kind);
    run_loop(&event_loop, main(event_loop.clone()))
}

/// Runs `main` on that loop and closes it.
///
/// # Panics
/// When `main` panics.
pub fn run_loop<F: Future + 'static>(event_loop: &Rc<dyn AbstractEventLoop>, main: F) -> F::Output {
    block_on(event_loop, main).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Wakes who waits for a condition whenever something changed.
#[derive(Default)]
pub struct Changes(RefCell<Vec<Waker>>);

impl Changes {
    /// Something changed.
    pub fn happened(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until `ready` gives a value.
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| match ready() {
            Some(value) => Poll::Ready(value),
            None => {
                self.0.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// What a protocol was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// `connection_made`.
    Made,
    /// `data_received`.
    Data(Vec<u8>),
    /// `eof_received`.
    Eof,
    /// `connection_lost`.
    Lost(Option<ErrorKind>),
}

/// A protocol that writes down what it is told.
#[derive(Default)]
pub struct Recorder {
    seen: RefCell<Vec<Seen>>,
    /// The loop keeps it; kept here too, the two would keep each other.
    transport: RefCell<Option<Weak<dyn Transport>>>,
    changes: Changes,
}

impl Recorder {
    /// A new one.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// What it was told so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// All bytes received so far.
    pub fn bytes(&self) -> Vec<u8> {
        let seen = self.seen.borrow();
        let pieces = seen.iter().filter_map(|seen| match seen {
            Seen::Data(data) => Some(data.as_slice()),
            _ => None,
        });
        pieces.collect::<Vec<_>>().concat()
    }

    /// Its transport.
    ///
    /// # Panics
    /// Before `connection_made` and after `connection_lost`.
    pub fn transport(&self) -> Rc<dyn Transport> {
        let transport = self.transport.borrow();
        let transport = transport.as_ref().and_then(Weak::upgrade);
        transport.expect("the connection stands")
    }

    /// Waits for this.
    pub async fn until(&self, wanted: Seen) {
        let is_there = || self.seen.borrow().contains(&wanted).then_some(());
        self.changes.until(is_there).await;
    }

    /// Waits until so many bytes were received.
    pub async fn until_bytes(&self, count: usize) -> Vec<u8> {
        self.changes
            .until(|| Some(self.bytes()).filter(|bytes| bytes.len() >= count))
            .await
    }

    /// Waits for the end of the connection and gives its cause.
    pub async fn until_lost(&self) -> Option<ErrorKind> {
        self.changes
            .until(|| match self.seen.borrow().last() {
                Some(Seen::Lost(error)) => Some(*error),
                _ => None,
            })
            .await
    }

    fn push(&self, seen: Seen) {
        self.seen.borrow_mut().push(seen);
        self.changes.happened();
    }
}

impl BaseProtocol for Recorder {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        *self.transport.borrow_mut() = Some(Rc::downgrade(&transport));
        self.push(Seen::Made);
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.push(Seen::Lost(error.map(|error| error.kind())));
        self.transport.take();
    }
}

impl Protocol for Recorder {
    fn data_received(&self, data: Lease) {
        self.push(Seen::Data(data.to_vec()));
    }

    fn eof_received(&self) -> bool {
        self.push(Seen::Eof);
        false
    }
}

/// The protocols that a server made.
#[derive(Default)]
pub struct Accepted {
    list: RefCell<Vec<Rc<Recorder>>>,
    changes: Changes,
}

impl Accepted {
    /// None so far.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// A factory that keeps what it makes here.
    pub fn factory(self: &Rc<Self>) -> impl Fn() -> Rc<Recorder> + use<> + 'static {
        let this = self.clone();
        move || {
            let recorder = Recorder::new();
            this.list.borrow_mut().push(recorder.clone());
            this.changes.happened();
            recorder
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.borrow().len()
    }

    /// Waits for the one of that number, from 0, to be connected.
    pub async fn connected(&self, index: usize) -> Rc<Recorder> {
        let recorder = self
            .changes
            .until(|| self.list.borrow().get(index).cloned())
            .await;
        recorder.until(Seen::Made).await;
        recorder
    }
}

/// The reports of a loop, by message and error.
#[derive(Clone, Default)]
pub struct Reports(Rc<RefCell<Vec<Report>>>, Rc<Changes>);

/// Message, error, and the address of the listening socket.
type Report = (String, String, Option<Address>);

impl Reports {
    /// Takes the reports of that loop.
    pub fn of(event_loop: &Rc<dyn AbstractEventLoop>) -> Self {
        let reports = Self::default();
        let sink = reports.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            let error = context
                .exception
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let report = (context.message.clone(), error, context.socket.clone());
            sink.0.borrow_mut().push(report);
            sink.1.happened();
        })));
        reports
    }

    /// The messages so far.
    pub fn messages(&self) -> Vec<String> {
        self.0
            .borrow()
            .iter()
            .map(|(message, ..)| message.clone())
            .collect()
    }

    /// The errors so far.
    pub fn errors(&self) -> Vec<String> {
        self.0
            .borrow()
            .iter()
            .map(|(_, error, _)| error.clone())
            .collect()
    }

    /// The listening sockets that they are about so far.
    pub fn sockets(&self) -> Vec<Option<Address>> {
        let reports = self.0.borrow();
        reports.iter().map(|(.., socket)| socket.clone()).collect()
    }

    /// Waits for so many.
    pub async fn until(&self, count: usize) {
        self.1
            .until(|| (self.0.borrow().len() >= count).then_some(()))
            .await;
    }
}

/// The IP address of that name in a transport's extra information.
///
/// # Panics
/// When there is none.
pub fn inet(transport: &Rc<dyn Transport>, name: &str) -> SocketAddr {
    match transport.get_extra_info(name) {
        Some(ExtraInfo::Address(Address::Inet(address))) => address,
        other => panic!("{name} is {other:?}"),
    }
}

/// Gives the descriptor of a transport or server socket, duplicated, to `f` as a `TcpStream`, to
/// ask for options.
pub fn as_stream<R>(
    with_fd: impl FnOnce(&mut dyn FnMut(std::os::fd::BorrowedFd<'_>)),
    f: impl Fn(&TcpStream) -> R,
) -> R {
    let result = Cell::new(None);
    with_fd(&mut |fd| {
        let copy: OwnedFd = fd.try_clone_to_owned().expect("a descriptor is free");
        result.set(Some(f(&TcpStream::from(copy))));
    });
    result.take().expect("there is a descriptor")
}

/// A number-valued socket option.
///
/// # Panics
/// When the socket does not have it.
pub fn socket_option(fd: &impl AsRawFd, level: i32, name: i32) -> i32 {
    let mut value = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is valid for the length given.
    let done = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    value
}

/// An unconnected stream socket.
///
/// # Panics
/// When it cannot be had.
pub fn unconnected(family: AddressFamily) -> OwnedFd {
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    socket.expect("a descriptor is free")
}

/// Closing it resets the connection, which also leaves no port in use for a minute.
///
/// # Panics
/// When it is no socket.
pub fn reset_on_close(socket: &impl AsFd) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(socket, sockopt::Linger, &at_once).expect("a socket");
}

/// Gives the socket small buffers, of a size that the kernel does not tune.
///
/// # Panics
/// When it is no socket.
pub fn shrink(socket: &impl AsFd, bytes: usize) {
    setsockopt(socket, sockopt::SndBuf, &bytes).expect("a socket");
    setsockopt(socket, sockopt::RcvBuf, &bytes).expect("a socket");
}

/// Makes the queue of the listener as short as can be.
///
/// # Panics
/// When it does not listen.
pub fn shorten_queue(listener: &impl AsFd) {
    let shortest = Backlog::new(0).expect("a backlog");
    listen(listener, shortest).expect("it listens already");
}

/// Whether this machine has IPv6.
pub fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// An address of the loopback network that no other caller gets, with port 0.
///
/// Tests that expect to be refused, or to find a port free, are then not disturbed by others that
/// run beside them; and a connection from 127.0.0.1 can not meet itself.
pub fn own_addr() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Processes that run at the same time have process numbers close to each other.
    let process = std::process::id() % 251;
    assert!(number < 250 * 250, "too many addresses for one process");
    let byte = |number: u32| u8::try_from(1 + number).expect("below 256");
    let ip = Ipv4Addr::new(127, byte(process), byte(number / 250), byte(number % 250));
    SocketAddr::from((ip, 0))
}

/// An address of this machine at which nobody listens: connecting is refused.
///
/// The socket that is returned keeps others from listening there.
///
/// # Panics
/// When it cannot be had.
pub fn refusing() -> (SocketAddr, OwnedFd) {
    let address = own_addr();
    let SocketAddr::V4(v4) = address else {
        unreachable!("an IPv4 address")
    };
    let socket = unconnected(AddressFamily::Inet);
    bind(socket.as_raw_fd(), &SockaddrIn::from(v4)).expect("the address is nobody's");
    let socket = TcpStream::from(socket);
    (socket.local_addr().expect("it is bound"), socket.into())
}

/// A listener whose queue is full: connecting to it neither succeeds nor fails.
pub struct Silent {
    /// Where it listens.
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: TcpStream,
}

impl Silent {
    /// A new one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let listener = TcpListener::bind(own_addr()).expect("loopback is there");
        // The queue takes one connection more than the backlog.
        shorten_queue(&listener);
        let address = listener.local_addr().expect("it is bound");
        let queued = TcpStream::connect(address).expect("the queue is empty");
        Self {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}

impl Default for Silent {
    fn default() -> Self {
        Self::new()
    }
}

/// The task ended cancelled, or gave the cancellation as its error.
///
/// # Panics
/// When it ended otherwise.
pub fn assert_cancelled<T>(result: Result<io::Result<T>, JoinError>) {
    match result {
        Ok(Ok(_)) => panic!("it returned in spite of the cancellation"),
        Ok(Err(error)) => assert!(Cancelled::in_error(&error).is_some(), "{error}"),
        Err(error) => assert!(matches!(error, JoinError::Cancelled(_)), "{error}"),
    }
}

/// Gives the loop time to reap what was cancelled; how many descriptors are open then. Only
/// meaningful in [`isolated`](crate::isolated).
///
/// # Panics
/// When it is cancelled.
pub async fn settled_fds(expected: usize) -> usize {
    for _ in 0..10_000 {
        if open_fds() == expected {
            break;
        }
        yield_now().await.expect("nobody cancels this");
    }
    open_fds()
}
