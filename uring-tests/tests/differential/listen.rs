//! Listeners that the driver accepts from, and connects of the driver's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::sys::socket::AddressFamily;
use ringloop::driver::{Event, Fd, Key, Op, SockAddr};
use uring_tests::TempDir;
use uring_tests::drive::fd;
use uring_tests::net::unconnected;

use super::script::TCP_LISTENER;
use super::world::{Base, Owner};

/// Connections that may wait in a backlog: fewer than it has room for.
const WAITING: usize = 60;

enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

pub struct Listener {
    number: usize,
    fd: Fd,
    address: Address,
    /// Connections made, and those accepted, in the same order.
    made: u32,
    accepted: u32,
    accepter: Option<(Key, bool)>,
}

impl Listener {
    pub fn new(number: usize, dir: &TempDir) -> Self {
        let (fd, address) = if number == TCP_LISTENER {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            (fd(listener), Address::Tcp(addr))
        } else {
            let path = dir.join("listener");
            (fd(UnixListener::bind(&path).unwrap()), Address::Unix(path))
        };
        Self {
            number,
            fd,
            address,
            made: 0,
            accepted: 0,
            accepter: None,
        }
    }

    /// A client connects and says which one it is.
    pub fn peer_connect(&mut self) {
        if self.made - self.accepted >= WAITING as u32 {
            return;
        }
        let number = self.made.to_ne_bytes();
        match &self.address {
            Address::Unix(path) => {
                let mut client = UnixStream::connect(path).unwrap();
                client.write_all(&number).unwrap();
            }
            Address::Tcp(addr) => {
                let mut client = TcpStream::connect(addr).unwrap();
                client.write_all(&number).unwrap();
            }
        }
        self.made += 1;
    }

    pub fn accept(&mut self, base: &mut Base, multi: bool) {
        if self.accepter.is_some() {
            return;
        }
        let fd = self.fd.clone();
        let op = if multi {
            Op::AcceptMulti { fd }
        } else {
            Op::Accept { fd }
        };
        let key = base.submit(op, Owner::Accept(self.number));
        self.accepter = Some((key, false));
    }

    /// Whether there was an accept to end.
    pub fn stop(&mut self, base: &mut Base, drop_it: bool) -> bool {
        let Some((key, cancelled)) = &mut self.accepter else {
            return false;
        };
        if drop_it {
            base.drop_future(*key);
            self.accepter = None;
        } else {
            base.rig.cancel(*key);
            *cancelled = true;
        }
        true
    }

    pub fn accept_done(&mut self, event: Event) {
        if !event.more {
            let (_, cancelled) = self.accepter.take().expect("nobody accepts");
            assert!(event.fd.is_some() || (cancelled && event.result == -libc::ECANCELED));
        }
        if let Some(fd) = event.fd {
            self.take(fd);
        }
    }

    fn take(&mut self, fd: OwnedFd) {
        let mut number = [0; 4];
        UnixStream::from(fd).read_exact(&mut number).unwrap();
        assert_eq!(u32::from_ne_bytes(number), self.accepted, "out of order");
        self.accepted += 1;
    }

    /// What a dropped accept brought.
    pub fn take_stash(&mut self) {
        while let Some(fd) = self.fd.take_accepted() {
            self.take(fd);
        }
    }

    pub fn is_drained(&mut self, base: &mut Base) {
        assert_eq!(self.accepted, self.made, "connections are lost");
        let name = format!("listener {}", self.number);
        base.note(&name, format!("{} in all", self.made));
    }

    pub fn due(&self) -> Option<String> {
        (self.accepter.is_some() && self.accepted < self.made)
            .then(|| format!("listener {}", self.number))
    }
}

/// Connects to: a Unix listener, no file, a TCP listener, a closed port.
pub struct Connects {
    unix: UnixListener,
    tcp: TcpListener,
    addresses: [SockAddr; 4],
    /// In flight, and whether it was cancelled.
    flying: Vec<(Key, bool)>,
}

impl Connects {
    pub fn new(dir: &TempDir) -> Self {
        let path = dir.join("target");
        let unix = UnixListener::bind(&path).unwrap();
        unix.set_nonblocking(true).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            addresses: [
                SockAddr::unix(&path).unwrap(),
                SockAddr::unix(&dir.join("missing")).unwrap(),
                SockAddr::from(tcp.local_addr().unwrap()),
                SockAddr::from(closed.local_addr().unwrap()),
            ],
            unix,
            tcp,
            flying: Vec::new(),
        }
    }

    pub fn connect(&mut self, base: &mut Base, to: usize, cancel: bool) {
        if self.flying.len() >= WAITING {
            return;
        }
        let family = if to < 2 {
            AddressFamily::Unix
        } else {
            AddressFamily::Inet
        };
        let socket = Fd::new(unconnected(family));
        let op = Op::Connect {
            fd: socket,
            addr: Box::new(self.addresses[to]),
        };
        let key = base.submit(op, Owner::Connect(to));
        if cancel {
            base.rig.cancel(key);
        }
        self.flying.push((key, cancel));
    }

    pub fn done(&mut self, base: &mut Base, to: usize, event: Event) {
        let at = self.flying.iter().position(|(key, _)| *key == event.key);
        let (_, cancelled) = self.flying.remove(at.expect("nobody connects"));
        if cancelled {
            let expected = [0, -libc::ENOENT, 0, -libc::ECONNREFUSED][to];
            assert!(event.result == expected || event.result == -libc::ECANCELED);
        } else {
            base.note(&format!("connect {to}"), event.result.to_string());
        }
    }

    /// Accepts and closes what was connected.
    pub fn reap(&self) {
        while self.unix.accept().is_ok() {}
        while self.tcp.accept().is_ok() {}
    }

    pub fn due(&self) -> Option<String> {
        (!self.flying.is_empty()).then(|| "connect".to_owned())
    }
}
