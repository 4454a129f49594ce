//! Clients that do not behave as usual.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use uring_tests::{Rng, on_both_drivers};

use super::on_both_apis;
use super::server::{Server, read_answer, talk};
use uring_tests::net::reset_on_close;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";

/// Writes copies of `block` without reading, until for a moment nothing is taken any more; how many
/// bytes. What the tests assert holds wherever this stops.
fn fill(stream: &mut TcpStream, block: &[u8]) -> usize {
    let moment = Some(Duration::from_millis(200));
    stream.set_write_timeout(moment).expect("a socket");
    let mut sent = 0;
    loop {
        match stream.write(&block[sent % block.len()..]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_write_timeout(None).expect("a socket");
    sent
}

fn still_serves(server: &Server) {
    let mut stream = server.connect();
    stream.write_all(GET).expect("it reads");
    read_answer(&mut stream);
}

on_both_drivers! {
    /// A client that sends and does not read is stopped; what the server keeps for it is bounded,
    /// and nothing is lost once it reads.
    fn a_slow_reader_of_echoes_is_stopped(kind: DriverKind) {
        on_both_apis("echo", kind, |server| {
            let before = server.peak_memory();
            let block: Vec<u8> = (0..=250).cycle().take(251 * 400).collect();
            let mut stream = server.connect();
            let sent = fill(&mut stream, &block);
            stream.shutdown(Shutdown::Write).expect("connected");
            let mut echoed = Vec::new();
            stream.read_to_end(&mut echoed).expect("an orderly end");
            assert_eq!(echoed.len(), sent);
            let differs = echoed.iter().enumerate().find(|(n, byte)| **byte != block[n % block.len()]);
            assert_eq!(differs, None);
            let grown = server.peak_memory() - before;
            assert!(grown < 32 * 1024, "{grown} KiB for one client that does not read");
        });
    }

    fn a_slow_reader_of_answers_is_stopped(kind: DriverKind) {
        on_both_apis("http", kind, |server| {
            let before = server.peak_memory();
            let block = GET.repeat(1000);
            let mut stream = server.connect();
            let sent = fill(&mut stream, &block);
            still_serves(server);
            let rest = (GET.len() - sent % GET.len()) % GET.len();
            let mut writing = stream.try_clone().expect("a descriptor");
            let finish = std::thread::spawn(move || {
                writing.write_all(&GET[GET.len() - rest..]).expect("it goes on reading");
                writing.shutdown(Shutdown::Write).expect("connected");
            });
            let mut answers = Vec::new();
            stream.read_to_end(&mut answers).expect("an orderly end");
            finish.join().expect("it wrote");
            let count = answers.windows(14).filter(|window| window == b"Hello, world!\n").count();
            assert_eq!(count, (sent + rest) / GET.len());
            let grown = server.peak_memory() - before;
            assert!(grown < 32 * 1024, "{grown} KiB for one client that does not read");
        });
    }

    fn a_half_closer_gets_all_its_answers(kind: DriverKind) {
        on_both_apis("http", kind, |server| {
            let said = talk(server.connect(), &GET.repeat(3), true);
            assert_eq!(said.matches("Hello, world!\n").count(), 3, "{said}");
            // Half a request is no request.
            assert_eq!(talk(server.connect(), b"GET / HT", true), "");
        });
        on_both_apis("echo", kind, |server| {
            let mut stream = server.connect();
            let sent = Rng::new().bytes(3_000_000);
            let mut writing = stream.try_clone().expect("a descriptor");
            let copy = sent.clone();
            let write = std::thread::spawn(move || {
                writing.write_all(&copy).expect("it reads");
                writing.shutdown(Shutdown::Write).expect("connected");
            });
            let mut echoed = Vec::new();
            stream.read_to_end(&mut echoed).expect("an orderly end");
            write.join().expect("it wrote");
            assert!(echoed == sent, "{} of {} bytes", echoed.len(), sent.len());
        });
    }

    /// Resets at every moment leave the server unimpressed.
    fn a_client_that_resets_hurts_nobody(kind: DriverKind) {
        on_both_apis("http", kind, |server| {
            let mut bystander = server.connect();
            for round in 0..50 {
                let mut stream = server.connect();
                reset_on_close(&stream);
                match round % 4 {
                    0 => {}
                    1 => stream.write_all(&GET[..10]).expect("it reads"),
                    2 => stream.write_all(&GET.repeat(100)).expect("it reads"),
                    _ => {
                        stream.write_all(GET).expect("it reads");
                        read_answer(&mut stream);
                    }
                }
                drop(stream);
                bystander.write_all(GET).expect("it reads");
                read_answer(&mut bystander);
            }
            still_serves(server);
        });
    }

    fn a_byte_at_a_time_is_enough(kind: DriverKind) {
        on_both_apis("http", kind, |server| {
            let mut stream = server.connect();
            for _ in 0..2 {
                for byte in GET {
                    stream.write_all(&[*byte]).expect("it reads");
                }
                read_answer(&mut stream);
            }
            let chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                            3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
            for byte in chunked {
                stream.write_all(&[*byte]).expect("it reads");
            }
            read_answer(&mut stream);
        });
        on_both_apis("echo", kind, |server| {
            let mut stream = server.connect();
            for byte in 0..=255 {
                stream.write_all(&[byte]).expect("it reads");
                let mut echo = [0];
                stream.read_exact(&mut echo).expect("it answers");
                assert_eq!(echo, [byte]);
            }
        });
    }
}
