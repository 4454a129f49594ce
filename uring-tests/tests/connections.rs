//! Connections: `create_connection`, its addresses and errors, and the resolver (rows CON and RES).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;

use ringloop::event_loop::{BindError, ConnectErrors, Family, Hints, SocketType};
use ringloop::{AbstractEventLoop, ConnectOptions, EventLoopExt, JoinError, yield_now};
use uring_tests::net::{
    Recorder, Seen, Silent, as_stream, assert_cancelled, has_ipv6, inet, own_addr, refusing,
    run_loop, run_on, settled_fds,
};
use uring_tests::tasks::HOUR;
use uring_tests::wrapped::{Wrapper, stream};
use uring_tests::{isolated, on_both_drivers, open_fds};

/// A listener of std's and the options that connect to it.
fn listener() -> (TcpListener, ConnectOptions) {
    let listener = TcpListener::bind(own_addr()).expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    (listener, ConnectOptions::from(address))
}

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let (listener, _) = listener();
    let one = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    (one, listener.accept().expect("it connected").0)
}

/// Connects, expecting failure.
async fn failure(event_loop: &Rc<dyn AbstractEventLoop>, options: ConnectOptions) -> io::Error {
    let result = event_loop.create_connection(Recorder::new, options).await;
    result.err().expect("connecting must fail")
}

/// A listener of std's and its address.
fn listener_address() -> (TcpListener, std::net::SocketAddr) {
    let (listener, _) = listener();
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

on_both_drivers! {
    /// The transport knows both ends, and `connection_made` has run when it is returned.
    fn con_01_the_connection_is_made_when_it_is_returned(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (listener, options) = listener();
            let connecting = event_loop.create_connection(Recorder::new, options);
            let (transport, protocol) = connecting.await.expect("somebody listens");
            assert_eq!(protocol.seen(), [Seen::Made]);
            assert!(Rc::ptr_eq(&transport, &protocol.transport()));
            let (mut peer, address) = listener.accept().expect("it connected");
            assert_eq!(inet(&transport, "sockname"), address);
            assert_eq!(inet(&transport, "peername"), listener.local_addr().expect("bound"));
            transport.write(b"hello").expect("it is open");
            transport.close();
            assert_eq!(protocol.until_lost().await, None);
            let mut text = String::new();
            peer.read_to_string(&mut text).expect("the peer closed");
            assert_eq!(text, "hello");
        });
    }

    /// Connecting to "any" address reaches this machine under another name, and says so.
    fn con_01_the_peer_is_who_answered(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
            let port = listener.local_addr().expect("bound").port();
            let options = ConnectOptions::new("0.0.0.0", port);
            let connecting = event_loop.create_connection(Recorder::new, options);
            let (transport, _) = connecting.await.expect("somebody listens");
            assert_eq!(inet(&transport, "peername"), listener.local_addr().expect("bound"));
        });
    }

    /// A connected socket is taken over.
    fn con_01_a_socket_is_taken_over(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (ours, mut peer) = pair();
            let options = ConnectOptions::default().sock(ours);
            let connecting = event_loop.create_connection(Recorder::new, options);
            let (transport, protocol) = connecting.await.expect("it is connected");
            assert_eq!(inet(&transport, "peername"), peer.local_addr().expect("connected"));
            peer.write_all(b"hi").expect("the loop has the other end");
            assert_eq!(protocol.until_bytes(2).await, b"hi");
        });
    }

    fn con_02_arguments_that_exclude_each_other(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (_listener, options) = listener();
            let error = failure(&event_loop, options.sock(pair().0)).await;
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(
                error.to_string(),
                "host/port and sock can not be specified at the same time"
            );
            let error = failure(&event_loop, ConnectOptions::default()).await;
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "host and port was not specified and no sock specified");
            let datagram = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
            let error = failure(&event_loop, ConnectOptions::default().sock(datagram)).await;
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("A Stream Socket was expected, got "), "{error}");
        });
    }

    fn con_03_a_resolver_without_an_answer(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        wrapper.resolve_to(&[]);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
        run_loop(&event_loop.clone(), async move {
            let error = failure(&event_loop, ConnectOptions::new("name", 80)).await;
            assert_eq!(error.to_string(), "getaddrinfo(\"name\") returned empty list");
            let local = ConnectOptions::new("127.0.0.1", 80).local_addr("other", 0);
            let error = failure(&event_loop, local).await;
            assert_eq!(error.to_string(), "getaddrinfo(\"other\") returned empty list");
        });
    }

    /// One address, and two that fail alike: the error is the system's own.
    fn con_04_the_connect_error_comes_out(kind: DriverKind) {
        let (first, _first) = refusing();
        let (second, _second) = refusing();
        let wrapper = Wrapper::new(kind);
        wrapper.resolve_to(&[&first.to_string(), &second.to_string()]);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
        run_loop(&event_loop.clone(), async move {
            for options in [ConnectOptions::from(first), ConnectOptions::new("both", 0)] {
                let error = failure(&event_loop, options).await;
                assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{error}");
            }
        });
    }

    /// Every error is in the text, and behind `all_errors` each can be had.
    fn con_05_different_errors_are_summed_up(kind: DriverKind) {
        let (address, _socket) = refusing();
        let wrapper = Wrapper::new(kind);
        // The broadcast address of the loopback network is no host.
        wrapper.resolve_to(&[&address.to_string(), "127.255.255.255:80"]);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
        run_loop(&event_loop.clone(), async move {
            let options = || ConnectOptions::new("both", 0);
            let error = failure(&event_loop, options()).await;
            let text = error.to_string();
            assert!(text.starts_with("Multiple exceptions: Connection refused"), "{text}");
            assert_eq!(text.matches("os error").count(), 2, "{text}");

            let error = failure(&event_loop, options().all_errors(true)).await;
            let all = error.get_ref().and_then(|inner| inner.downcast_ref::<ConnectErrors>());
            let errors = all.expect("all errors were asked for").errors();
            assert_eq!(errors.len(), 2);
            assert_eq!(errors[0].raw_os_error(), Some(libc::ECONNREFUSED));

            // One that fails, one that is skipped, and the error of connecting.
            let local = options().local_addr("127.0.0.1", 0).local_addr("192.0.2.1", 0);
            let error = failure(&event_loop, local.all_errors(true)).await;
            let all = error.get_ref().and_then(|inner| inner.downcast_ref::<ConnectErrors>());
            let kinds: Vec<_> =
                all.expect("all errors were asked for").errors().iter().map(io::Error::kind).collect();
            assert_eq!(kinds, [ErrorKind::AddrNotAvailable, ErrorKind::AddrNotAvailable]);
        });
    }

    /// Failed, cancelled and dropped attempts leave no socket behind; a cancellation ends the
    /// coroutine although another address is left.
    fn con_06_attempts_close_their_sockets(kind: DriverKind) {
        isolated(|| {
            let (refuses, _socket) = refusing();
            let silent = Silent::new();
            let (_good, good) = listener_address();
            let wrapper = Wrapper::new(kind);
            wrapper.resolve_to(&[&silent.address.to_string(), &good.to_string()]);
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
            run_loop(&event_loop.clone(), async move {
                let before = open_fds();
                failure(&event_loop, ConnectOptions::from(refuses)).await;
                assert_eq!(settled_fds(before).await, before);

                let options = || ConnectOptions::new("both", 0);
                for (options, abort) in [
                    (options(), false),
                    (options().happy_eyeballs_delay(HOUR), false),
                    (options(), true),
                    (options().happy_eyeballs_delay(HOUR), true),
                ] {
                    let connecting = event_loop.create_connection(Recorder::new, options);
                    let task = event_loop.create_task(connecting).expect("the loop runs");
                    while open_fds() == before {
                        yield_now().await.expect("nobody cancels this");
                    }
                    if abort {
                        task.abort();
                        drop(task);
                    } else {
                        assert!(task.cancel());
                        assert_cancelled(task.await);
                    }
                    assert_eq!(settled_fds(before).await, before);
                }
            });
        });
    }

    /// Happy Eyeballs: attempts that do not answer are overtaken, and closed when another won.
    fn con_06_silent_attempts_are_overtaken(kind: DriverKind) {
        isolated(|| {
            let silent = Silent::new();
            let (_good, good) = listener_address();
            let wrapper = Wrapper::new(kind);
            let silence = silent.address.to_string();
            wrapper.resolve_to(&[&silence, &silence, &good.to_string()]);
            // The delays are over at once.
            wrapper.delay.set(Some(1));
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
            run_loop(&event_loop.clone(), async move {
                let before = open_fds();
                let options = ConnectOptions::new("all", 0).happy_eyeballs_delay(HOUR);
                let connecting = event_loop.create_connection(Recorder::new, options);
                let (transport, protocol) = connecting.await.expect("the last one listens");
                assert_eq!(inet(&transport, "peername"), good);
                assert_eq!(settled_fds(before + 1).await, before + 1);
                assert_eq!(wrapper.delays.borrow().len(), 2, "after the first and the second");
                transport.close();
                protocol.until_lost().await;
            });
        });
    }

    /// Happy Eyeballs: after a failure the next attempt does not wait for the delay.
    fn con_06_a_failure_is_followed_at_once(kind: DriverKind) {
        let (refuses, _socket) = refusing();
        let (_good, good) = listener_address();
        let wrapper = Wrapper::new(kind);
        let refusing = refuses.to_string();
        wrapper.resolve_to(&[&refusing, &refusing, &good.to_string()]);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
        run_loop(&event_loop.clone(), async move {
            let options = ConnectOptions::new("all", 0).happy_eyeballs_delay(HOUR);
            let connecting = event_loop.create_connection(Recorder::new, options);
            let (transport, _) = connecting.await.expect("the last one listens");
            assert_eq!(inet(&transport, "peername"), good);

            // All fail: the errors of all attempts.
            let options = ConnectOptions::from(refuses).happy_eyeballs_delay(HOUR);
            let error = failure(&event_loop, options).await;
            assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        });
    }

    fn con_08_the_local_address_is_bound(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (listener, options) = listener();
            let options = options.local_addr("127.0.0.2", 0);
            let connecting = event_loop.create_connection(Recorder::new, options);
            let (transport, _) = connecting.await.expect("somebody listens");
            let (_peer, address) = listener.accept().expect("it connected");
            assert_eq!(address.ip().to_string(), "127.0.0.2");
            assert_eq!(inet(&transport, "sockname"), address);
        });
    }

    fn con_09_local_addresses_of_another_family_are_skipped(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        wrapper.resolve_to(&["[::1]:0", "127.0.0.3:0"]);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper;
        run_loop(&event_loop.clone(), async move {
            let (listener, options) = listener();
            let connecting =
                event_loop.create_connection(Recorder::new, options.local_addr("both", 0));
            connecting.await.expect("one of them fits");
            let (_peer, address) = listener.accept().expect("it connected");
            assert_eq!(address.ip().to_string(), "127.0.0.3");

            let address = listener.local_addr().expect("it is bound");
            let options = ConnectOptions::from(address).local_addr("::1", 0);
            let error = failure(&event_loop, options).await;
            assert_eq!(
                error.to_string(),
                "no matching local address with family=IPv4 found"
            );
            if has_ipv6() {
                let options = ConnectOptions::new("::1", address.port());
                let error = failure(&event_loop, options.local_addr("127.0.0.1", 0)).await;
                assert_eq!(
                    error.to_string(),
                    "no matching local address with family=IPv6 found"
                );
            }
        });
    }

    fn con_10_a_local_address_in_use(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (_remote, options) = listener();
            let (other, _) = listener();
            let taken = other.local_addr().expect("it is bound");
            let options = options.local_addr(taken.ip().to_string(), taken.port());
            let error = failure(&event_loop, options).await;
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let start = format!("error while attempting to bind on address {taken}: ");
            assert!(error.to_string().starts_with(&start), "{error}");
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<BindError>());
            let address = inner.expect("a bind error").address();
            assert_eq!(address.as_inet(), Some(taken));
        });
    }

    fn con_13_an_accepted_socket_is_served(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (ours, mut peer) = pair();
            let protocol = Recorder::new();
            let made = protocol.clone();
            let factory = Rc::new(move || made.clone().into());
            let serving = event_loop.connect_accepted_socket_dyn(factory, ours.into());
            let (transport, _) = serving.await.expect("it is connected");
            assert_eq!(protocol.seen(), [Seen::Made]);
            peer.write_all(b"ping").expect("the loop has the other end");
            assert_eq!(protocol.until_bytes(4).await, b"ping");
            transport.write(b"pong").expect("it is open");
            transport.close();
            protocol.until_lost().await;
            let mut text = String::new();
            peer.read_to_string(&mut text).expect("the loop closed");
            assert_eq!(text, "pong");

            let datagram = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
            let factory = Rc::new(|| panic!("called for a socket that was refused"));
            let refused = event_loop.connect_accepted_socket_dyn(factory, datagram.into()).await;
            assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::InvalidInput));
        });
    }

    /// A socket that was connected, one that was adopted (in either mode), one that was accepted.
    fn con_15_nagles_algorithm_is_off(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (_listener, options) = listener();
            let (blocking, _peer) = pair();
            let (nonblocking, _other) = pair();
            nonblocking.set_nonblocking(true).expect("it is open");
            assert!(!blocking.nodelay().expect("it is open"));
            for options in [
                options,
                ConnectOptions::default().sock(blocking),
                ConnectOptions::default().sock(nonblocking),
            ] {
                let connecting = event_loop.create_connection(Recorder::new, options);
                let (transport, _) = connecting.await.expect("all are connected");
                let nodelay = as_stream(|f| transport.with_fd(f), TcpStream::nodelay);
                assert!(nodelay.expect("it is open"));
            }
        });
    }

    /// What the peer sent before is not seen before the coroutine returned.
    fn con_17_made_comes_before_the_return_and_before_data(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (ours, mut peer) = pair();
            peer.write_all(b"early").expect("it is connected");
            let options = ConnectOptions::default().sock(ours);
            let connecting = event_loop.create_connection(Recorder::new, options);
            let (_, protocol) = connecting.await.expect("it is connected");
            assert_eq!(protocol.seen(), [Seen::Made]);
            assert_eq!(protocol.until_bytes(5).await, b"early");
        });
    }

    /// Cancelled between the transport's making and `connection_made`: made, lost, nothing else.
    fn con_17_cancelled_while_connecting(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (ours, mut peer) = pair();
            let protocol = Recorder::new();
            let made = protocol.clone();
            let options = ConnectOptions::default().sock(ours);
            let connecting = event_loop.create_connection(move || made, options);
            let task = event_loop.create_task(connecting).expect("the loop runs");
            // Its first step, which makes the transport, runs before this goes on.
            yield_now().await.expect("nobody cancels this");
            assert_eq!(protocol.seen(), []);
            assert!(task.cancel());
            assert_cancelled(task.await);
            assert_eq!(protocol.until_lost().await, None);
            assert_eq!(protocol.seen(), [Seen::Made, Seen::Lost(None)]);
            assert_eq!(peer.read(&mut [0]).expect("the loop closed"), 0);
        });
    }

    /// A panic of the factory comes out of the coroutine; the socket is closed.
    fn a_factory_that_panics_closes_the_socket(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (ours, mut peer) = pair();
            let options = ConnectOptions::default().sock(ours);
            let factory = || -> Rc<Recorder> { panic!("no protocol") };
            let connecting = event_loop.create_connection(factory, options);
            let task = event_loop.create_task(connecting).expect("the loop runs");
            assert!(matches!(task.await, Err(JoinError::Panicked(_))));
            assert_eq!(peer.read(&mut [0]).expect("the loop closed"), 0);
        });
    }

    /// Literal addresses are not given to the resolver, names are, once.
    fn literal_addresses_are_not_resolved(kind: DriverKind) {
        let (listener, options) = listener();
        let address = listener.local_addr().expect("it is bound");
        let wrapper = Wrapper::new(kind);
        wrapper.resolve_with(move |host, port| {
            assert_eq!((host, port), (Some("name"), "service"));
            vec![stream(&address.to_string())]
        });
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
        run_loop(&event_loop.clone(), async move {
            let connecting = event_loop.create_connection(Recorder::new, options);
            connecting.await.expect("somebody listens");
            assert_eq!((wrapper.resolved.get(), wrapper.jobs.get()), (0, 0));
            let options = ConnectOptions::new("name", "service");
            let connecting = event_loop.create_connection(Recorder::new, options);
            connecting.await.expect("somebody listens");
            assert_eq!((wrapper.resolved.get(), wrapper.jobs.get()), (1, 0));
        });
    }

    fn res_03_getnameinfo_runs_in_a_thread(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
        run_loop(&event_loop.clone(), async move {
            let address = "127.0.0.1:80".parse().expect("an address");
            let flags = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
            let names = event_loop.getnameinfo(address, flags).await.expect("numbers");
            assert_eq!(names, ("127.0.0.1".to_owned(), "80".to_owned()));
            assert_eq!(wrapper.jobs.get(), 1);
        });
    }

    fn res_05_names_of_services(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
        run_loop(&event_loop.clone(), async move {
            let hints = Hints { socket_type: SocketType::Stream, ..Hints::default() };
            let ask = |port: &str| {
                event_loop.getaddrinfo(Some("127.0.0.1".to_owned()), port.to_owned(), hints)
            };
            ask("no-such-service").await.expect_err("nobody knows that service");
            let http = ask("http").await;
            // A container may have no list of services.
            if std::path::Path::new("/etc/services").exists() {
                let infos = http.expect("everybody knows that service");
                assert_eq!(infos[0].address.to_string(), "127.0.0.1:80");
                assert_eq!(infos[0].family(), Family::V4);
            } else {
                http.expect_err("there is no list of services");
            }
            assert_eq!(wrapper.jobs.get(), 2);
            let number = ask("80").await.expect("a number");
            assert_eq!(number[0].address.port(), 80);
            assert_eq!(wrapper.jobs.get(), 2, "a literal address with a number needs no thread");
        });
    }

    fn res_06_a_scope_is_kept(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let hints = Hints { socket_type: SocketType::Stream, ..Hints::default() };
            let infos = event_loop.getaddrinfo(Some("fe80::1%lo".to_owned()), "80".to_owned(), hints);
            match infos.await.expect("lo is there")[0].address {
                std::net::SocketAddr::V6(address) => assert_eq!(address.scope_id(), 1),
                other => panic!("{other} is not IPv6"),
            }
        });
    }

    /// The resolver's thread may end after the wait was cancelled: its answer is dropped.
    fn a_cancelled_resolution_ends_at_once(kind: DriverKind) {
        let wrapper = Wrapper::new(kind);
        wrapper.hold_jobs.set(true);
        let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
        run_loop(&event_loop.clone(), async move {
            let connecting =
                event_loop.create_connection(Recorder::new, ConnectOptions::new("::1%lo", 80));
            let task = event_loop.create_task(connecting).expect("the loop runs");
            yield_now().await.expect("nobody cancels this");
            let jobs = wrapper.held_jobs.take();
            assert_eq!(jobs.len(), 1);
            assert!(task.cancel());
            assert_cancelled(task.await);
            jobs.into_iter().for_each(|job| job());
            yield_now().await.expect("nobody cancels this");
        });
    }
}
