//! The end of servers, and who waits for it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use ringloop::event_loop::{SocketParts, TransportFactory, WaitClosed};
use ringloop::transport::DefaultTransports;
use ringloop::{
    AbstractEventLoop, BaseEventLoop, BaseProtocol, Builder, EventLoopExt, Lease, Protocol, Server,
    ServerOptions, Transport, yield_now,
};
use uring_tests::net::{
    Accepted, Recorder, assert_cancelled, own_addr, run_loop, run_on, settled_fds,
};
use uring_tests::wrapped::Wrapper;
use uring_tests::{isolated, on_both_drivers, open_fds};

use crate::{address_of, assert_closed, assert_refused, serve};

thread_local! {
    /// For the destructors of wakers, which must be `Send`.
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

on_both_drivers! {
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
                let options = ServerOptions::from(own_addr());
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
            let listener = TcpListener::bind(own_addr()).expect("loopback is there");
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

    /// A server whose coroutine is cancelled before it returned is not left behind.
    fn a_cancelled_create_server_leaves_nothing(kind: DriverKind) {
        isolated(|| {
            run_on(kind, |event_loop| async move {
                let before = open_fds();
                let options = ServerOptions::from(own_addr());
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
                let options = ServerOptions::from(own_addr());
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
            let options = ServerOptions::from(own_addr()).start_serving(false);
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
                let mut context = Context::from_waker(Waker::noop());
                assert!(again.as_mut().poll(&mut context).is_ready(), "at once");
                drop(client);
            }
        });
    }

    /// The destructor of the waker that is not needed any more is code of others.
    fn srv_03_a_waker_may_close_the_server_that_it_waits_for(kind: DriverKind) {
        struct Closes;
        impl Wake for Closes {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Closes {
            fn drop(&mut self) {
                if let Some(server) = SERVER.take() {
                    server.close();
                }
            }
        }
        run_on(kind, |event_loop| async move {
            let (server, _, _) = serve(&event_loop).await;
            let handle = server.clone();
            let also = event_loop.create_task(async move { handle.wait_closed().await });
            yield_now().await.expect("nobody cancels this");
            let (handle, polled) = (server.clone(), Rc::new(Cell::new(false)));
            let done = polled.clone();
            // Outside any task, so that nobody else keeps the waker.
            let callback = move || {
                let mut waits = Box::pin(handle.wait_closed());
                let waker = Waker::from(Arc::new(Closes));
                assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                drop(waker);
                SERVER.set(Some(handle.clone()));
                let _ = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(!handle.is_serving(), "the waker is kept");
                assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
                done.set(true);
            };
            event_loop.call_soon(callback).expect("the loop runs");
            yield_now().await.expect("nobody cancels this");
            assert!(polled.get());
            also.expect("the loop runs").await.expect("it ended").expect("nobody cancels it");
        });
    }

    /// A transport factory attaches a connection when the server was over already: it is not over, and
    /// each of those who waited keeps his place.
    fn srv_03_a_connection_that_is_attached_late_is_waited_for(kind: DriverKind) {
        /// Keeps the first connection of a server back.
        #[derive(Default)]
        struct Late(RefCell<Option<SocketParts>>);
        impl TransportFactory for Late {
            fn make_socket_transport(&self, parts: SocketParts) -> io::Result<Rc<dyn Transport>> {
                self.0.replace(Some(parts));
                Err(io::Error::other("later"))
            }
        }
        let factory = Rc::new(Late::default());
        let driver = Builder::new().driver(kind).build_driver().expect("the driver is there");
        let event_loop: Rc<dyn AbstractEventLoop> = Rc::new_cyclic(|me: &Weak<BaseEventLoop>| {
            BaseEventLoop::new(driver, factory.clone(), me.clone())
        });
        event_loop.set_exception_handler(Some(Rc::new(|_| ())));
        run_loop(&event_loop.clone(), async move {
            let (server, address, _) = serve(&event_loop).await;
            let _client = TcpStream::connect(address).expect("it listens");
            while factory.0.borrow().is_none() {
                yield_now().await.expect("nobody cancels this");
            }
            let polled = |waits: &mut WaitClosed| {
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(waits).poll(&mut context).is_ready()
            };
            let [mut first, mut second] = [server.wait_closed(), server.wait_closed()];
            assert!(!polled(&mut first) && !polled(&mut second));
            server.close();
            let parts = factory.0.take().expect("it was kept");
            let transport = DefaultTransports.make_socket_transport(parts).expect("it is connected");
            assert!(!polled(&mut second) && !polled(&mut first));
            drop(second);
            let waits = event_loop.create_task(first).expect("the loop runs");
            yield_now().await.expect("nobody cancels this");
            assert!(!waits.done());
            transport.abort();
            waits.await.expect("it ended").expect("nobody cancels it");
        });
    }

    /// It wakes who polled last, once, and nobody when it was dropped.
    fn srv_03_wait_closed_wakes_who_polled_last(kind: DriverKind) {
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        run_on(kind, |event_loop| async move {
            let (server, _, _) = serve(&event_loop).await;
            let counts: [Arc<Count>; 3] = Default::default();
            let mut moved = Box::pin(server.wait_closed());
            let mut dropped = Box::pin(server.wait_closed());
            for (wait, count) in
                [(&mut moved, &counts[0]), (&mut dropped, &counts[1])].into_iter()
            {
                let waker = Waker::from(count.clone());
                assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            let waker = Waker::from(counts[2].clone());
            assert!(moved.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(dropped);
            server.close();
            let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
            assert_eq!(woken, [0, 0, 1]);
            assert!(moved.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
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

    /// Dropped, it neither closes the server nor stands in the way of the next one.
    fn srv_05_a_dropped_serve_forever_can_be_begun_again(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (server, _, _) = serve(&event_loop).await;
            let mut dropped = Box::pin(server.serve_forever());
            let begun = poll_fn(|cx| Poll::Ready(dropped.as_mut().poll(cx))).await;
            assert!(begun.is_pending());
            drop(dropped);
            assert!(server.is_serving());
            let handle = server.clone();
            let again = async move { handle.serve_forever().await };
            let task = event_loop.create_task(again).expect("the loop runs");
            yield_now().await.expect("nobody cancels this");
            assert!(!task.done());
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
