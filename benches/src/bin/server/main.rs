//! The servers that are measured: `server NAME echo|http BUFFER FD`, where BUFFER is how many bytes
//! a connection receives at once at most, and FD the descriptor of the shared page of counters.
//! Prints its port, then serves 127.0.0.1 until it is killed. `server list` prints the names.

mod alloc;
mod answer;
mod epoll;
#[cfg(feature = "others")]
mod others;
mod ring;
mod ringloop;

use ringloop_benches::{net, page::Page};
use std::net::TcpListener;
use std::{error::Error, io};

/// What a server does with what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends it back.
    Echo,
    /// Answers each HTTP request.
    Http,
}

/// What a server is asked to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What it does with what it receives.
    pub mode: Mode,
    /// Bytes that it receives at once at most, where each connection has a buffer of its own.
    pub buffer: usize,
}

/// Bytes of a buffer that connections share or take from a pool.
pub const POOLED_BUFFER: usize = 16 * 1024;

type Serve = fn(TcpListener, Settings) -> io::Result<()>;

const SERVERS: &[(&str, Serve)] = &[
    ("ring", ring::serve),
    ("epoll", epoll::serve),
    ("ringloop-uring", ringloop::protocol_on_uring),
    ("ringloop-epoll", ringloop::protocol_on_epoll),
    ("streams-uring", ringloop::streams_on_uring),
    ("streams-epoll", ringloop::streams_on_epoll),
    #[cfg(feature = "others")]
    ("tokio", others::tokio::serve),
    #[cfg(feature = "others")]
    ("monoio", others::monoio::serve),
    #[cfg(feature = "others")]
    ("compio", others::compio::serve),
    #[cfg(feature = "others")]
    ("glommio", others::glommio::serve),
    #[cfg(feature = "others")]
    ("smol", others::smol::serve),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, mode, buffer, fd] = arguments.as_slice() else {
        for (name, _) in SERVERS {
            println!("{name}");
        }
        return Ok(());
    };
    let mode = match mode.as_str() {
        "echo" => Mode::Echo,
        "http" => Mode::Http,
        _ => return Err("the mode is echo or http".into()),
    };
    let (_, serve) = SERVERS
        .iter()
        .find(|(known, _)| known == name)
        .ok_or("no server of that name")?;
    alloc::report_to(Page::attach(fd.parse()?)?);
    let listener = net::listen()?;
    println!("{}", listener.local_addr()?.port());
    let buffer = buffer.parse()?;
    serve(listener, Settings { mode, buffer })?;
    Ok(())
}
