//! What a connection sends and what it must get back: two endless, periodic streams of bytes.

use crate::http;
use std::net::SocketAddrV4;

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Messages of `size` bytes that come back, `in_flight` at a time on each connection.
    Echo {
        /// Bytes of a message.
        size: usize,
        /// Messages sent and not yet come back.
        in_flight: usize,
    },
    /// The request of [`crate::http`], `in_flight` at a time on each connection.
    Http {
        /// Requests sent and not yet answered.
        in_flight: usize,
    },
    /// Connect, one message of `size` bytes there and back, close; then the same again.
    Churn {
        /// Bytes of the message.
        size: usize,
    },
}

/// Bytes that repeat after a period, and how many of them make a message.
pub(super) struct Stream {
    memory: Box<[u8]>,
    period: u64,
    /// Bytes of one message.
    pub(super) length: usize,
}

/// A prime, so that no message begins where another one did for a long time.
const PERIOD: usize = 16381;

/// The longest piece that [`Stream::at`] lends, if messages in flight are not longer.
const PIECE: usize = super::BUFFER_SIZE;

impl Stream {
    fn new(pattern: &[u8], length: usize, in_flight: usize) -> Stream {
        let longest = (length * in_flight).max(PIECE);
        Stream {
            memory: pattern
                .iter()
                .copied()
                .cycle()
                .take(pattern.len() + longest)
                .collect(),
            period: pattern.len() as u64,
            length,
        }
    }

    /// The `length` bytes at this place of the stream.
    pub(super) fn at(&self, offset: u64, length: usize) -> &[u8] {
        &self.memory[(offset % self.period) as usize..][..length]
    }
}

/// What the connections of a session do.
pub(super) struct Script {
    pub(super) to: SocketAddrV4,
    pub(super) request: Stream,
    pub(super) response: Stream,
    pub(super) in_flight: usize,
    pub(super) churn: bool,
    /// Echoes: where a connection begins in the stream differs, so that answers sent to the wrong
    /// one are noticed.
    pub(super) phases: bool,
}

impl Script {
    pub(super) fn new(to: SocketAddrV4, work: Work) -> Script {
        let (request, response, in_flight) = match work {
            Work::Echo { size, in_flight } => {
                let pattern = noise();
                (
                    Stream::new(&pattern, size, in_flight),
                    Stream::new(&pattern, size, in_flight),
                    in_flight,
                )
            }
            Work::Churn { size } => {
                let pattern = noise();
                (
                    Stream::new(&pattern, size, 1),
                    Stream::new(&pattern, size, 1),
                    1,
                )
            }
            Work::Http { in_flight } => (
                Stream::new(http::REQUEST, http::REQUEST.len(), in_flight),
                Stream::new(http::RESPONSE, http::RESPONSE.len(), in_flight),
                in_flight,
            ),
        };
        Script {
            to,
            request,
            response,
            in_flight,
            churn: matches!(work, Work::Churn { .. }),
            phases: !matches!(work, Work::Http { .. }),
        }
    }
}

/// Bytes without a pattern, the same in each run.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..PERIOD)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
