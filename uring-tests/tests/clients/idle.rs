//! Ten thousand idle connections while fifty work.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use uring_tests::{isolated, on_both_drivers};

use super::APIS;
use super::server::{Server, reset_on_close};

const IDLE: usize = 10_000;
const BUSY: usize = 50;
/// Descriptors that both processes need for other things.
const OTHER: u64 = 100;

/// Raises the limit of descriptors as far as needed and possible, for this process and those it
/// starts: how many idle connections fit.
fn raise_limit() -> usize {
    let needed = (IDLE + BUSY) as u64 + OTHER;
    let mut limit = get_limit();
    limit.rlim_max = limit.rlim_max.max(needed);
    limit.rlim_cur = limit.rlim_max;
    if set_limit(&limit).is_ok() {
        return IDLE;
    }
    // Only the privileged may raise the hard limit.
    limit = get_limit();
    limit.rlim_cur = limit.rlim_max;
    set_limit(&limit).unwrap();
    let fitting = (limit.rlim_max.min(needed) - BUSY as u64 - OTHER) as usize;
    if fitting < IDLE {
        println!(
            "the limit of {} descriptors forbids {IDLE} idle connections: {fitting} instead",
            limit.rlim_max
        );
    }
    fitting
}

fn get_limit() -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writing.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    limit
}

fn set_limit(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is valid for reading.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
