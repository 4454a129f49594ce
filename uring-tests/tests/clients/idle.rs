//! Ten thousand idle connections while fifty work.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use uring_tests::{isolated, on_both_drivers};

use super::APIS;
use super::server::Server;
use uring_tests::net::reset_on_close;

const IDLE: usize = 10_000;
const BUSY: usize = 50;
/// Descriptors that both processes need for other things.
const OTHER: u64 = 100;

/// Raises the limit of descriptors as far as needed and possible, for this process and those it
/// starts: how many idle connections fit.
fn raise_limit() -> usize {
    let needed = (IDLE + BUSY) as u64 + OTHER;
    let limit = |soft, hard| setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    // Only the privileged may raise the hard limit.
    let raised = most.max(needed);
    if limit(raised, raised).is_ok() {
        return IDLE;
    }
    limit(most, most).expect("as far as the hard one");
    let fitting = (most.min(needed) - BUSY as u64 - OTHER) as usize;
    println!("the limit of {most} descriptors forbids {IDLE} idle connections: {fitting} instead");
    fitting
}

/// One message there and back.
fn echo(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("it reads");
    let mut echoed = vec![0; message.len()];
    stream.read_exact(&mut echoed).expect("it answers");
    assert_eq!(echoed, message);
}

on_both_drivers! {
    /// Each idle connection has been served once, and is served again in the end.
    fn ten_thousand_idle_connections_while_fifty_work(kind: DriverKind) {
        isolated(|| {
            let fitting = raise_limit();
            for api in APIS {
                let server = Server::start("echo", kind, api, "127.0.0.1");
                let before = server.peak_memory();
                let mut idle: Vec<TcpStream> = (0..fitting)
                    .map(|_| {
                        let mut stream = server.connect();
                        reset_on_close(&stream);
                        echo(&mut stream, b"hello");
                        stream
                    })
                    .collect();
                let bytes = (server.peak_memory() - before) * 1024 / fitting as u64;
                println!("{fitting} idle connections, {kind}, {api}: {bytes} bytes each");
                let mut busy: Vec<TcpStream> = (0..BUSY).map(|_| server.connect()).collect();
                for round in 0..200u32 {
                    for stream in &mut busy {
                        stream.write_all(&round.to_be_bytes()).expect("it reads");
                    }
                    for stream in &mut busy {
                        let mut echoed = [0; 4];
                        stream.read_exact(&mut echoed).expect("it answers");
                        assert_eq!(echoed, round.to_be_bytes());
                    }
                }
                for stream in &mut idle {
                    echo(stream, b"still here");
                }
                drop(idle);
                drop(busy);
                let totals = server.stop();
                let connections = format!("{} connections, ", fitting + BUSY);
                assert!(totals.starts_with(&connections), "{totals}");
            }
        });
    }
}
