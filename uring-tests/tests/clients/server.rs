//! An example that runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use uring_tests::{DriverKind, example, scene};

/// A running example; killed when it is dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// Starts an example on a free port of `host` and waits until it listens.
    ///
    /// # Panics
    /// When its first line is not what it shall be.
    pub fn start(name: &str, kind: DriverKind, api: &str, host: &str) -> Self {
        let listen = format!("{host}:0");
        let mut child = Command::new(example(name))
            .args([
                "--listen",
                &listen,
                "--driver",
                &kind.to_string(),
                "--api",
                api,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("its first line");
        let address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.strip_suffix(&format!(" (driver: {kind})\n")))
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("{line:?}"));
        Self {
            child,
            stdout,
            address,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        scene::signal(&self.child, signal);
    }

    /// The most memory it had resident so far, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.expect("a number of KiB")
    }

    /// Asks it to end, and returns its last line.
    ///
    /// # Panics
    /// When it does not end with success and one line of totals.
    pub fn stop(self) -> String {
        self.signal(libc::SIGTERM);
        self.ended()
    }

    /// Waits for the end it was asked for, and returns its last line.
    ///
    /// # Panics
    /// As [`stop`](Self::stop).
    pub fn ended(mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        let status = self.child.wait().expect("a child");
        assert!(status.success(), "{status}: {rest}");
        let totals = rest
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("no totals: {rest:?}"));
        let words: Vec<&str> = totals
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .collect();
        let [_, "connections", _, "answers", _, "failures"] = words[..] else {
            panic!("not one line of totals: {rest:?}");
        };
        totals.to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, or of no use any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `request` and, with `half_close`, the end; returns everything up to the server's end.
pub fn talk(mut stream: TcpStream, request: &[u8], half_close: bool) -> String {
    stream.write_all(request).expect("it reads");
    if half_close {
        stream.shutdown(Shutdown::Write).expect("still connected");
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    String::from_utf8(answer).expect("text")
}

/// Reads exactly the one answer of the HTTP example.
pub fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"Hello, world!\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more of an answer");
        answer.push(byte[0]);
    }
    String::from_utf8(answer).expect("text")
}
