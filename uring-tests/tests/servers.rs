//! Servers over TCP: binding, accepting, closing, waiting (rows SRVC and SRV).

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use ringloop::event_loop::BindError;
use ringloop::{
    AbstractEventLoop, BaseProtocol, Cancelled, EventLoopExt, JoinError, Lease, Protocol,
    ProtocolKind, Server, ServerOptions, Transport, yield_now,
};
use uring_tests::net::{
    Accepted, Recorder, Reports, Seen, as_stream, has_ipv6, inet, run_loop, run_on, socket_option,
};
use uring_tests::wrapped::Wrapper;
use uring_tests::{isolated, on_both_drivers, open_fds};

/// A server on a free port of the loopback interface, and what it accepts.
async fn serve(event_loop: &Rc<dyn AbstractEventLoop>) -> (Server, SocketAddr, Rc<Accepted>) {
    let accepted = Accepted::new();
    let options = ServerOptions::new("127.0.0.1", 0);
    let server = event_loop
        .create_server(accepted.factory(), options)
        .await
        .expect("it binds");
    let address = address_of(&server);
    (server, address, accepted)
}

fn address_of(server: &Server) -> SocketAddr {
    server.local_addrs()[0].as_inet().expect("an IP address")
}

/// Serves, expecting failure.
async fn failure(event_loop: &Rc<dyn AbstractEventLoop>, options: ServerOptions) -> io::Error {
    let result = event_loop.create_server(Recorder::new, options).await;
    result.expect_err("serving must fail")
}

/// One option of the first socket.
fn option(server: &Server, level: i32, name: i32) -> i32 {
    let value = Cell::new(None);
    server.sockets()[0].with_fd(&mut |fd| value.set(Some(socket_option(&fd, level, name))));
    value.get().expect("there is a descriptor")
}

/// Nothing comes any more: the peer closed, whether orderly or not.
fn assert_closed(mut stream: TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("the peer sent something"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

fn assert_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).expect_err("nobody must listen");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

/// Gives the loop time to reap what was cancelled; how many descriptors are open then.
async fn settled_fds(expected: usize) -> usize {
    for _ in 0..1000 {
        if open_fds() == expected {
            break;
        }
        yield_now().await.expect("nobody cancels this");
    }
    open_fds()
}

on_both_drivers! {
    fn srvc_01_connections_are_accepted(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (server, address, accepted) = serve(&event_loop).await;
            assert!(server.is_serving());
            let mut client = TcpStream::connect(address).expect("it listens");
            client.write_all(b"ping").expect("it is connected");
            let protocol = accepted.connected(0).await;
            assert_eq!(protocol.until_bytes(4).await, b"ping");
            let transport = protocol.transport();
            assert_eq!(inet(&transport, "sockname"), address);
            assert_eq!(inet(&transport, "peername"), client.local_addr().expect("connected"));
            let nodelay = as_stream(|f| transport.with_fd(f), TcpStream::nodelay);
            assert!(nodelay.expect("it is open"), "inherited from the listener");
            transport.write(b"pong").expect("it is open");
            transport.close();
            assert_eq!(protocol.until_lost().await, None);
            let mut text = String::new();
            client.read_to_string(&mut text).expect("the server closed");
            assert_eq!(text, "pong");
        });
    }

    /// Many at once, more than the backlog: none is lost.
    fn srvc_01_many_connections_are_accepted(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (_server, address, accepted) = serve(&event_loop).await;
            let mut clients = Vec::new();
            for round in 0..4 {
                for _ in 0..90 {
                    clients.push(TcpStream::connect(address).expect("it listens"));
                }
                accepted.connected(round * 90 + 89).await;
            }
            for index in 0..clients.len() {
                assert_eq!(accepted.connected(index).await.seen(), [Seen::Made]);
            }
        });
    }

    fn srvc_02_one_socket_for_each_distinct_address(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let accepted = Accepted::new();
            let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"];
            let options = ServerOptions::default().hosts(hosts).port(0);
            let server =
                event_loop.create_server(accepted.factory(), options).await.expect("it binds");
            let addresses: Vec<_> =
                server.local_addrs().iter().filter_map(|address| address.as_inet()).collect();
            let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
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

    /// They can be looked at, and hold nothing open.
    fn srvc_04_sockets_can_only_be_looked_at(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (server, address, _) = serve(&event_loop).await;
            let sockets = server.sockets();
            assert_eq!(sockets.len(), 1);
            assert_eq!(sockets[0].local_addr().and_then(|a| a.as_inet()), Some(address));
            assert!(format!("{:?}", sockets[0]).ends_with(&format!("laddr={address}>")));
            server.close();
            assert_eq!(sockets[0].local_addr(), None);
            sockets[0].with_fd(&mut |_| panic!("the socket is closed"));
            assert!(server.sockets().is_empty());
            assert!(server.local_addrs().is_empty());
        });
    }

    fn srvc_05_ports_are_shared_when_asked_for(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let options = || ServerOptions::new("127.0.0.1", 0);
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
                let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
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

    fn srvc_07_arguments_that_exclude_each_other(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let socket = || TcpListener::bind("127.0.0.1:0").expect("loopback is there");
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
                let taken = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
                let address = taken.local_addr().expect("it is bound");
                let before = open_fds();
                let hosts = ["127.0.0.2", "127.0.0.1"];
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

    /// Refused from the very call on, before the loop runs again.
    fn srvc_11_close_ends_listening_at_once(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (server, address, accepted) = serve(&event_loop).await;
            let client = TcpStream::connect(address).expect("it listens");
            accepted.connected(0).await;
            server.close();
            assert_refused(address);
            assert!(!server.is_serving());
            yield_now().await.expect("nobody cancels this");
            assert_refused(address);
            server.close();
            assert_eq!(accepted.count(), 1);
            // The connection stays.
            accepted.connected(0).await.transport().write(b"x").expect("it is open");
            yield_now().await.expect("nobody cancels this");
            let mut byte = [0];
            (&client).read_exact(&mut byte).expect("it is connected");
        });
    }

    /// What the kernel had accepted, and nobody had seen, is closed.
    fn srvc_11_what_comes_after_close_is_closed(kind: DriverKind) {
        isolated(|| {
            run_on(kind, |event_loop| async move {
                let before = open_fds();
                let (server, address, accepted) = serve(&event_loop).await;
                let clients: Vec<_> =
                    (0..3).map(|_| TcpStream::connect(address).expect("it listens")).collect();
                server.close();
                clients.into_iter().for_each(assert_closed);
                assert_eq!(settled_fds(before).await, before);
                assert_eq!(accepted.count(), 0);

                // The completions of all three are there when the first one closes the server.
                let server: Rc<RefCell<Option<Server>>> = Rc::default();
                let calls = Rc::new(Cell::new(0));
                let (closing, called) = (server.clone(), calls.clone());
                let factory = move || {
                    called.set(called.get() + 1);
                    closing.borrow().as_ref().expect("it serves").close();
                    Recorder::new()
                };
                let options = ServerOptions::new("127.0.0.1", 0);
                let made = event_loop.create_server(factory, options).await.expect("it binds");
                let address = address_of(&made);
                *server.borrow_mut() = Some(made.clone());
                let clients: Vec<_> =
                    (0..3).map(|_| TcpStream::connect(address).expect("it listens")).collect();
                made.wait_closed().await.expect("nobody cancels this");
                clients.into_iter().for_each(assert_closed);
                assert_eq!(calls.get(), 1);
                server.take();
                assert_eq!(settled_fds(before).await, before);
            });
        });
    }

    /// An adopted socket may be shared: it stays a listener for the others.
    fn srvc_11_an_adopted_socket_is_only_let_go(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
            let address = listener.local_addr().expect("it is bound");
            let ours = listener.try_clone().expect("a descriptor is free");
            let accepted = Accepted::new();
            let options = ServerOptions::default().sock(ours);
            let serving = event_loop.create_server(accepted.factory(), options);
            let server = serving.await.expect("it is bound");
            server.close();
            yield_now().await.expect("nobody cancels this");
            let client = TcpStream::connect(address).expect("the other one listens");
            let (peer, from) = listener.accept().expect("it connected");
            assert_eq!(from, client.local_addr().expect("it is connected"));
            assert_eq!(accepted.count(), 0);
            drop(peer);
        });
    }

    /// Out of descriptors: one report, no spinning, and accepting goes on by itself after a second.
    fn srvc_12_accepting_goes_on_after_a_second(kind: DriverKind) {
        isolated(|| {
            let wrapper = Wrapper::new(kind);
            // The second is over quickly; what was asked for is recorded.
            wrapper.delay.set(Some(1_000_000));
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
            run_loop(&event_loop.clone(), async move {
                let reports = Reports::of(&event_loop);
                limit_descriptors();
                let (server, address, accepted) = serve(&event_loop).await;
                let client = TcpStream::connect(address).expect("it listens");
                let fillers = take_descriptors();
                while wrapper.delays.borrow().len() < 3 {
                    yield_to_timers(&event_loop).await;
                }
                assert!(wrapper.delays.borrow().iter().all(|delay| is_a_second(*delay)));
                assert_eq!(reports.messages(), ["socket.accept() out of system resource"]);
                assert!(reports.errors()[0].contains("os error 24"), "{:?}", reports.errors());
                assert_eq!(server.sockets().len(), 1, "the listener is kept");
                assert_eq!(accepted.count(), 0);
                drop(fillers);
                accepted.connected(0).await;
                // Later: another shortage.
                wrapper.shift.set(2_000_000_000);
                let other = TcpStream::connect(address).expect("it listens");
                let fillers = take_descriptors();
                reports.until(2).await;
                drop(fillers);
                accepted.connected(1).await;
                assert_eq!(reports.messages().len(), 2);
                drop((client, other));
            });
        });
    }

    /// … or as soon as this loop closes a descriptor, and it sleeps until then.
    fn srvc_12_accepting_goes_on_when_a_descriptor_is_closed(kind: DriverKind) {
        isolated(|| {
            let wrapper = Wrapper::new(kind);
            // The second is never over.
            wrapper.delay.set(Some(u64::MAX));
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
            run_loop(&event_loop.clone(), async move {
                let reports = Reports::of(&event_loop);
                limit_descriptors();
                let (_server, address, accepted) = serve(&event_loop).await;
                let first = TcpStream::connect(address).expect("it listens");
                accepted.connected(0).await;
                let _second = TcpStream::connect(address).expect("it listens");
                let _fillers = take_descriptors();
                reports.until(1).await;
                let core = event_loop.core().expect("a base loop").clone();
                let iterations = core.iterations();
                wrapper.delay.set(None);
                ringloop::sleep(std::time::Duration::from_millis(200)).await.expect("not cancelled");
                assert!(core.iterations() - iterations <= 3, "the loop spins");
                assert_eq!(accepted.count(), 1);
                // The peer goes, so the loop closes its end. (The client's own descriptor is kept:
                // it would free one too.)
                first.shutdown(std::net::Shutdown::Both).expect("it is connected");
                accepted.connected(1).await;
                assert_eq!(reports.messages().len(), 1);
            });
        });
    }

    /// A connection that died in the queue costs nothing but itself.
    fn srvc_13_aborted_connections_are_skipped(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        wrapper.accepts.borrow_mut().extend([libc::ECONNABORTED, libc::EPROTO, libc::EHOSTUNREACH]);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
        run_loop(&event_loop.clone(), async move {
            let reports = Reports::of(&event_loop);
            let (_server, address, accepted) = serve(&event_loop).await;
            let _client = TcpStream::connect(address).expect("it listens");
            accepted.connected(0).await;
            assert!(wrapper.accepts.borrow().is_empty());
            assert_eq!(reports.messages(), [""; 0]);
            assert!(wrapper.delays.borrow().is_empty(), "no pause");
        });
    }

    /// Every shortage pauses; so does a policy that forbids, under its own name.
    fn srvc_12_every_shortage_pauses(kind: DriverKind) {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EPERM] {
            let wrapper = Wrapper::new(kind);
            wrapper.delay.set(Some(1));
            wrapper.accepts.borrow_mut().extend([errno, errno]);
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
            run_loop(&event_loop.clone(), async move {
                let reports = Reports::of(&event_loop);
                let (_server, address, accepted) = serve(&event_loop).await;
                let _client = TcpStream::connect(address).expect("it listens");
                accepted.connected(0).await;
                assert_eq!(wrapper.delays.borrow().len(), 2);
                let expected = match errno {
                    libc::EPERM => "socket.accept() is not permitted",
                    _ => "socket.accept() out of system resource",
                };
                assert_eq!(reports.messages(), [expected]);
            });
        }
    }

    /// An error that would come back is reported and ends that listener, and only that one; a
    /// cancelled accept ends it without a report.
    fn srvc_14_an_error_ends_that_listener(kind: DriverKind) {
        for (errno, report) in [(libc::EINVAL, true), (libc::EBADF, true), (libc::ECANCELED, false)]
        {
            let wrapper = Wrapper::new(kind);
            wrapper.accepts.borrow_mut().push_back(errno);
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
            run_loop(&event_loop.clone(), async move {
                let reports = Reports::of(&event_loop);
                let accepted = Accepted::new();
                let options = ServerOptions::default().hosts(["127.0.0.1", "127.0.0.2"]).port(0);
                let serving = event_loop.create_server(accepted.factory(), options);
                let server = serving.await.expect("it binds");
                let failing = address_of(&server);
                let last = server.local_addrs().last().and_then(|a| a.as_inet()).expect("bound");
                let _client = TcpStream::connect(last).expect("it listens");
                accepted.connected(0).await;
                let left: Vec<_> =
                    server.local_addrs().iter().filter_map(|address| address.as_inet()).collect();
                assert_eq!(left, [last]);
                assert_ne!(failing, last);
                assert_refused(failing);
                assert!(server.is_serving());
                if report {
                    assert_eq!(reports.messages(), ["Accept failed on a socket"]);
                    let text = format!("os error {errno}");
                    assert!(reports.errors()[0].contains(&text), "{:?}", reports.errors());
                } else {
                    assert_eq!(reports.messages(), [""; 0]);
                }
            });
        }
    }

    /// Closing one server leaves another one alone.
    fn srvc_14_stop_ends_only_that_listener(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (one, _, _) = serve(&event_loop).await;
            let (_other, address, accepted) = serve(&event_loop).await;
            one.close();
            one.wait_closed().await.expect("nobody cancels this");
            let _client = TcpStream::connect(address).expect("it listens");
            accepted.connected(0).await;
        });
    }

    fn srvc_15_a_server_knows_its_loop(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
        run_loop(&event_loop.clone(), async move {
            let (server, _, _) = serve(&event_loop).await;
            // The outermost one, not the base loop that made the server.
            assert!(Rc::ptr_eq(&server.get_loop().expect("it runs"), &event_loop));
        });
    }

    /// A panic of the factory is reported and costs that connection alone.
    fn a_factory_that_panics_closes_its_connection(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let reports = Reports::of(&event_loop);
            let accepted = Accepted::new();
            let (inner, first) = (accepted.factory(), Cell::new(true));
            let factory = move || {
                assert!(!first.replace(false), "not the first one");
                ProtocolKind::from(inner())
            };
            let options = ServerOptions::new("127.0.0.1", 0);
            let server = event_loop.create_server(factory, options).await.expect("it binds");
            let unlucky = TcpStream::connect(address_of(&server)).expect("it listens");
            reports.until(1).await;
            assert_eq!(
                reports.messages(),
                ["Error on transport creation for incoming connection"]
            );
            assert_eq!(reports.errors(), ["not the first one"]);
            assert_closed(unlucky);
            let _client = TcpStream::connect(address_of(&server)).expect("it listens");
            accepted.connected(0).await;
        });
    }

    /// A server whose coroutine is cancelled before it returned is not left behind.
    fn a_cancelled_create_server_leaves_nothing(kind: DriverKind) {
        isolated(|| {
            run_on(kind, |event_loop| async move {
                let before = open_fds();
                let options = ServerOptions::new("127.0.0.1", 0);
                let serving = event_loop.create_server(Recorder::new, options);
                let task = event_loop.create_task(serving).expect("the loop runs");
                yield_now().await.expect("nobody cancels this");
                assert!(open_fds() > before, "it is bound");
                assert!(task.cancel());
                assert_cancelled(task.await);
                assert_eq!(settled_fds(before).await, before);
            });
        });
    }

    /// Dropping the handles does not end a server that serves; closing the loop does.
    fn a_server_without_handles_serves_until_the_loop_is_closed(kind: DriverKind) {
        /// Does not keep its transport, so the loop alone does.
        struct Counting(Rc<Cell<u32>>);
        impl BaseProtocol for Counting {
            fn connection_made(&self, _transport: Rc<dyn Transport>) {
                self.0.set(self.0.get() + 1);
            }
        }
        impl Protocol for Counting {
            fn data_received(&self, _data: Lease) {}
        }
        isolated(|| {
            let before = open_fds();
            run_on(kind, |event_loop| async move {
                let made = Rc::new(Cell::new(0));
                let count = made.clone();
                let factory = move || Rc::new(Counting(count.clone()));
                let options = ServerOptions::new("127.0.0.1", 0);
                let server = event_loop.create_server(factory, options).await.expect("it binds");
                let address = address_of(&server);
                drop(server);
                let _client = TcpStream::connect(address).expect("it listens");
                while made.get() == 0 {
                    yield_now().await.expect("nobody cancels this");
                }
            });
            assert_eq!(open_fds(), before);
        });
    }

    fn srv_01_serve_forever_ends_with_its_cancellation(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let accepted = Accepted::new();
            let options = ServerOptions::new("127.0.0.1", 0).start_serving(false);
            let serving = event_loop.create_server(accepted.factory(), options);
            let server = serving.await.expect("it binds");
            let address = address_of(&server);
            assert!(!server.is_serving());
            assert_refused(address);
            let handle = server.clone();
            let forever = async move { handle.serve_forever().await };
            let task = event_loop.create_task(forever).expect("the loop runs");
            yield_now().await.expect("nobody cancels this");
            assert!(server.is_serving());
            let client = TcpStream::connect(address).expect("it listens");
            let protocol = accepted.connected(0).await;
            assert!(task.cancel());
            yield_now().await.expect("nobody cancels this");
            assert_refused(address);
            assert!(!task.done(), "it waits for the connection");
            drop(client);
            protocol.until_lost().await;
            assert_cancelled(task.await);
            assert!(server.sockets().is_empty());
            assert!(!server.is_serving());
            for result in [server.serve_forever().await, server.start_serving().await] {
                let error = result.expect_err("it is closed");
                assert!(error.to_string().ends_with("is closed"), "{error}");
            }
        });
    }

    /// In either order, for any number of waiters, and at once when it is over.
    fn srv_03_wait_closed_waits_for_close_and_connections(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            for close_first in [true, false] {
                let (server, address, accepted) = serve(&event_loop).await;
                let client = TcpStream::connect(address).expect("it listens");
                let protocol = accepted.connected(0).await;
                let wait = || event_loop.create_task(server.wait_closed()).expect("the loop runs");
                let tasks = [wait(), wait(), wait()];
                let cancelled = wait();
                yield_now().await.expect("nobody cancels this");
                cancelled.cancel();
                assert!(cancelled.await.is_err());
                if close_first {
                    server.close();
                } else {
                    protocol.transport().close();
                    protocol.until_lost().await;
                }
                for _ in 0..5 {
                    yield_now().await.expect("nobody cancels this");
                }
                assert!(tasks.iter().all(|task| !task.done()));
                let late = wait();
                if close_first {
                    protocol.transport().close();
                    protocol.until_lost().await;
                } else {
                    server.close();
                }
                for task in tasks.into_iter().chain([late]) {
                    task.await.expect("it ended").expect("nobody cancels it");
                }
                let mut again = std::pin::pin!(server.wait_closed());
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(again.as_mut().poll(&mut context).is_ready(), "at once");
                drop(client);
            }
        });
    }

    fn srv_04_clients_are_closed_or_aborted(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            for abort in [false, true] {
                let (server, address, accepted) = serve(&event_loop).await;
                let mut clients = Vec::new();
                for index in 0..2 {
                    clients.push(TcpStream::connect(address).expect("it listens"));
                    let transport = accepted.connected(index).await.transport();
                    // More than the socket takes: closing has to wait for the peer, aborting not.
                    transport.write(&vec![0; 16 << 20]).expect("it is open");
                }
                server.close();
                if abort {
                    server.abort_clients();
                } else {
                    server.close_clients();
                }
                let readers: Vec<_> = clients.into_iter().map(read_all).collect();
                server.wait_closed().await.expect("nobody cancels this");
                for index in 0..2 {
                    assert_eq!(accepted.connected(index).await.until_lost().await, None);
                }
                for reader in readers {
                    let received = reader.join().expect("it does not panic");
                    assert_eq!(received == 16 << 20, !abort, "{received} bytes came");
                }
            }
        });
    }

    fn srv_05_serve_forever_is_awaited_once(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (server, _, _) = serve(&event_loop).await;
            let handle = server.clone();
            let forever = async move { handle.serve_forever().await };
            let task = event_loop.create_task(forever).expect("the loop runs");
            yield_now().await.expect("nobody cancels this");
            let error = server.serve_forever().await.expect_err("somebody waits already");
            let text = error.to_string();
            assert!(text.ends_with("is already being awaited on serve_forever()"), "{text}");
            assert!(server.is_serving());
            server.close();
            assert_cancelled(task.await);
        });
    }
}

/// Reads to the end in a thread; how many bytes came.
fn read_all(mut stream: TcpStream) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // An aborted connection may end with a reset.
        let _ = stream.read_to_end(&mut bytes);
        bytes.len()
    })
}

/// The task ended cancelled, or gave the cancellation as its error.
fn assert_cancelled<T>(result: Result<io::Result<T>, JoinError>) {
    match result {
        Ok(Ok(_)) => panic!("it returned in spite of the cancellation"),
        Ok(Err(error)) => assert!(Cancelled::in_error(&error).is_some(), "{error}"),
        Err(error) => assert!(matches!(error, JoinError::Cancelled(_)), "{error}"),
    }
}

fn is_a_second(delay: u64) -> bool {
    (900_000_000..=1_000_000_000).contains(&delay)
}

/// Lets the loop sleep until a timer of a millisecond fires.
async fn yield_to_timers(event_loop: &Rc<dyn AbstractEventLoop>) {
    let fired = event_loop.create_future::<()>();
    let fire = fired.clone();
    let base = event_loop.base().expect("a wrapped loop");
    let when = base.time() + 1_000_000;
    base.call_at_dyn(
        when,
        &mut ringloop::task::CallOnce::new(move || {
            fire.set_result(()).expect("nobody cancels it");
        }),
    )
    .expect("the loop runs");
    fired.wait().await.expect("nobody cancels it");
}

/// Leaves few descriptors to this process. To be called before an accept is armed: io_uring goes
/// by the limit of that moment.
fn limit_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writing.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    let probe = std::fs::File::open("/dev/null").expect("a descriptor is free");
    limit.rlim_cur = probe.as_raw_fd() as u64 + 32;
    // SAFETY: `limit` is valid for reading.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// Takes every descriptor that is free.
fn take_descriptors() -> Vec<OwnedFd> {
    let first = std::fs::File::open("/dev/null").expect("a descriptor is free");
    let mut taken = vec![OwnedFd::from(first)];
    while let Ok(copy) = taken[0].try_clone() {
        taken.push(copy);
    }
    taken
}
