//! The orderly end on SIGTERM and SIGINT.

use std::io::{Read, Write};

use uring_tests::net::own_addr;
use uring_tests::on_both_drivers;

use super::APIS;
use super::server::{Server, read_answer};

on_both_drivers! {
    fn sigterm_and_sigint_end_an_idle_server(kind: DriverKind) {
        for api in APIS {
            for (example, signal) in [("echo", libc::SIGTERM), ("http", libc::SIGINT)] {
                let server = Server::start(example, kind, api, "127.0.0.1");
                let mut idle = server.connect();
                let mut used = server.connect();
                used.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("it reads");
                let mut byte = [0];
                used.read_exact(&mut byte).expect("it answers");
                server.signal(signal);
                // Idle connections are closed at once.
                assert_eq!(idle.read(&mut byte).expect("an orderly end"), 0);
                let mut rest = Vec::new();
                used.read_to_end(&mut rest).expect("an orderly end");
                assert_eq!(server.ended(), "2 connections, 1 answers, 0 failures");
            }
        }
    }

    /// Half a request is in flight: it is finished, answered, and then the connection ends.
    fn what_is_in_flight_is_finished(kind: DriverKind) {
        for api in APIS {
            // Nobody else listens there when it is gone.
            let server = Server::start("http", kind, api, &own_addr().ip().to_string());
            let mut busy = server.connect();
            let mut idle = server.connect();
            idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("it reads");
            read_answer(&mut idle);
            busy.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab").expect("it reads");
            // Answered only when the bytes of the other connection have been seen as well.
            let mut later = server.connect();
            later.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("it reads");
            read_answer(&mut later);
            server.signal(libc::SIGTERM);
            // The end of an idle connection shows that the server has begun to stop.
            let mut rest = Vec::new();
            idle.read_to_end(&mut rest).expect("an orderly end");
            assert_eq!(rest, b"");
            busy.write_all(b"cde").expect("it still reads");
            let answer = read_answer(&mut busy);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            assert_eq!(busy.read(&mut [0]).expect("an orderly end"), 0);
            let address = server.address();
            assert_eq!(server.ended(), "3 connections, 3 answers, 0 failures");
            assert!(std::net::TcpStream::connect(address).is_err());
        }
    }

    /// A client that never finishes does not keep the server.
    fn what_does_not_finish_is_aborted(kind: DriverKind) {
        for api in APIS {
            let server = Server::start("http", kind, api, "127.0.0.1");
            let mut stuck = server.connect();
            stuck.write_all(b"GET / HTTP/1.1\r\nHost: h").expect("it reads");
            let mut idle = server.connect();
            idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("it reads");
            read_answer(&mut idle);
            let totals = server.stop();
            assert!(totals.starts_with("2 connections, 1 answers"), "{totals}");
            let mut rest = Vec::new();
            // A reset or an end.
            let _ = stuck.read_to_end(&mut rest);
            assert_eq!(rest, b"");
        }
    }
}
