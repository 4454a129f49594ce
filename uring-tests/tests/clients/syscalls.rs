//! System calls of the echo example, counted by `strace`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use uring_tests::scene::signal;
use uring_tests::{Leg, TempDir, on_both_drivers};

use super::server::Server;
use super::{on_both_apis, tools};

/// `strace` on the thread that runs the server's loop.
struct Trace {
    strace: Child,
    file: PathBuf,
    _directory: TempDir,
}

impl Trace {
    /// `None` where a container forbids tracing.
    fn attach(server: &Server) -> Option<Self> {
        let directory = TempDir::new();
        let file = directory.join("trace");
        let mut strace = Command::new("strace")
            .args(["--attach", &server.id().to_string(), "--output"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace starts");
        let mut line = String::new();
        let stderr = strace.stderr.take().expect("piped");
        BufReader::new(stderr).read_line(&mut line).expect("text");
        if !line.contains("attached") {
            let _ = strace.wait();
            assert_ne!(Leg::current(), Leg::Host, "strace: {line}");
            println!("strace: {line}; not run in this container");
            return None;
        }
        Some(Self {
            strace,
            file,
            _directory: directory,
        })
    }

    /// The lines so far.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Detaches; all lines.
    fn finish(mut self) -> Vec<String> {
        signal(&self.strace, libc::SIGINT);
        let _ = self.strace.wait().expect("a child");
        self.lines()
    }
}

/// Lines that are system calls, not signals or the like.
fn calls(lines: &[String]) -> Vec<&str> {
    let call = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
    lines.iter().map(String::as_str).filter(call).collect()
}

fn echo(stream: &mut TcpStream, times: usize) {
    let mut message = [7; 64];
    for _ in 0..times {
        stream.write_all(&message).expect("it reads");
        stream.read_exact(&mut message).expect("it answers");
    }
}

on_both_drivers! {
    /// io_uring: one enter for each message, which sends the echo and waits for the next message.
    fn system_calls_for_each_message_of_one_connection(kind: DriverKind) {
        const MESSAGES: usize = 2000;
        if !tools::has("strace") {
            return;
        }
        on_both_apis("echo", kind, |server| {
            let mut stream = server.connect();
            echo(&mut stream, 100);
            let Some(trace) = Trace::attach(server) else { return };
            echo(&mut stream, MESSAGES);
            let lines = trace.finish();
            let calls = calls(&lines);
            let each = calls.len() as f64 / MESSAGES as f64;
            println!("{each} calls for each message");
            // epoll: wait, receive, send, and a receive that finds nothing more.
            let most = if kind == DriverKind::Uring { 1.01 } else { 4.01 };
            assert!(each <= most, "{each}: {:#?}", &calls[calls.len() - 20..]);
            assert!(calls.len() >= MESSAGES, "strace saw only {} calls", calls.len());
        });
    }

    /// Fifty messages that wait while the server is stopped are answered in one turn.
    fn fifty_readable_sockets_are_answered_in_three_enters(kind: DriverKind) {
        const SOCKETS: usize = 50;
        if !tools::has("strace") {
            return;
        }
        on_both_apis("echo", kind, |server| {
            let mut streams: Vec<TcpStream> = (0..SOCKETS).map(|_| server.connect()).collect();
            for stream in &mut streams {
                echo(stream, 20);
            }
            let Some(trace) = Trace::attach(server) else { return };
            for stream in &mut streams {
                echo(stream, 1);
            }
            server.signal(libc::SIGSTOP);
            let stopped = |line: &String| line.contains("stopped by SIGSTOP");
            while !trace.lines().iter().any(stopped) {
                std::thread::yield_now();
            }
            let mut message = [8; 64];
            for stream in &mut streams {
                stream.write_all(&message).expect("there is room");
            }
            server.signal(libc::SIGCONT);
            for stream in &mut streams {
                stream.read_exact(&mut message).expect("it answers");
            }
            let lines = trace.finish();
            let from = lines.iter().position(stopped).expect("seen above");
            let calls = calls(&lines[from..]);
            println!("{} calls for {SOCKETS} messages", calls.len());
            if kind == DriverKind::Uring {
                assert!(calls.len() <= 3, "{calls:#?}");
                let other = calls.iter().find(|call| !call.starts_with("io_uring_enter("));
                assert_eq!(other, None);
            } else {
                // Wait, then receive, send, and a receive that finds nothing, for each.
                assert!(calls.len() <= 3 * SOCKETS + 3, "{calls:#?}");
            }
        });
    }
}
