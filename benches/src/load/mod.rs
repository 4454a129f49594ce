//! The load generator: closed loop, one thread, never sleeping.
//!
//! It keeps the connections of many servers open at once and drives one server at a time, for a
//! slice of time. Every byte that comes back is compared with what it must be. It spins between
//! completions, so that a server never pays for waking it, and it does its own work with deferred
//! multishot receives and gathered inline sends, so that the server is the one that is busy.

mod conn;
mod script;

pub use script::Work;

use crate::histogram::Histogram;
use crate::net;
use crate::ring::{Buffers, Cqe, Ring};
use conn::{Conn, Life, Send};
use io_uring::{opcode, squeue, types::Fd};
use script::Script;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Bytes of a receive buffer.
const BUFFER_SIZE: usize = 16 * 1024;
/// Receive buffers: few, so that they stay in the cache.
const BUFFERS: u16 = 128;
/// No answer for so long means that the server hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Source addresses that churn takes in turn, so that ports do not run out while old connections
/// are in TIME_WAIT.
const SOURCES: u8 = 32;

const RECEIVE: u64 = 0;
const SEND: u64 = 1;

/// The load generator; one for a process, since its memory is never freed.
pub struct Load {
    ring: Ring,
    buffers: Buffers,
    conns: Vec<Conn>,
    free: Vec<u32>,
    scripts: Vec<Script>,
    /// Connections that have something to send.
    dirty: Vec<u32>,
    /// Connections with a send in the coming enter whose success is silent.
    unsettled: Vec<u32>,
    /// Connections whose receive found no buffer.
    starved: Vec<u32>,
    start: Instant,
    source: u8,
    // What follows is about the slice in progress.
    deadline: u64,
    outstanding: usize,
    requests: u64,
    latency: Histogram,
}

/// The connections to one server, open until [`Load::close`].
pub struct Session {
    script: u32,
    conns: Vec<u32>,
}

/// What a slice brought.
pub struct Slice {
    /// Requests answered, all of them verified.
    pub requests: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Nanoseconds from request to answer.
    pub latency: Histogram,
}

impl Load {
    /// Makes the generator; the calling thread is the only one that may use it.
    pub fn new() -> io::Result<Load> {
        let ring = Ring::new(1024, 16 * 1024, true)?;
        let buffers = Buffers::new(&ring, BUFFER_SIZE, BUFFERS, BUFFERS)?;
        Ok(Load {
            ring,
            buffers,
            conns: Vec::new(),
            free: Vec::new(),
            scripts: Vec::new(),
            dirty: Vec::new(),
            unsettled: Vec::new(),
            starved: Vec::new(),
            start: Instant::now(),
            source: 0,
            deadline: 0,
            outstanding: 0,
            requests: 0,
            latency: Histogram::default(),
        })
    }

    /// Opens `connections` to a server (for churn: as many at a time). The server must accept
    /// them meanwhile.
    pub fn open(&mut self, port: u16, work: Work, connections: usize) -> io::Result<Session> {
        let script = self.scripts.len() as u32;
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        self.scripts.push(Script::new(to, work));
        let mut conns = Vec::with_capacity(connections);
        for _ in 0..connections {
            let index = self.free.pop().unwrap_or_else(|| {
                self.conns.push(Conn::new());
                self.conns.len() as u32 - 1
            });
            self.conns[index as usize].session = script;
            conns.push(index);
            if !self.scripts[script as usize].churn {
                self.connect(index)?;
            }
        }
        self.ring.enter(0)?;
        Ok(Session { script, conns })
    }

    /// Keeps the server busy for about this long, then lets it finish what it was asked.
    pub fn drive(&mut self, session: &Session, duration: Duration) -> io::Result<Slice> {
        let in_flight = self.scripts[session.script as usize].in_flight;
        self.run(session, duration, in_flight)
    }

    /// One request on each connection.
    pub fn once(&mut self, session: &Session) -> io::Result<Slice> {
        self.run(session, Duration::ZERO, 1)
    }

    /// Closes the connections of a session.
    pub fn close(&mut self, session: Session) -> io::Result<()> {
        let mut open = 0;
        for &index in &session.conns {
            let conn = &mut self.conns[index as usize];
            if let Some(fd) = &conn.fd {
                conn.life = Life::Closing;
                open += 1;
                // SAFETY: no pointers; the descriptor is open.
                unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
            }
        }
        let end = Instant::now() + PATIENCE;
        while open > 0 {
            self.ring.enter(0)?;
            let before = self.free.len();
            self.drain()?;
            open -= self.free.len() - before;
            if Instant::now() > end {
                return Err(io::Error::other("connections do not close"));
            }
        }
        if self.scripts[session.script as usize].churn {
            self.free.extend(&session.conns);
        }
        Ok(())
    }

    fn run(&mut self, session: &Session, duration: Duration, each: usize) -> io::Result<Slice> {
        let begin = self.now();
        self.deadline = begin + duration.as_nanos() as u64;
        self.outstanding = 0;
        self.requests = 0;
        self.latency = Histogram::default();
        for &index in &session.conns {
            if self.scripts[session.script as usize].churn {
                self.reconnect(index)?;
            } else {
                self.issue(index, begin, each);
            }
        }
        let mut seen = 0;
        let mut progress = (begin, 0);
        while self.outstanding > 0 {
            self.flush()?;
            if self.ring.pending() > 0 || self.ring.work_waits() {
                self.ring.enter(0)?;
            }
            self.drain()?;
            self.settle()?;
            seen += 1;
            if seen & 0xf_ffff == 0 {
                let now = self.now();
                if self.requests != progress.1 {
                    progress = (now, self.requests);
                } else if now - progress.0 > PATIENCE.as_nanos() as u64 {
                    return Err(io::Error::other(format!(
                        "{} answers do not come, after {} that did",
                        self.outstanding, self.requests
                    )));
                }
            }
        }
        Ok(Slice {
            requests: self.requests,
            elapsed: Duration::from_nanos(self.now() - begin),
            latency: std::mem::take(&mut self.latency),
        })
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn connect(&mut self, index: u32) -> io::Result<()> {
        let script_index = self.conns[index as usize].session;
        let script = &self.scripts[script_index as usize];
        let source = if script.churn {
            self.source = (self.source + 1) % SOURCES;
            Ipv4Addr::new(127, 0, 1, 1 + self.source)
        } else {
            Ipv4Addr::LOCALHOST
        };
        let fd = net::connect(source, script.to)?;
        let phase = if script.phases {
            u64::from(index) * 7919
        } else {
            0
        };
        let in_flight = script.in_flight;
        self.conns[index as usize].open(fd, script_index, phase, in_flight);
        self.receive(index)
    }

    fn reconnect(&mut self, index: u32) -> io::Result<()> {
        let now = self.now();
        self.connect(index)?;
        self.issue(index, now, 1);
        Ok(())
    }

    fn fd(&self, index: u32) -> RawFd {
        self.conns[index as usize]
            .fd
            .as_ref()
            .map_or(-1, |fd| fd.as_raw_fd())
    }

    /// Arms the receive: until the end of the connection, or once where it ends after an answer.
    fn receive(&mut self, index: u32) -> io::Result<()> {
        let fd = Fd(self.fd(index));
        let once = self.scripts[self.conns[index as usize].session as usize].churn;
        let entry = if once {
            opcode::Recv::new(fd, std::ptr::null_mut(), BUFFER_SIZE as u32)
                .buf_group(Buffers::GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(fd, Buffers::GROUP).build()
        };
        let entry = entry.user_data(u64::from(index) << 8 | RECEIVE);
        // SAFETY: the kernel writes only to the buffers it picks, which live as long as the process.
        unsafe { self.ring.push(&entry) }
    }

    fn issue(&mut self, index: u32, now: u64, count: usize) {
        let conn = &mut self.conns[index as usize];
        let length = self.scripts[conn.session as usize].request.length;
        conn.issue(now, count, length);
        self.outstanding += count;
        if !conn.listed && conn.send == Send::Idle {
            conn.listed = true;
            self.dirty.push(index);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        for place in 0..self.dirty.len() {
            let index = self.dirty[place];
            self.conns[index as usize].listed = false;
            self.send(index, true)?;
            self.unsettled.push(index);
        }
        self.dirty.clear();
        Ok(())
    }

    fn send(&mut self, index: u32, inline: bool) -> io::Result<()> {
        let fd = Fd(self.fd(index));
        let conn = &mut self.conns[index as usize];
        let length = (conn.queued - conn.sent) as usize;
        let bytes = self.scripts[conn.session as usize]
            .request
            .at(conn.sent, length);
        let send = opcode::Send::new(fd, bytes.as_ptr(), length as u32);
        let entry = if inline {
            conn.send = Send::Inline(length as u32);
            send.flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
        } else {
            conn.send = Send::Armed;
            send.build()
        };
        let entry = entry.user_data(u64::from(index) << 8 | SEND);
        // SAFETY: the bytes are a script's, which live as long as the generator and never change.
        unsafe { self.ring.push(&entry) }
    }

    /// Takes all completions.
    fn drain(&mut self) -> io::Result<()> {
        let mut now = None;
        while let Some(cqe) = self.ring.completion() {
            let now = *now.get_or_insert_with(|| self.start.elapsed().as_nanos() as u64);
            let index = (cqe.data >> 8) as u32;
            if cqe.data & 0xff == SEND {
                self.sent(index, cqe.result)?;
            } else {
                self.received(index, cqe, now)?;
            }
        }
        self.buffers.publish();
        while let Some(index) = self.starved.pop() {
            self.receive(index)?;
        }
        Ok(())
    }

    /// Silent sends of the last enter went whole.
    fn settle(&mut self) -> io::Result<()> {
        while self.ring.overflowed() {
            self.ring.enter(0)?;
            self.drain()?;
        }
        for place in 0..self.unsettled.len() {
            let index = self.unsettled[place];
            if let Send::Inline(length) = self.conns[index as usize].send {
                self.went(index, length as usize)?;
            }
        }
        self.unsettled.clear();
        Ok(())
    }

    fn sent(&mut self, index: u32, result: i32) -> io::Result<()> {
        let conn = &self.conns[index as usize];
        let inline = conn.send != Send::Armed;
        if result < 0 && !(inline && result == -libc::EAGAIN) {
            if conn.life == Life::Open {
                return Err(io::Error::from_raw_os_error(-result));
            }
            return Ok(());
        }
        self.conns[index as usize].send = Send::Armed;
        self.went(index, result.max(0) as usize)
    }

    fn went(&mut self, index: u32, length: usize) -> io::Result<()> {
        let conn = &mut self.conns[index as usize];
        conn.sent += length as u64;
        let whole = conn.send != Send::Armed;
        conn.send = Send::Idle;
        if conn.sent == conn.queued || conn.life != Life::Open {
            Ok(())
        } else if whole {
            if !conn.listed {
                conn.listed = true;
                self.dirty.push(index);
            }
            Ok(())
        } else {
            self.send(index, false)
        }
    }

    fn received(&mut self, index: u32, cqe: Cqe, now: u64) -> io::Result<()> {
        let conn = &mut self.conns[index as usize];
        let script = &self.scripts[conn.session as usize];
        if conn.life != Life::Open {
            if let Some(id) = cqe.buffer() {
                self.buffers.give(id);
            }
            if !cqe.more() {
                conn.fd = None;
                conn.life = Life::Free;
                self.free.push(index);
            }
            return Ok(());
        }
        if cqe.result == -libc::ENOBUFS {
            self.starved.push(index);
            return Ok(());
        }
        if cqe.result < 0 {
            return Err(io::Error::from_raw_os_error(-cqe.result));
        }
        let length = cqe.result as usize;
        let Some(id) = cqe.buffer().filter(|_| length > 0) else {
            return Err(io::Error::other("the server closed a connection"));
        };
        let bytes = self.buffers.bytes(id, 0, length);
        if bytes != script.response.at(conn.received, length) {
            let wrong = std::iter::zip(bytes, script.response.at(conn.received, length))
                .position(|(got, expected)| got != expected);
            return Err(io::Error::other(format!(
                "connection {index}: of {length} bytes at {} byte {} is wrong",
                conn.received,
                wrong.unwrap_or(0)
            )));
        }
        self.buffers.give(id);
        let latency = &mut self.latency;
        let answers = conn
            .answered(length, script.response.length, |issued| {
                latency.record(now - issued);
            })
            .ok_or_else(|| io::Error::other("more bytes came than were sent"))?;
        self.requests += answers as u64;
        self.outstanding -= answers;
        if script.churn {
            if answers == 0 {
                return self.receive(index);
            }
            conn.fd = None;
            conn.life = Life::Free;
            if now < self.deadline {
                self.reconnect(index)?;
            }
            return Ok(());
        }
        if !cqe.more() {
            self.receive(index)?;
        }
        if answers > 0 && now < self.deadline {
            self.issue(index, now, answers);
        }
        Ok(())
    }
}
