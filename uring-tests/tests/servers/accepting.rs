//! Connections, and what becomes of accepts that fail.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ringloop::{AbstractEventLoop, Address, EventLoopExt, ProtocolKind, ServerOptions};
use uring_tests::net::{Accepted, Reports, Seen, as_stream, inet, own_addr, run_loop, run_on};
use uring_tests::tasks::SECOND;
use uring_tests::wrapped::Wrapper;
use uring_tests::{isolated, limit_descriptors, on_both_drivers, open_fds};

use crate::{address_of, assert_closed, assert_refused, serve};

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

    /// Out of descriptors: one report, no spinning, and accepting goes on by itself after a second.
    fn srvc_12_accepting_goes_on_after_a_second(kind: DriverKind) {
        isolated(|| {
            let wrapper = Wrapper::new(kind);
            // The second is over quickly; what was asked for is recorded.
            wrapper.delay.set(Some(1_000_000));
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
            run_loop(&event_loop.clone(), async move {
                let reports = Reports::of(&event_loop);
                limit_descriptors(32);
                let (server, address, accepted) = serve(&event_loop).await;
                let client = TcpStream::connect(address).expect("it listens");
                let fillers = take_descriptors();
                while wrapper.delays.borrow().len() < 3 {
                    yield_to_timers(&event_loop).await;
                }
                assert!(wrapper.delays.borrow().iter().all(|delay| *delay == SECOND));
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
                limit_descriptors(32);
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

    /// A loop that is closed while accepting is paused lets go of the listener.
    fn srvc_12_a_pause_ends_with_the_loop(kind: DriverKind) {
        isolated(|| {
            let before = open_fds();
            let wrapper = Wrapper::new(kind);
            wrapper.accepts.borrow_mut().push_back(libc::EMFILE);
            let event_loop: Rc<dyn AbstractEventLoop> = wrapper.clone();
            run_loop(&event_loop.clone(), async move {
                let reports = Reports::of(&event_loop);
                let (_server, _, _) = serve(&event_loop).await;
                reports.until(1).await;
            });
            drop(wrapper);
            assert_eq!(open_fds(), before);
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
                let hosts = [own_addr(), own_addr()].map(|address| address.ip().to_string());
                let options = ServerOptions::default().hosts(hosts).port(0);
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
                    assert_eq!(reports.sockets(), [Some(Address::Inet(failing))]);
                    let text = format!("os error {errno}");
                    assert!(reports.errors()[0].contains(&text), "{:?}", reports.errors());
                } else {
                    assert_eq!(reports.messages(), [""; 0]);
                }
            });
        }
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
            let options = ServerOptions::from(own_addr());
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

/// Takes every descriptor that is free.
fn take_descriptors() -> Vec<OwnedFd> {
    let first = std::fs::File::open("/dev/null").expect("a descriptor is free");
    let mut taken = vec![OwnedFd::from(first)];
    while let Ok(copy) = taken[0].try_clone() {
        taken.push(copy);
    }
    taken
}
