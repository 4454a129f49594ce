//! What a writer waits for.

use super::protocol::{Flag, StreamReaderProtocol};
use crate::task::{Wait, WaitsFor};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    /// Gave way once because the transport is closing.
    Yielded,
    /// Waits for the protocol to be resumed.
    Paused,
}

/// [`StreamWriter::drain`](super::StreamWriter::drain).
///
/// ```text
///   New ──closing──▶ Yielded ──lost──▶ "Connection lost"
///    └──────┬───────────┘
///           ├─ not paused ──▶ done
///           └─ Paused ──resumed, or lost without an error──▶ done
/// ```
pub(super) struct Drain<'a> {
    stream: &'a StreamReaderProtocol,
    wait: Wait,
    stage: Stage,
}

impl<'a> Drain<'a> {
    #[inline]
    pub(super) fn new(stream: &'a StreamReaderProtocol) -> Self {
        Self {
            stream,
            wait: Wait::new(),
            stage: Stage::New,
        }
    }

    /// What drain ends with, if it does not have to wait.
    #[inline]
    fn outcome(&mut self) -> Option<io::Result<()>> {
        let stream = self.stream;
        if stream.has(Flag::Failed)
            && let Some(error) = stream.exception()
        {
            return Some(Err(error));
        }
        if self.stage == Stage::New && stream.is_closing() {
            return None;
        }
        let lost = stream.has(Flag::Lost);
        if lost && self.stage != Stage::Paused {
            let lost = io::Error::new(io::ErrorKind::ConnectionReset, "Connection lost");
            return Some(Err(lost));
        }
        if lost || !stream.has(Flag::WritePaused) {
            return Some(Ok(()));
        }
        self.stage = Stage::Paused;
        None
    }
}

impl Future for Drain<'_> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.wait.check()?;
        if let Some(outcome) = this.outcome() {
            this.wait.finish();
            return Poll::Ready(outcome);
        }
        this.wait
            .suspend(cx, WaitsFor::Other("a drain of a stream"))?;
        if this.stage == Stage::New {
            this.stage = Stage::Yielded;
            cx.waker().wake_by_ref();
        } else {
            this.stream.await_drain(cx.waker());
        }
        Poll::Pending
    }
}

/// [`StreamWriter::wait_closed`](super::StreamWriter::wait_closed).
pub(super) struct Closed<'a> {
    stream: &'a StreamReaderProtocol,
    wait: Wait,
}

impl<'a> Closed<'a> {
    pub(super) fn new(stream: &'a StreamReaderProtocol) -> Self {
        Self {
            stream,
            wait: Wait::new(),
        }
    }
}

impl Future for Closed<'_> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.wait.check()?;
        if this.stream.has(Flag::Lost) {
            this.wait.finish();
            return Poll::Ready(this.stream.exception().map_or(Ok(()), Err));
        }
        this.wait
            .suspend(cx, WaitsFor::Other("the end of a stream"))?;
        this.stream.await_closed(cx.waker());
        Poll::Pending
    }
}
