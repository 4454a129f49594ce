//! What a script can say. A step whose precondition does not hold when its turn comes is skipped,
//! on both drivers alike, since it depends only on what was determined before.

use std::net::Shutdown;

use uring_tests::Rng;

/// Socket pairs; those from [`FIRST_TCP`] on are TCP, the others Unix.
pub const SOCKETS: usize = 5;
/// See [`SOCKETS`].
pub const FIRST_TCP: usize = 3;
/// Listeners: a Unix and a TCP one.
pub const LISTENERS: usize = 2;
/// See [`LISTENERS`].
pub const TCP_LISTENER: usize = 1;
/// Files.
pub const FILES: usize = 3;

/// One step. `on` is the number of a socket, listener or file.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The peer writes as much of `len` bytes as its socket takes.
    PeerSend {
        on: usize,
        len: usize,
    },
    /// The peer reads up to `len` bytes.
    PeerRead {
        on: usize,
        len: usize,
    },
    PeerShutdown {
        on: usize,
    },
    PeerClose {
        on: usize,
    },
    Recv {
        on: usize,
        len: usize,
    },
    RecvMulti {
        on: usize,
    },
    CancelRead {
        on: usize,
    },
    /// As a dropped future does: orphaned and cancelled; the stash gets what comes still.
    DropRead {
        on: usize,
    },
    Send {
        on: usize,
        len: usize,
        chunks: usize,
        inline: bool,
        urgent: bool,
    },
    CancelSend {
        on: usize,
    },
    Shutdown {
        on: usize,
        how: Shutdown,
    },
    Poll {
        on: usize,
        events: u32,
        multi: bool,
    },
    CancelPoll {
        on: usize,
    },
    PeerConnect {
        on: usize,
    },
    Accept {
        on: usize,
        multi: bool,
    },
    CancelAccept {
        on: usize,
    },
    DropAccept {
        on: usize,
    },
    Connect {
        to: usize,
        cancel: bool,
    },
    Write {
        on: usize,
        len: usize,
        offset: u64,
    },
    Read {
        on: usize,
        len: usize,
        offset: u64,
    },
    Sync {
        on: usize,
        data_only: bool,
    },
    CancelFile {
        on: usize,
    },
    Open {
        name: usize,
        flags: i32,
    },
    Close,
    Nop,
    /// Flush and take what is there.
    Park,
    /// Flush and wait until everything is at rest.
    Settle,
}

impl Step {
    /// The step that ends what this one starts.
    fn cancel(self, drop_it: bool) -> Option<Self> {
        Some(match self {
            Self::Recv { on, .. } | Self::RecvMulti { on } if drop_it => Self::DropRead { on },
            Self::Recv { on, .. } | Self::RecvMulti { on } => Self::CancelRead { on },
            Self::Send { on, .. } => Self::CancelSend { on },
            Self::Poll { on, .. } => Self::CancelPoll { on },
            Self::Accept { on, .. } if drop_it => Self::DropAccept { on },
            Self::Accept { on, .. } => Self::CancelAccept { on },
            Self::Read { on, .. } | Self::Sync { on, .. } => Self::CancelFile { on },
            _ => return None,
        })
    }

    /// Whether everything must be at rest before: files finish when their thread does, packets
    /// arrive when the network has time, and a poll sees what a receive before it left.
    pub fn needs_rest(self) -> bool {
        match self {
            Self::PeerSend { on, .. }
            | Self::PeerRead { on, .. }
            | Self::PeerShutdown { on }
            | Self::PeerClose { on }
            | Self::Recv { on, .. }
            | Self::RecvMulti { on }
            | Self::Send { on, .. } => on >= FIRST_TCP,
            Self::PeerConnect { on } | Self::Accept { on, .. } => on == TCP_LISTENER,
            Self::Shutdown { .. }
            | Self::Poll { .. }
            | Self::Connect { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Sync { .. }
            | Self::Open { .. } => true,
            _ => false,
        }
    }
}

/// A length: mostly small, sometimes more than a buffer of the pool or of the kernel.
fn length(rng: &mut Rng) -> usize {
    1 + match rng.below(8) {
        0..4 => rng.below(64),
        4 | 5 => rng.below(5_000),
        6 => rng.below(60_000),
        _ => rng.below(400_000),
    }
}

/// Always with `POLLRDHUP`, which io_uring reports unasked.
fn events(rng: &mut Rng) -> u32 {
    let events = [libc::POLLIN, libc::POLLOUT, libc::POLLIN | libc::POLLOUT, 0];
    (events[rng.below(events.len())] | libc::POLLRDHUP) as u32
}

/// Draws a script. Often an operation is cancelled before it is flushed.
pub fn script(rng: &mut Rng, len: usize) -> Vec<Step> {
    let mut steps = Vec::with_capacity(len + 1);
    while steps.len() < len {
        let step = step(rng);
        steps.push(step);
        if rng.chance(1, 6) {
            steps.extend(step.cancel(rng.chance(1, 4)));
        }
    }
    steps
}

fn step(rng: &mut Rng) -> Step {
    let on = rng.below(SOCKETS);
    let listener = rng.below(LISTENERS);
    let file = rng.below(FILES);
    match rng.below(100) {
        0..12 => Step::PeerSend {
            on,
            len: length(rng),
        },
        12..20 => Step::PeerRead {
            on,
            len: length(rng),
        },
        20 if rng.chance(1, 3) => Step::PeerShutdown { on },
        21 if rng.chance(1, 3) => Step::PeerClose { on },
        20..29 => Step::Recv {
            on,
            len: length(rng),
        },
        29..35 => Step::RecvMulti { on },
        35..39 => Step::CancelRead { on },
        39..41 => Step::DropRead { on },
        41..51 => Step::Send {
            on,
            len: length(rng),
            chunks: 1 + rng.below(4),
            inline: rng.chance(1, 2),
            urgent: rng.chance(1, 4),
        },
        51..53 => Step::CancelSend { on },
        53 if rng.chance(1, 3) => Step::Shutdown {
            on,
            how: [Shutdown::Read, Shutdown::Write, Shutdown::Both][rng.below(3)],
        },
        53..57 => Step::Poll {
            on,
            events: events(rng),
            multi: rng.chance(1, 3),
        },
        57..59 => Step::CancelPoll { on },
        59..63 => Step::PeerConnect { on: listener },
        63..67 => Step::Accept {
            on: listener,
            multi: rng.chance(1, 3),
        },
        67 => Step::CancelAccept { on: listener },
        68 => Step::DropAccept { on: listener },
        69..72 => Step::Connect {
            to: rng.below(4),
            cancel: rng.chance(1, 4),
        },
        72..75 => Step::Write {
            on: file,
            len: length(rng),
            offset: rng.below(100_000) as u64,
        },
        75..78 => Step::Read {
            on: file,
            len: length(rng),
            offset: rng.below(100_000) as u64,
        },
        78 => Step::Sync {
            on: file,
            data_only: rng.chance(1, 2),
        },
        79 => Step::CancelFile { on: file },
        80 | 81 => Step::Open {
            name: rng.below(4),
            flags: [libc::O_RDONLY, libc::O_RDWR | libc::O_CREAT][rng.below(2)],
        },
        82 => Step::Close,
        83 => Step::Nop,
        84..92 => Step::Park,
        _ => Step::Settle,
    }
}
