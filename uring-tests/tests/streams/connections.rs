//! Readers and writers on connections.

use super::{Reports, new_loop, run, run_reporting, settle, spawn, told};
use ringloop::stream::{
    StreamReader, StreamWriter, open_connection, open_unix_connection, start_server,
    start_unix_server,
};
use ringloop::{
    ConnectOptions, Server, ServerOptions, UnixConnectOptions, UnixServerOptions, get_running_loop,
};
use std::cell::RefCell;
use std::future::{Future, ready};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use uring_tests::net::{refusing, reset_on_close};
use uring_tests::{TempDir, on_both_drivers};

/// Where a server listens.
pub fn address(server: &Server) -> SocketAddr {
    let addresses = server.local_addrs();
    addresses[0].as_inet().expect("a TCP server")
}

/// Both ends of one TCP connection: the client's, and the server's. Nothing else listens any more.
pub async fn tcp_pair() -> ((StreamReader, StreamWriter), (StreamReader, StreamWriter)) {
    let accepted = Rc::new(RefCell::new(None));
    let keep = accepted.clone();
    let callback = move |reader, writer| {
        *keep.borrow_mut() = Some((reader, writer));
        ready(())
    };
    let server = start_server(callback, ServerOptions::new("127.0.0.1", 0))
        .await
        .unwrap();
    let client = open_connection(ConnectOptions::from(address(&server)))
        .await
        .unwrap();
    while accepted.borrow().is_none() {
        ringloop::yield_now().await.unwrap();
    }
    server.close();
    let served = accepted.take().expect("just seen");
    (client, served)
}

/// A connection whose peer is a blocking socket.
async fn to_blocking_peer() -> ((StreamReader, StreamWriter), TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let streams = open_connection(ConnectOptions::from(to)).await.unwrap();
    let (peer, _) = listener.accept().unwrap();
    (streams, peer)
}

/// Echoes lines until the end.
async fn echo_lines(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    while let Some(line) = reader.next_line().await? {
        writer.write_chunk(line)?;
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

async fn talk(mut reader: StreamReader, writer: StreamWriter) {
    writer.write(b"hello\n").unwrap();
    assert_eq!(reader.readline().await.unwrap(), b"hello\n");
    writer
        .writelines([b"two ".to_vec(), b"pieces\n".to_vec()])
        .unwrap();
    assert_eq!(reader.readline().await.unwrap(), b"two pieces\n");
    assert!(writer.can_write_eof());
    writer.write(b"rest").unwrap();
    writer.write_eof().unwrap();
    assert_eq!(reader.read_to_end().await.unwrap(), b"rest");
    writer.close();
    writer.wait_closed().await.unwrap();
}

on_both_drivers! {
    fn stw_01_stw_03_clients_and_servers_over_tcp(kind: DriverKind) {
        run(kind, async {
            let server = start_server(echo_lines, ServerOptions::new("127.0.0.1", 0)).await.unwrap();
            let (reader, writer) = open_connection(ConnectOptions::from(address(&server))).await.unwrap();
            assert!(writer.get_extra_info("peername").is_some());
            talk(reader, writer).await;
            server.close();
            server.wait_closed().await.unwrap();
        });
    }

    fn stw_01_stw_03_clients_and_servers_over_unix_sockets(kind: DriverKind) {
        let directory = TempDir::new();
        let path = directory.join("socket");
        run(kind, async move {
            let server = start_unix_server(echo_lines, UnixServerOptions::new(&path)).await.unwrap();
            let (reader, writer) = open_unix_connection(UnixConnectOptions::new(&path)).await.unwrap();
            talk(reader, writer).await;
            server.close();
            server.wait_closed().await.unwrap();
        });
    }

    /// The callback may do everything itself and return a future that is ready.
    fn stw_03_the_callback_may_be_a_plain_function(kind: DriverKind) {
        run(kind, async {
            let greet = |_reader: StreamReader, writer: StreamWriter| {
                writer.write(b"bye\n").unwrap();
                writer.close();
                ready(())
            };
            let server = start_server(greet, ServerOptions::new("127.0.0.1", 0)).await.unwrap();
            let (mut reader, writer) = open_connection(ConnectOptions::from(address(&server))).await.unwrap();
            assert_eq!(reader.read_to_end().await.unwrap(), b"bye\n");
            writer.close();
            writer.wait_closed().await.unwrap();
        });
    }

    fn stw_02_a_lost_connection_shows_in_reads_and_is_not_reported(kind: DriverKind) {
        run(kind, async {
            let ((mut reader, writer), mut peer) = to_blocking_peer().await;
            peer.write_all(b"data").unwrap();
            while reader.buffered() < 4 {
                ringloop::yield_now().await.unwrap();
            }
            reset_on_close(&peer);
            drop(peer);
            let closed = told(writer.wait_closed().await);
            assert_eq!(closed.0, ErrorKind::ConnectionReset);
            assert_eq!(told(reader.read(1).await).0, ErrorKind::ConnectionReset);
            assert_eq!(told(writer.drain().await).0, ErrorKind::ConnectionReset);
            assert_eq!(told(writer.wait_closed().await), closed, "as often as one asks");
        });
    }

    fn stw_05_many_drains_at_once_are_all_released(kind: DriverKind) {
        run(kind, async {
            let ((_reader, writer), (mut slow, _answers)) = tcp_pair().await;
            let writer = Rc::new(writer);
            writer.drain().await.unwrap();
            // Fits nowhere.
            writer.write(&vec![0; 48 << 20]).unwrap();
            let drains: Vec<_> = (0..10)
                .map(|_| {
                    let writer = writer.clone();
                    spawn(async move { writer.drain().await })
                })
                .collect();
            settle().await;
            assert!(drains.iter().all(|drain| !drain.done()));
            let reading = spawn(async move { while slow.read_lease().await.unwrap().is_some() {} });
            for drain in drains {
                drain.await.unwrap().unwrap();
            }
            writer.close();
            reading.await.unwrap();
        });
    }

    fn stw_06_writing_and_draining_on_a_dead_connection_ends(kind: DriverKind) {
        let reports = Reports::default();
        run_reporting(kind, async {
            let ((_reader, writer), peer) = to_blocking_peer().await;
            drop(peer);
            let error = loop {
                writer.write(b"is there anybody?").unwrap();
                if let Err(error) = writer.drain().await {
                    break error;
                }
                ringloop::yield_now().await.unwrap();
            };
            let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(gone.contains(&error.kind()), "{error:?}");
        }, reports.collect());
    }

    fn stw_07_close_is_closing_and_wait_closed(kind: DriverKind) {
        run(kind, async {
            let ((mut reader, writer), (_unread, peer)) = tcp_pair().await;
            assert!(!writer.is_closing());
            peer.write(b"unread").unwrap();
            assert_eq!(reader.fill_buf().await.unwrap(), b"unread");
            let writer = Rc::new(writer);
            // Waiting may begin before the close, and in several tasks.
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let writer = writer.clone();
                    spawn(async move { writer.wait_closed().await })
                })
                .collect();
            settle().await;
            assert!(waiting.iter().all(|task| !task.done()));
            writer.close();
            assert!(writer.is_closing());
            for task in waiting {
                task.await.unwrap().unwrap();
            }
            writer.wait_closed().await.unwrap();
            peer.close();
        });
    }

    fn stw_08_drain_after_close_says_that_the_connection_is_lost(kind: DriverKind) {
        run(kind, async {
            let ((_reader, writer), _peer) = tcp_pair().await;
            writer.close();
            writer.write(b"data").unwrap();
            let lost = (ErrorKind::ConnectionReset, "Connection lost".to_owned());
            assert_eq!(told(writer.drain().await), lost);
            assert_eq!(told(writer.drain().await), lost);
        });
    }

    fn stw_09_ones_own_close_is_the_end_for_the_reader(kind: DriverKind) {
        run(kind, async {
            let ((mut reader, writer), _peer) = tcp_pair().await;
            let waiting = spawn(async move { (reader.read_to_end().await.unwrap(), reader.at_eof()) });
            settle().await;
            writer.close();
            writer.wait_closed().await.unwrap();
            assert_eq!(waiting.await.unwrap(), (Vec::new(), true));
        });
    }

    fn stw_10_a_dropped_open_writer_is_reported_and_closes(kind: DriverKind) {
        let reports = Reports::default();
        run_reporting(kind, async {
            let ((mut reader, writer), mut peer) = to_blocking_peer().await;
            writer.write(b"last words").unwrap();
            drop(writer);
            assert_eq!(reader.read_to_end().await.unwrap(), b"");
            let mut heard = String::new();
            peer.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "last words");
        }, reports.collect());
        let all = reports.all();
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].starts_with("unclosed <StreamWriter transport=127.0.0.1:"), "{all:?}");
    }

    /// A server's connection ends with its callback; only debug mode wants it closed by hand.
    fn stw_10_a_servers_dropped_writer_is_reported_in_debug_mode(kind: DriverKind) {
        for debug in [false, true] {
            let reports = Reports::default();
            run_reporting(kind, async move {
                get_running_loop().set_debug(debug);
                let forget = async |_reader, writer| drop::<StreamWriter>(writer);
                let server = start_server(forget, ServerOptions::new("127.0.0.1", 0)).await.unwrap();
                let (mut reader, writer) = open_connection(ConnectOptions::from(address(&server))).await.unwrap();
                assert_eq!(reader.read_to_end().await.unwrap(), b"");
                writer.close();
            }, reports.collect());
            let all = reports.all();
            assert_eq!(all.len(), usize::from(debug), "{all:?}");
            assert!(all.iter().all(|report| report.starts_with("unclosed <StreamWriter")), "{all:?}");
        }
    }

    fn stw_10_other_words_when_the_loop_is_closed(kind: DriverKind) {
        let reports = Reports::default();
        let kept = Rc::new(RefCell::new(None));
        let keep = kept.clone();
        let event_loop = new_loop(kind);
        let collect = reports.collect();
        event_loop.set_exception_handler(Some(Rc::new(move |context: &ringloop::ExceptionContext| collect(context.to_string()))));
        ringloop::block_on(&event_loop, async move {
            let (streams, _peer) = to_blocking_peer().await;
            *keep.borrow_mut() = Some(streams);
        }).unwrap();
        assert!(event_loop.is_closed());
        drop(kept.take());
        let all = reports.all();
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].starts_with("loop is closed"), "{all:?}");
    }

    /// What was written before the close or the half-close arrives, though nothing else happens.
    fn written_bytes_arrive_before_the_end(kind: DriverKind) {
        for size in [5, 3_000_000] {
            for half in [false, true] {
                run(kind, async move {
                    let ((mut reader, writer), mut peer) = to_blocking_peer().await;
                    let hearing = std::thread::spawn(move || {
                        let mut heard = Vec::new();
                        peer.read_to_end(&mut heard).map(|_| heard.len())
                    });
                    writer.write(&vec![7; size]).unwrap();
                    if half {
                        writer.write_eof().unwrap();
                        let refused = told(writer.write(b"more"));
                        assert_eq!(refused.1, "Cannot call write() after write_eof()");
                        assert_eq!(reader.read_to_end().await.unwrap(), b"");
                    }
                    writer.close();
                    writer.wait_closed().await.unwrap();
                    assert_eq!(hearing.join().unwrap().unwrap(), size);
                });
            }
        }
    }

    fn connecting_with_limits_and_without_a_loop(kind: DriverKind) {
        let mut outside = Box::pin(open_connection(ConnectOptions::new("127.0.0.1", 1)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match outside.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(refused) => assert_eq!(told(refused).1, "no running event loop"),
            std::task::Poll::Pending => panic!("there is no loop to wait for"),
        }
        run(kind, async {
            let none = ringloop::stream::open_connection_with_limit(ConnectOptions::new("127.0.0.1", 1), 0);
            assert_eq!(told(none.await).0, ErrorKind::InvalidInput);
            let (nobody, _socket) = refusing();
            let refused = open_connection(ConnectOptions::from(nobody)).await;
            assert_eq!(told(refused).0, ErrorKind::ConnectionRefused);
        });
    }
}
