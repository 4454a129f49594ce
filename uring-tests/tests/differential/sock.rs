//! One socket of the driver's, and its peer.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use ringloop::driver::{Event, Fd, Key, Op};
use uring_tests::drive::{fd, gather, pattern, recv, tcp_pair};

use super::script::SOCKETS;
use super::world::{Base, Owner, poll_now};

/// Bytes that the peer may have sent and nobody has read: less than any socket's buffer.
const UNREAD: usize = 100_000;

/// An operation in flight.
#[derive(Debug)]
struct Flight {
    key: Key,
    /// Not flushed yet.
    fresh: bool,
    multi: bool,
    /// What its cancel must answer, or that it races.
    cancelled: Option<Answer>,
    /// What a poll asked for.
    events: u32,
}

/// What a cancelled operation may complete with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The script determines it.
    Determined,
    /// Its own result, or `-ECANCELED`.
    Either,
}

pub struct Sock {
    number: usize,
    tcp: bool,
    far: Fd,
    /// The peer's end, while it is open.
    near: Option<UnixStream>,
    /// Bytes the peer sent, and those of them that arrived.
    peer_sent: usize,
    received: usize,
    received_at_rest: usize,
    /// Bytes the driver's sends were said to take, and those of them the peer read.
    sent: usize,
    peer_read: usize,
    /// The peer sends no more.
    peer_ended: bool,
    /// The end was received, or reading was shut down.
    ended: bool,
    /// Sending failed for good, or was shut down.
    gone: bool,
    /// Reading was shut down here.
    deaf: bool,
    /// A shutdown was submitted and not flushed. On io_uring it may take effect already when another
    /// operation follows, so the peer must not look.
    pub shutting: bool,
    /// The peer left with bytes unread: errors instead of ends, and bytes may be lost.
    reset: bool,
    /// Something happened since everything was at rest.
    disturbed: bool,
    reader: Option<Flight>,
    writer: Option<Flight>,
    poll: Option<Flight>,
}

/// Length of the pattern that streams repeat: a prime, so that no block of a usual size is a period.
const PERIOD: usize = 65_521;

/// Bytes `from..from + len` of the stream `number`.
fn stream(number: usize, from: usize, len: usize) -> Vec<u8> {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(PERIOD));
    let mut at = (from + (number % SOCKETS) * 1000) % PERIOD;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let end = PERIOD.min(at + len - bytes.len());
        bytes.extend_from_slice(&PATTERN[at..end]);
        at = end % PERIOD;
    }
    bytes
}

impl Sock {
    pub fn new(number: usize, tcp: bool) -> Self {
        let (near, far): (OwnedFd, OwnedFd) = if tcp {
            let (near, far) = tcp_pair().expect("a loopback interface");
            (near.into(), far.into())
        } else {
            let (near, far) = UnixStream::pair().expect("a socket pair");
            (near.into(), far.into())
        };
        // Reads, writes and shuts down like any stream socket.
        let near = UnixStream::from(near);
        near.set_nonblocking(true).unwrap();
        Self {
            number,
            tcp,
            far: fd(far),
            near: Some(near),
            peer_sent: 0,
            received: 0,
            received_at_rest: 0,
            sent: 0,
            peer_read: 0,
            peer_ended: false,
            ended: false,
            gone: false,
            deaf: false,
            shutting: false,
            reset: false,
            disturbed: false,
            reader: None,
            writer: None,
            poll: None,
        }
    }

    fn name(&self, direction: &str) -> String {
        let kind = if self.tcp { "tcp" } else { "unix" };
        format!("{kind} {} {direction}", self.number)
    }

    /// Something happens here: what is not at rest any more, and was cancelled but not flushed, may
    /// answer either way.
    fn disturb(&mut self) {
        self.disturbed = true;
        let flights = [&mut self.reader, &mut self.writer, &mut self.poll];
        for flight in flights.into_iter().flatten() {
            if flight.cancelled.is_some() {
                flight.cancelled = Some(Answer::Either);
            }
        }
    }

    // ---- the peer

    pub fn peer_send(&mut self, len: usize) {
        let room = UNREAD.saturating_sub(self.peer_sent - self.received_at_rest);
        let bytes = stream(self.number, self.peer_sent, len.min(room));
        let Some(near) = &mut self.near else { return };
        if self.peer_ended || bytes.is_empty() {
            return;
        }
        match near.write(&bytes) {
            Ok(count) => self.peer_sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The other side is shut down.
            Err(_) => self.peer_ended = true,
        }
        self.disturb();
    }

    pub fn peer_read(&mut self, len: usize) {
        let mut bytes = vec![0; len];
        let Some(near) = &mut self.near else { return };
        // An error is the end of the stream, reported in another way.
        let Ok(count) = near.read(&mut bytes) else {
            return;
        };
        assert_eq!(
            bytes[..count],
            stream(self.number + 1, self.peer_read, count),
            "what was sent on {} arrived changed",
            self.number
        );
        self.peer_read += count;
        self.disturb();
    }

    pub fn peer_drain(&mut self) {
        loop {
            let before = self.peer_read;
            self.peer_read(1 << 16);
            if self.peer_read == before {
                return;
            }
        }
    }

    /// Also while a send waits, which must go on waiting.
    pub fn peer_shutdown(&mut self) {
        if let Some(near) = &self.near
            && !self.peer_ended
        {
            near.shutdown(Shutdown::Write).unwrap();
            self.peer_ended = true;
            self.disturb();
        }
    }

    pub fn peer_close(&mut self) {
        // A send in flight would race with the reset.
        if self.near.is_none() || self.writer.is_some() {
            return;
        }
        self.reset |= self.peer_read < self.sent;
        self.near = None;
        self.peer_ended = true;
        self.disturb();
    }

    /// Everything that was taken from the driver must arrive.
    pub fn peer_has_all(&mut self) {
        let Some(near) = &self.near else { return };
        near.set_nonblocking(false).unwrap();
        while self.peer_read < self.sent {
            self.peer_read(self.sent - self.peer_read);
        }
    }

    // ---- receives

    pub fn recv(&mut self, base: &mut Base, len: Option<usize>) {
        let polls_reads = |poll: &Flight| poll.events & libc::POLLIN as u32 != 0;
        if self.reader.is_some() || self.ended || self.poll.as_ref().is_some_and(polls_reads) {
            return;
        }
        let op = match len {
            Some(len) => recv(&self.far, len),
            None => Op::RecvMulti {
                fd: self.far.clone(),
            },
        };
        let key = base.submit(op, Owner::Read(self.number));
        self.reader = Some(Flight::new(key, len.is_none()));
    }

    /// Whether there was a receive to end.
    pub fn stop_read(&mut self, base: &mut Base, drop_it: bool) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        if drop_it {
            base.drop_future(reader.key);
            self.reader = None;
            return true;
        }
        base.rig.cancel(reader.key);
        let quiet = !self.disturbed && !reader.fresh;
        let at_once = reader.fresh && !reader.multi;
        reader.cancelled = Some(if (quiet || at_once) && !self.tcp {
            Answer::Determined
        } else {
            Answer::Either
        });
        true
    }

    pub fn read_done(&mut self, base: &mut Base, event: Event) {
        if let Some(lease) = &event.lease {
            self.arrived(lease);
            if event.more {
                return;
            }
        }
        let Some(reader) = self.reader.take() else {
            panic!("nobody receives")
        };
        assert!(!event.more, "neither bytes nor the end: {}", event.result);
        if let Some(Op::Recv { buf, .. }) = &event.op
            && event.result > 0
        {
            self.arrived(&buf[..event.result as usize]);
            if !self.tcp && reader.cancelled != Some(Answer::Either) {
                base.note(&self.name("in"), format!("{} bytes", event.result));
            }
            return;
        }
        if event.result == -libc::ECANCELED {
            let answer = reader.cancelled.expect("cancelled by nobody");
            if answer == Answer::Determined {
                base.note(&self.name("in"), "cancelled".to_owned());
            }
            return;
        }
        assert!(
            event.result == 0 || (self.reset && event.result == -libc::ECONNRESET),
            "{}: {}",
            self.name("in"),
            event.result
        );
        self.ended = true;
    }

    fn arrived(&mut self, bytes: &[u8]) {
        assert!(
            bytes == stream(self.number, self.received, bytes.len()),
            "{}: bytes are lost, doubled or swapped after {}",
            self.name("in"),
            self.received
        );
        self.received += bytes.len();
    }

    /// What a dropped receive brought.
    pub fn take_stash(&mut self) {
        let mut bytes = [0; 1000];
        while let Some(count) = self.far.take_bytes(&mut bytes) {
            if let Ok(count @ 1..) = usize::try_from(count) {
                self.arrived(&bytes[..count]);
            } else {
                assert!(count == 0 || self.reset, "{}: {count}", self.name("in"));
                self.ended = true;
            }
        }
    }

    /// Everything the peer sent has arrived.
    pub fn is_drained(&mut self, base: &mut Base) {
        if self.reset || self.deaf {
            return;
        }
        assert_eq!(self.received, self.peer_sent, "{}", self.name("in"));
        assert_eq!(self.ended, self.peer_ended, "{}", self.name("in"));
        let end = if self.ended { "and the end" } else { "in all" };
        base.note(&self.name("in"), format!("{} {end}", self.received));
    }

    // ---- sends

    pub fn send(&mut self, base: &mut Base, len: usize, chunks: usize, inline: bool, urgent: bool) {
        // A poll would see room, or not, depending on when it looks.
        let polls_room = |poll: &Flight| poll.events & libc::POLLOUT as u32 != 0;
        if self.poll.as_ref().is_some_and(polls_room) {
            return;
        }
        if self.writer.is_some() || self.gone {
            return;
        }
        let bytes = stream(self.number + 1, self.sent, len);
        let pieces = bytes.chunks(len.div_ceil(chunks)).map(<[u8]>::to_vec);
        let op = Op::Send {
            fd: self.far.clone(),
            data: gather(pieces),
            inline,
            urgent,
        };
        let key = base.submit(op, Owner::Write(self.number));
        self.writer = Some(Flight::new(key, false));
        self.disturb();
    }

    /// Whether there was a send to end.
    pub fn stop_send(&mut self, base: &mut Base) -> bool {
        let Some(writer) = &mut self.writer else {
            return false;
        };
        base.rig.cancel(writer.key);
        let quiet = !self.disturbed || writer.fresh;
        writer.cancelled = Some(if quiet && !self.tcp {
            Answer::Determined
        } else {
            Answer::Either
        });
        true
    }

    pub fn write_done(&mut self, base: &mut Base, event: Event) {
        let Some(writer) = self.writer.take() else {
            panic!("nobody sends")
        };
        match usize::try_from(event.result) {
            Ok(count) => self.sent += count,
            Err(_) if event.result == -libc::EAGAIN || event.result == -libc::ECANCELED => {}
            Err(_) => self.gone = true,
        }
        assert!(event.result != 0, "a send took nothing");
        // What is sent to a peer that has left is answered by its reset, or before.
        self.reset |= self.near.is_none() && event.result > 0;
        if !self.tcp && !self.reset && writer.cancelled != Some(Answer::Either) {
            base.note(&self.name("out"), event.result.to_string());
        }
    }

    pub fn shutdown(&mut self, base: &mut Base, how: Shutdown) {
        // A send in flight would race with it; and TCP receives on after SHUT_RD.
        if self.writer.is_some() || self.near.is_none() || self.gone || self.ended {
            return;
        }
        if self.tcp && how != Shutdown::Write {
            return;
        }
        let op = Op::Shutdown {
            fd: self.far.clone(),
            how,
        };
        base.submit(op, Owner::Plain("shutdown"));
        self.gone |= how != Shutdown::Read;
        self.deaf |= how != Shutdown::Write;
        self.shutting = true;
        self.disturb();
    }

    // ---- polls

    pub fn poll(&mut self, base: &mut Base, events: u32, multi: bool) {
        if self.poll.is_some() || (events & libc::POLLIN as u32 != 0 && self.reader.is_some()) {
            return;
        }
        let fd = self.far.clone();
        let op = if multi {
            Op::PollMulti { fd, events }
        } else {
            Op::Poll { fd, events }
        };
        let key = base.submit(op, Owner::Poll(self.number));
        self.poll = Some(Flight {
            events,
            ..Flight::new(key, multi)
        });
    }

    pub fn cancel_poll(&mut self, base: &mut Base) {
        if let Some(poll) = &mut self.poll {
            base.rig.cancel(poll.key);
            poll.cancelled = Some(if self.disturbed {
                Answer::Either
            } else {
                Answer::Determined
            });
        }
    }

    /// What a poll reports later is what its wake said (io_uring) or what holds by then (epoll): one
    /// can be part of the other.
    pub fn poll_done(&mut self, base: &mut Base, event: Event) {
        let name = self.name("poll");
        let Some(poll) = &self.poll else {
            panic!("nobody polls")
        };
        let text = if event.result > 0 {
            let possible = poll.events | (libc::POLLERR | libc::POLLHUP) as u32;
            assert_eq!(event.result as u32 & !possible, 0, "{name}");
            "ready"
        } else {
            assert_eq!(event.result, -libc::ECANCELED, "{name}");
            assert!(poll.cancelled.is_some(), "{name}: cancelled by nobody");
            "cancelled"
        };
        if event.more {
            return;
        }
        if poll.cancelled != Some(Answer::Either) && !self.tcp && !self.reset {
            base.note(&name, text.to_owned());
        }
        self.poll = None;
    }

    // ---- rest

    /// The driver was parked.
    pub fn flushed(&mut self) {
        self.shutting = false;
        let flights = [&mut self.reader, &mut self.writer, &mut self.poll];
        for flight in flights.into_iter().flatten() {
            flight.fresh = false;
        }
    }

    /// Everything is at rest.
    pub fn rest(&mut self) {
        self.received_at_rest = self.received;
        self.disturbed = false;
    }

    /// What has to complete here.
    pub fn due(&self) -> Option<String> {
        let holds = |events: i16| poll_now(&self.far, events as u32) != 0;
        if self.reader.is_some() {
            // On the loopback interface bytes may still be on their way.
            let coming = !self.reset && self.received < self.peer_sent;
            if coming || self.peer_ended || holds(libc::POLLIN) {
                return Some(self.name("in"));
            }
        }
        if self.writer.is_some() && holds(libc::POLLOUT) {
            return Some(self.name("out"));
        }
        match &self.poll {
            Some(poll) if !poll.multi && holds(poll.events as i16) => Some(self.name("poll")),
            _ => None,
        }
    }
}

impl Flight {
    fn new(key: Key, multi: bool) -> Self {
        Self {
            key,
            fresh: true,
            multi,
            cancelled: None,
            events: 0,
        }
    }
}
