//! One connection of the load generator.
//!
//! ```text
//!   send:   Idle ──flush──▶ Inline ──settled──▶ Idle
//!                             └──completion──▶ Armed ──all sent──▶ Idle
//!   life:   Open ──close──▶ Closing ──receive over──▶ Free
//! ```

use std::os::fd::OwnedFd;

/// What the connection's one send is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Send {
    Idle,
    /// Finishes in the enter that submits it; no completion means that all of it went.
    Inline(u32),
    /// Completes when the socket took something.
    Armed,
}

/// Where the connection stands between connect and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Free,
    Open,
    Closing,
}

pub(super) struct Conn {
    pub(super) fd: Option<OwnedFd>,
    pub(super) life: Life,
    pub(super) session: u32,
    pub(super) send: Send,
    /// The connection is in the list of those that have something to send.
    pub(super) listed: bool,
    /// Place in the stream of requests up to which they are to be sent, and were.
    pub(super) queued: u64,
    pub(super) sent: u64,
    /// Place in the stream of answers.
    pub(super) received: u64,
    /// Bytes of the answer that is coming in.
    partial: usize,
    /// When each request in flight was issued: a ring, the oldest at `oldest`.
    times: Box<[u64]>,
    oldest: usize,
    waiting: usize,
}

impl Conn {
    pub(super) fn new() -> Conn {
        Conn {
            fd: None,
            life: Life::Free,
            session: 0,
            send: Send::Idle,
            listed: false,
            queued: 0,
            sent: 0,
            received: 0,
            partial: 0,
            times: Box::new([]),
            oldest: 0,
            waiting: 0,
        }
    }

    /// Begins a new life, both streams at `phase`.
    pub(super) fn open(&mut self, fd: OwnedFd, session: u32, phase: u64, in_flight: usize) {
        self.fd = Some(fd);
        self.life = Life::Open;
        self.session = session;
        self.send = Send::Idle;
        (self.queued, self.sent, self.received) = (phase, phase, phase);
        (self.partial, self.oldest, self.waiting) = (0, 0, 0);
        if self.times.len() != in_flight {
            self.times = vec![0; in_flight].into();
        }
    }

    /// Notes `count` new requests of `length` bytes.
    pub(super) fn issue(&mut self, now: u64, count: usize, length: usize) {
        for _ in 0..count {
            let place = (self.oldest + self.waiting) % self.times.len();
            self.times[place] = now;
            self.waiting += 1;
        }
        self.queued += (count * length) as u64;
    }

    /// Notes received bytes; gives when each request was issued that they answer. `None`: there
    /// are more bytes than were asked for.
    pub(super) fn answered(
        &mut self,
        bytes: usize,
        length: usize,
        mut each: impl FnMut(u64),
    ) -> Option<usize> {
        self.received += bytes as u64;
        self.partial += bytes;
        let mut count = 0;
        while self.partial >= length {
            if self.waiting == 0 {
                return None;
            }
            self.partial -= length;
            each(self.times[self.oldest]);
            self.oldest = (self.oldest + 1) % self.times.len();
            self.waiting -= 1;
            count += 1;
        }
        (self.partial == 0 || self.waiting > 0).then_some(count)
    }
}
