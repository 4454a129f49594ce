//! What a writer waits for.

use super::protocol::{Flag, StreamReaderProtocol};
use super::rare::Until;
use super::waiters::Place;
use crate::task::Wait;
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
    place: Place,
}

impl<'a> Drain<'a> {
    #[inline]
    pub(super) fn new(stream: &'a StreamReaderProtocol) -> Self {
        Self {
            stream,
            wait: Wait::new(),
            stage: Stage::New,
            place: Place::default(),
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
            .suspend(cx, this.stream.waits_for("a drain of a stream"))?;
        if this.stage == Stage::New {
            this.stage = Stage::Yielded;
            cx.waker().wake_by_ref();
        } else {
            this.stream
                .stay(Until::Drained, &mut this.place, cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.place.is_taken() {
            self.stream.leave(Until::Drained, &mut self.place);
        }
    }
}

/// [`StreamWriter::wait_closed`](super::StreamWriter::wait_closed).
pub(super) struct Closed<'a> {
    stream: &'a StreamReaderProtocol,
    wait: Wait,
    place: Place,
}

impl<'a> Closed<'a> {
    pub(super) fn new(stream: &'a StreamReaderProtocol) -> Self {
        Self {
            stream,
            wait: Wait::new(),
            place: Place::default(),
        }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        if self.place.is_taken() {
            self.stream.leave(Until::Closed, &mut self.place);
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
            .suspend(cx, this.stream.waits_for("the end of a stream"))?;
        this.stream.stay(Until::Closed, &mut this.place, cx.waker());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::super::origin::Origin;
    use super::*;
    use crate::event_loop::BaseEventLoop;
    use crate::protocol::BaseProtocol;
    use std::pin::pin;
    use std::rc::{Rc, Weak};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// A stream whose writer is paused, without a transport.
    fn paused() -> Rc<StreamReaderProtocol> {
        let stream = StreamReaderProtocol::new(Rc::new(Origin {
            event_loop: Weak::<BaseEventLoop>::new(),
            limit: 1,
            client_connected: None,
        }));
        stream.pause_writing();
        stream
    }

    /// Polls until it stands in the list: without a transport, a drain gives way first.
    fn wait(future: Pin<&mut impl Future<Output = io::Result<()>>>, waker: &Waker) {
        let mut future = future;
        for _ in 0..3 {
            let polled = future.as_mut().poll(&mut Context::from_waker(waker));
            assert!(polled.is_pending());
        }
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_no_waker_behind() {
        let stream = paused();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        for _ in 0..3 {
            let held = Arc::strong_count(&count);
            {
                let mut drain = pin!(Drain::new(&stream));
                wait(drain.as_mut(), &waker);
                let mut closed = pin!(Closed::new(&stream));
                wait(closed.as_mut(), &waker);
                assert_eq!(Arc::strong_count(&count), held + 2);
            }
            assert_eq!(Arc::strong_count(&count), held);
        }
    }

    #[test]
    fn those_that_still_wait_are_woken_and_may_wait_again() {
        let stream = paused();
        let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        let wakers: Vec<Waker> = counts.iter().map(|count| count.clone().into()).collect();
        let mut first = pin!(Drain::new(&stream));
        let mut last = pin!(Drain::new(&stream));
        wait(first.as_mut(), &wakers[0]);
        {
            let mut gone = pin!(Drain::new(&stream));
            wait(gone.as_mut(), &wakers[1]);
            wait(last.as_mut(), &wakers[1]);
        }
        // Polled with another waker: that one counts.
        wait(last.as_mut(), &wakers[2]);
        let before: Vec<usize> = counts.iter().map(|count| count.get()).collect();
        stream.resume_writing();
        let woken = |before: &[usize]| -> Vec<usize> {
            let now = counts.iter().map(|count| count.get());
            now.zip(before).map(|(now, before)| now - before).collect()
        };
        assert_eq!(woken(&before), [1, 0, 1]);
        // Paused again before they ran: they wait in the same place.
        stream.pause_writing();
        wait(first.as_mut(), &wakers[0]);
        stream.resume_writing();
        assert_eq!(woken(&before), [2, 0, 1]);
    }
}
