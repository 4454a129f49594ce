//! Connections and servers over Unix sockets (rows UNX).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use ringloop::{
    AbstractEventLoop, Address, EventLoopExt, Server, UnixConnectOptions, UnixServerOptions,
    yield_now,
};
use uring_tests::net::{Accepted, Recorder, Reports, Seen, assert_cancelled, run_on};
use uring_tests::{TempDir, isolated, on_both_drivers, open_fds};

type Loop = Rc<dyn AbstractEventLoop>;

/// A server with those options, and what it accepts.
async fn serve(event_loop: &Loop, options: UnixServerOptions) -> (Server, Rc<Accepted>) {
    let accepted = Accepted::new();
    let serving = event_loop.create_unix_server(accepted.factory(), options);
    (serving.await.expect("it binds"), accepted)
}

async fn serve_failure(event_loop: &Loop, options: UnixServerOptions) -> io::Error {
    let result = event_loop.create_unix_server(Recorder::new, options).await;
    result.expect_err("serving must fail")
}

async fn connect_failure(event_loop: &Loop, options: UnixConnectOptions) -> io::Error {
    let result = event_loop
        .create_unix_connection(Recorder::new, options)
        .await;
    result.err().expect("connecting must fail")
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(&[0])
}

/// An abstract name that no other caller gets.
fn abstract_name() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("\0ringloop-test-{}-{number}", std::process::id()))
}

on_both_drivers! {
    /// By path and by abstract name.
    fn unx_01_client_and_server_exchange_data(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            for path in [directory.join("socket"), abstract_name()] {
                let (server, accepted) = serve(&event_loop, UnixServerOptions::new(&path)).await;
                let connecting =
                    event_loop.create_unix_connection(Recorder::new, UnixConnectOptions::new(&path));
                let (transport, client) = connecting.await.expect("it listens");
                assert_eq!(client.seen(), [Seen::Made]);
                transport.write(b"ping").expect("it is open");
                let protocol = accepted.connected(0).await;
                assert_eq!(protocol.until_bytes(4).await, b"ping");
                protocol.transport().write(b"pong").expect("it is open");
                protocol.transport().close();
                assert_eq!(client.until_bytes(4).await, b"pong");
                client.until_lost().await;
                server.close();
                server.wait_closed().await.expect("nobody cancels this");
                let error = connect_failure(&event_loop, UnixConnectOptions::new(&path)).await;
                // The file is gone; an abstract name is just not listened on.
                let expected = match is_abstract(&path) {
                    true => ErrorKind::ConnectionRefused,
                    false => ErrorKind::NotFound,
                };
                assert_eq!(error.kind(), expected);
            }
        });
    }

    /// Refused from the very call on, before the loop runs again.
    fn closing_a_unix_server_ends_listening_at_once(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let path = directory.join("socket");
            let options = UnixServerOptions::new(&path).cleanup_socket(false);
            let (server, accepted) = serve(&event_loop, options).await;
            let queued = UnixStream::connect(&path).expect("it listens");
            server.close();
            let error = UnixStream::connect(&path).expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            server.wait_closed().await.expect("nobody cancels this");
            for _ in 0..10 {
                yield_now().await.expect("nobody cancels this");
            }
            match (&queued).read(&mut [0]) {
                Ok(count) => assert_eq!(count, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
            assert_eq!(accepted.count(), 0);
        });
    }

    fn unx_02_a_stale_socket_is_replaced(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let path = directory.join("socket");
            drop(UnixListener::bind(&path).expect("nothing is there"));
            assert!(is_socket(&path), "std leaves it behind");
            let (server, accepted) = serve(&event_loop, UnixServerOptions::new(&path)).await;
            let _client = UnixStream::connect(&path).expect("it listens");
            accepted.connected(0).await;
            server.close();

            std::fs::write(&path, "precious").expect("nothing is there");
            let error = serve_failure(&event_loop, UnixServerOptions::new(&path)).await;
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let expected = format!("Address '{}' is already in use", path.display());
            assert_eq!(error.to_string(), expected);
            assert_eq!(std::fs::read(&path).expect("it is left alone"), b"precious");
        });
    }

    fn unx_03_every_type_of_path_will_do(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let path = directory.join("socket");
            let text = path.to_str().expect("a plain path").to_owned();
            for options in [
                UnixServerOptions::new(&text),
                UnixServerOptions::new(text.as_str()),
                UnixServerOptions::new(path.as_os_str()),
                UnixServerOptions::new(path.clone()),
            ] {
                let (server, _) = serve(&event_loop, options).await;
                assert_eq!(server.local_addrs(), [Address::Unix(path.clone())]);
                for options in [
                    UnixConnectOptions::new(&text),
                    UnixConnectOptions::new(text.as_str()),
                    UnixConnectOptions::new(path.as_os_str()),
                    UnixConnectOptions::new(path.clone()),
                ] {
                    let connecting = event_loop.create_unix_connection(Recorder::new, options);
                    connecting.await.expect("it listens").0.close();
                }
                server.close();
            }
        });
    }

    fn unx_04_arguments_that_exclude_each_other(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let path = directory.join("socket");
            let tcp = || TcpListener::bind("127.0.0.1:0").expect("loopback is there");
            let datagram = || UnixDatagram::unbound().expect("a descriptor is free");
            let udp = || UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
            let pair = || UnixStream::pair().expect("descriptors are free").0;

            let both = "path and sock can not be specified at the same time";
            let wrong = "A UNIX Domain Stream Socket was expected, got ";
            for (error, expected) in [
                (UnixServerOptions::new(&path).sock(pair()), both),
                (UnixServerOptions::default(), "path was not specified, and no sock specified"),
                (UnixServerOptions::default().sock(tcp()), wrong),
                (UnixServerOptions::default().sock(datagram()), wrong),
            ] {
                let error = serve_failure(&event_loop, error).await;
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().starts_with(expected), "{error}");
            }
            for (error, expected) in [
                (UnixConnectOptions::new(&path).sock(pair()), both),
                (UnixConnectOptions::default(), "no path and sock were specified"),
                (UnixConnectOptions::default().sock(udp()), wrong),
                (UnixConnectOptions::default().sock(tcp()), wrong),
                (UnixConnectOptions::default().sock(datagram()), wrong),
            ] {
                let error = connect_failure(&event_loop, error).await;
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().starts_with(expected), "{error}");
            }
            let long = "x".repeat(200);
            for path in [long.as_str(), "", "nul\0inside"] {
                let error = serve_failure(&event_loop, UnixServerOptions::new(path)).await;
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                let error = connect_failure(&event_loop, UnixConnectOptions::new(path)).await;
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            }
        });
    }

    /// Non-blocking sockets: one that listens, and one that is connected.
    fn unx_05_the_mode_of_a_socket_does_not_matter(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let path = directory.join("socket");
            for nonblocking in [true, false] {
                let listener = UnixListener::bind(&path).expect("nothing is there");
                listener.set_nonblocking(nonblocking).expect("it is open");
                let options = UnixServerOptions::default().sock(listener);
                let (server, accepted) = serve(&event_loop, options).await;
                let client = UnixStream::connect(&path).expect("it listens");
                client.set_nonblocking(nonblocking).expect("it is open");
                let options = UnixConnectOptions::default().sock(client);
                let connecting = event_loop.create_unix_connection(Recorder::new, options);
                let (transport, _) = connecting.await.expect("it is connected");
                transport.write(b"x").expect("it is open");
                assert_eq!(accepted.connected(0).await.until_bytes(1).await, b"x");
                transport.close();
                server.close();
                assert!(!path.exists(), "the adopted socket's file is removed too");
            }
        });
    }

    fn unx_07_a_failed_bind_closes_the_socket(kind: DriverKind) {
        isolated(|| {
            run_on(kind, |event_loop| async move {
                let directory = TempDir::new();
                let before = open_fds();
                let path = directory.join("missing/socket");
                let error = serve_failure(&event_loop, UnixServerOptions::new(&path)).await;
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert_eq!(open_fds(), before);
                let file = directory.join("file");
                std::fs::write(&file, "").expect("nothing is there");
                let error = serve_failure(&event_loop, UnixServerOptions::new(&file)).await;
                assert_eq!(error.kind(), ErrorKind::AddrInUse);
                assert_eq!(open_fds(), before);
                let error = connect_failure(&event_loop, UnixConnectOptions::new(&file)).await;
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                assert_eq!(open_fds(), before);
            });
        });
    }

    /// A path that cannot be looked at is reported; whether it can be bound is up to `bind`.
    fn unx_07_a_path_that_cannot_be_looked_at(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let reports = Reports::of(&event_loop);
            let file = directory.join("file");
            std::fs::write(&file, "").expect("nothing is there");
            let path = file.join("socket");
            let error = serve_failure(&event_loop, UnixServerOptions::new(&path)).await;
            assert_eq!(error.kind(), ErrorKind::NotADirectory);
            let path = path.display();
            let expected = format!("Unable to check or remove stale UNIX socket '{path}'");
            assert_eq!(reports.messages(), [expected]);
        });
    }

    /// Bound and adopted, served and not served.
    fn unx_08_closing_a_server_removes_its_file(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let path = directory.join("socket");
            for start in [true, false] {
                let options = UnixServerOptions::new(&path).start_serving(start);
                let (server, _) = serve(&event_loop, options).await;
                assert!(is_socket(&path));
                server.close();
                assert!(!path.exists());

                let listener = UnixListener::bind(&path).expect("nothing is there");
                let options = UnixServerOptions::default().sock(listener).start_serving(start);
                let (server, _) = serve(&event_loop, options).await;
                server.close();
                assert!(!path.exists());
            }
        });
    }

    fn unx_09_a_file_that_is_not_the_servers_stays(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let reports = Reports::of(&event_loop);
            let path = directory.join("socket");
            // Gone.
            let (server, _) = serve(&event_loop, UnixServerOptions::new(&path)).await;
            std::fs::remove_file(&path).expect("it is there");
            server.close();
            assert_eq!(reports.messages(), [""; 0]);
            // Replaced, while the first one still holds its inode.
            let (server, _) = serve(&event_loop, UnixServerOptions::new(&path)).await;
            let other = directory.join("other");
            let listener = UnixListener::bind(&other).expect("nothing is there");
            std::fs::rename(&other, &path).expect("both are there");
            server.close();
            UnixStream::connect(&path).expect("the other one listens");
            drop(listener);
            std::fs::remove_file(&path).expect("it stayed");
            // Not wanted.
            let options = UnixServerOptions::new(&path).cleanup_socket(false);
            let (server, _) = serve(&event_loop, options).await;
            server.close();
            assert!(is_socket(&path));
            // An abstract name is no file.
            let name = abstract_name();
            let (server, _) = serve(&event_loop, UnixServerOptions::new(&name)).await;
            server.close();
            assert_eq!(reports.messages(), [""; 0]);
            // It can not be told whose it is.
            let directory = directory.join("directory");
            std::fs::create_dir(&directory).expect("nothing is there");
            let path = directory.join("socket");
            let (server, _) = serve(&event_loop, UnixServerOptions::new(&path)).await;
            std::fs::rename(&directory, directory.with_extension("moved")).expect("it is there");
            std::fs::write(&directory, "a file").expect("nothing is there");
            server.close();
            let expected =
                format!("Unable to clean up listening UNIX socket '{}'", path.display());
            assert_eq!(reports.messages(), [expected]);
        });
    }

    /// Started by hand, then served for ever.
    fn srv_02_a_unix_server_is_started_by_hand(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let directory = TempDir::new();
            let path = directory.join("socket");
            let options = UnixServerOptions::new(&path).start_serving(false);
            let (server, accepted) = serve(&event_loop, options).await;
            assert!(!server.is_serving());
            let error = UnixStream::connect(&path).expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            server.start_serving().await.expect("it is bound");
            server.start_serving().await.expect("it is harmless");
            assert!(server.is_serving());
            // One accept is armed, and nothing else.
            let stats = event_loop.core().expect("a base loop has a core").stats();
            assert_eq!(stats.live_operations, 1);
            let mut client = UnixStream::connect(&path).expect("it listens");
            client.write_all(b"hi").expect("it is connected");
            assert_eq!(accepted.connected(0).await.until_bytes(2).await, b"hi");
            drop(client);
            accepted.connected(0).await.until_lost().await;
            let handle = server.clone();
            let forever = async move { handle.serve_forever().await };
            let task = event_loop.create_task(forever).expect("the loop runs");
            yield_now().await.expect("nobody cancels this");
            assert!(task.cancel());
            assert_cancelled(task.await);
            assert!(!server.is_serving());
            assert!(!path.exists());
        });
    }

    /// A Unix socket of either end of a pair can be served as if accepted.
    fn con_13_a_unix_socket_is_served(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (ours, mut peer) = UnixStream::pair().expect("descriptors are free");
            let protocol = Recorder::new();
            let made = protocol.clone();
            let factory = Rc::new(move || made.clone().into());
            let serving = event_loop.connect_accepted_socket_dyn(factory, OwnedFd::from(ours));
            serving.await.expect("it is connected");
            peer.write_all(b"hi").expect("the loop has the other end");
            assert_eq!(protocol.until_bytes(2).await, b"hi");
        });
    }
}
