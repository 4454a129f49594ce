//! Which addresses and options a server gets.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;

use ringloop::event_loop::BindError;
use ringloop::{AbstractEventLoop, EventLoopExt, Server, ServerOptions};
use uring_tests::net::{
    Accepted, Recorder, as_stream, has_ipv6, inet, own_addr, run_loop, run_on, socket_option,
};
use uring_tests::wrapped::Wrapper;
use uring_tests::{isolated, on_both_drivers, open_fds};

use crate::{address_of, failure};

/// One option of the first socket.
fn option(server: &Server, level: i32, name: i32) -> i32 {
    let value = Cell::new(None);
    server.sockets()[0].with_fd(&mut |fd| value.set(Some(socket_option(&fd, level, name))));
    value.get().expect("there is a descriptor")
}

on_both_drivers! {
    fn srvc_02_one_socket_for_each_distinct_address(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let accepted = Accepted::new();
            let [one, other] = [own_addr(), own_addr()].map(|address| address.ip().to_string());
            let hosts = [one.clone(), other.clone(), one.clone()];
            let options = ServerOptions::default().hosts(hosts).port(0);
            let server =
                event_loop.create_server(accepted.factory(), options).await.expect("it binds");
            let addresses: Vec<_> =
                server.local_addrs().iter().filter_map(|address| address.as_inet()).collect();
            let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            assert_eq!(ips, [one, other]);
            for (index, address) in addresses.into_iter().enumerate() {
                let _client = TcpStream::connect(address).expect("it listens");
                let protocol = accepted.connected(index).await;
                assert_eq!(inet(&protocol.transport(), "sockname"), address);
            }
        });
    }

    fn srvc_03_no_host_means_every_family(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            for options in [ServerOptions::default().port(0), ServerOptions::new("", 0)] {
                let serving = event_loop.create_server(Recorder::new, options);
                let server = serving.await.expect("it binds");
                let addresses = server.local_addrs();
                let v4 = |address: &SocketAddr| address.is_ipv4();
                let all: Vec<_> = addresses.iter().filter_map(|a| a.as_inet()).collect();
                assert_eq!(all.iter().filter(|address| v4(address)).count(), 1);
                assert_eq!(all.len(), if has_ipv6() { 2 } else { 1 });
                assert!(all.iter().all(|address| address.ip().is_unspecified()));
                for socket in server.sockets() {
                    let address = socket.local_addr().and_then(|a| a.as_inet()).expect("bound");
                    if address.is_ipv6() {
                        socket.with_fd(&mut |fd| {
                            let only = socket_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
                            assert_eq!(only, 1);
                        });
                    }
                }
            }
        });
    }

    fn srvc_05_ports_are_shared_when_asked_for(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let options = || ServerOptions::from(own_addr());
            let serve = |options| event_loop.create_server(Recorder::new, options);
            let plain = serve(options()).await.expect("it binds");
            assert_eq!(option(&plain, libc::SOL_SOCKET, libc::SO_REUSEPORT), 0);
            assert_eq!(option(&plain, libc::SOL_SOCKET, libc::SO_REUSEADDR), 1);
            assert_eq!(option(&plain, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 0);
            let shared = options().reuse_port(true).reuse_address(false).keep_alive(true);
            let shared = serve(shared).await.expect("it binds");
            assert_eq!(option(&shared, libc::SOL_SOCKET, libc::SO_REUSEPORT), 1);
            assert_eq!(option(&shared, libc::SOL_SOCKET, libc::SO_REUSEADDR), 0);
            assert_eq!(option(&shared, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
            let again = ServerOptions::from(address_of(&shared)).reuse_port(true);
            serve(again).await.expect("both asked for it");
        });
    }

    /// In blocking and in non-blocking mode, listening already or not.
    fn srvc_06_a_socket_is_taken_over(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            for nonblocking in [false, true] {
                let listener = TcpListener::bind(own_addr()).expect("loopback is there");
                listener.set_nonblocking(nonblocking).expect("it is open");
                let address = listener.local_addr().expect("it is bound");
                let early = TcpStream::connect(address).expect("it listens");
                let accepted = Accepted::new();
                let options = ServerOptions::default().sock(listener);
                let serving = event_loop.create_server(accepted.factory(), options);
                let server = serving.await.expect("it is bound");
                assert_eq!(address_of(&server), address);
                let peer = inet(&accepted.connected(0).await.transport(), "peername");
                assert_eq!(peer, early.local_addr().expect("it is connected"));
                let late = TcpStream::connect(address).expect("it listens");
                let transport = accepted.connected(1).await.transport();
                let nodelay = as_stream(|f| transport.with_fd(f), TcpStream::nodelay);
                assert!(nodelay.expect("it is open"));
                drop(late);
            }
        });
    }

    /// One that is connected: the server does not serve, and says so each time.
    fn srvc_06_a_socket_that_can_not_listen(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let listener = TcpListener::bind(own_addr()).expect("loopback is there");
            let address = listener.local_addr().expect("it is bound");
            let connected = TcpStream::connect(address).expect("it listens");
            let options = ServerOptions::default().sock(connected).start_serving(false);
            let serving = event_loop.create_server(Recorder::new, options);
            let server = serving.await.expect("it is a stream socket");
            for _ in 0..2 {
                let error = server.start_serving().await.expect_err("it is connected");
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
                assert!(!server.is_serving());
            }
            server.close();
        });
    }

    fn srvc_07_arguments_that_exclude_each_other(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let socket = || TcpListener::bind(own_addr()).expect("loopback is there");
            let error = failure(&event_loop, ServerOptions::new("", 0).sock(socket())).await;
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(
                error.to_string(),
                "host/port and sock can not be specified at the same time"
            );
            let error = failure(&event_loop, ServerOptions::default()).await;
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "Neither host/port nor sock were specified");
            let datagram = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
            let error = failure(&event_loop, ServerOptions::default().sock(datagram)).await;
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("A Stream Socket was expected, got "), "{error}");
        });
    }

    /// The kernel is told the backlog that was asked for, capped by its own limit.
    fn the_backlog_is_what_was_asked_for(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux");
            let limit: u32 = limit.trim().parse().expect("a number");
            let options = || ServerOptions::from(own_addr());
            for (options, expected) in [
                (options(), 100),
                (options().backlog(7), 7),
                (options().backlog(u32::MAX), limit),
            ] {
                let serving = event_loop.create_server(Recorder::new, options);
                let server = serving.await.expect("it binds");
                let seen = Cell::new(0);
                server.sockets()[0].with_fd(&mut |fd| seen.set(backlog(fd)));
                assert_eq!(seen.get(), expected.min(limit));
            }
        });
    }

    fn srvc_09_an_empty_host_is_none(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        let asked: Rc<RefCell<Vec<Option<String>>>> = Rc::default();
        let names = asked.clone();
        wrapper.resolve_with(move |host, _| {
            names.borrow_mut().push(host.map(str::to_owned));
            Vec::new()
        });
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
        run_loop(&event_loop.clone(), async move {
            let error = failure(&event_loop, ServerOptions::new("", 0)).await;
            assert_eq!(error.to_string(), "getaddrinfo() returned empty list");
            let both = ServerOptions::default().hosts(["127.0.0.1", "name"]).port(0);
            let error = failure(&event_loop, both).await;
            assert_eq!(error.to_string(), "getaddrinfo(\"name\") returned empty list");
            assert_eq!(*asked.borrow(), [None, Some("name".to_owned())]);
            let none = ServerOptions::default().hosts([""; 0]).port(0);
            let error = failure(&event_loop, none).await;
            assert_eq!(error.to_string(), "could not bind on any address out of []");
        });
    }

    /// One address that cannot be bound fails all; one the machine does not have is skipped.
    fn srvc_10_an_address_in_use(kind: DriverKind) {
        isolated(|| {
            run_on(kind, |event_loop| async move {
                let taken = TcpListener::bind(own_addr()).expect("loopback is there");
                let address = taken.local_addr().expect("it is bound");
                let before = open_fds();
                let hosts = [own_addr(), address].map(|address| address.ip().to_string());
                let both = ServerOptions::default().hosts(hosts).port(address.port());
                let error = failure(&event_loop, both).await;
                assert_eq!(error.kind(), ErrorKind::AddrInUse);
                let start = format!("error while attempting to bind on address {address}: ");
                assert!(error.to_string().starts_with(&start), "{error}");
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<BindError>());
                assert_eq!(inner.expect("a bind error").address().as_inet(), Some(address));
                assert_eq!(open_fds(), before);

                // An address of the documentation range, which no machine has.
                let foreign = ServerOptions::new("192.0.2.1", 0);
                let error = failure(&event_loop, foreign).await;
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
                assert_eq!(
                    error.to_string(),
                    "could not bind on any address out of [192.0.2.1:0]"
                );
                let one = ServerOptions::default().hosts(["192.0.2.1", "127.0.0.1"]).port(0);
                let serving = event_loop.create_server(Recorder::new, one);
                assert_eq!(serving.await.expect("one is there").sockets().len(), 1);
            });
        });
    }
}

/// How many connections the kernel keeps for a listener.
fn backlog(fd: BorrowedFd<'_>) -> u32 {
    // SAFETY: all zeroes is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` is valid for the length given.
    let done = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    // Of a listener, this field holds the backlog.
    info.tcpi_sacked
}
