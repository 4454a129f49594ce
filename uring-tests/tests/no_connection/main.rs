//! No connection is lost to an accept, or an attempt to connect, that is given up; and nobody is left
//! connected to nobody.
//!
//! Small worlds from seeds, as in `no_byte`: clients come at every moment around that at which
//! accepting, serving or connecting is given up. At the end both sides are counted, and each of these
//! tests runs on a thread whose descriptor table must be empty again.

mod accept;
mod connect;
mod serve;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

use uring_tests::Rng;
use uring_tests::net::own_addr;

/// Where something listens.
#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(UnixAddr),
}

/// A listener: a Unix socket with a name of its own, one in four TCP.
fn listener(rng: &mut Rng) -> (OwnedFd, Address) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if rng.chance(1, 4) {
        let listener = TcpListener::bind(own_addr()).expect("loopback is up");
        let address = listener.local_addr().expect("bound");
        return (listener.into(), Address::Tcp(address));
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("ringloop-no-connection-{}-{number}", std::process::id());
    let address = UnixAddr::from_abstract_name(name).expect("short enough");
    let listener = UnixListener::bind_addr(&address).expect("the name is new");
    (listener.into(), Address::Unix(address))
}

/// The client's end of a connection.
struct Client(TcpStream);

impl Client {
    /// Connects to a listener whose queue has room.
    fn connect(address: &Address) -> Self {
        let socket: OwnedFd = match address {
            Address::Tcp(address) => TcpStream::connect(address).expect("it listens").into(),
            Address::Unix(address) => UnixStream::connect_addr(address)
                .expect("it listens")
                .into(),
        };
        Self(TcpStream::from(socket))
    }

    /// Says who it is.
    fn introduce(&mut self, number: u32) {
        self.0.write_all(&number.to_ne_bytes()).expect("connected");
    }

    /// What it is told, up to the end, which must come: it is not left connected to nobody.
    fn told(&mut self) -> Vec<u8> {
        let mut told = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut told) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        told
    }
}

/// Who introduced itself on the other end; `None` when the connection was ended instead.
fn who(socket: OwnedFd) -> Option<u32> {
    let mut socket = TcpStream::from(socket);
    socket.set_nonblocking(false).expect("a socket");
    let mut number = [0; 4];
    match socket.read_exact(&mut number) {
        Ok(()) => Some(u32::from_ne_bytes(number)),
        Err(error) => {
            let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "{error}");
            None
        }
    }
}
