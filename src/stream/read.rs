//! How every read waits.

use super::protocol::Flag;
use super::reader::StreamReader;
use crate::task::Wait;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A read: tries again whenever something arrived, until `attempt` has what it wants.
///
/// **Guarantees.** `attempt` takes bytes out of the reader only when it returns `Some`; so a read that
/// is dropped or cancelled takes none, and the next one finds them all.
pub(super) struct Read<'a, A> {
    reader: &'a mut StreamReader,
    attempt: A,
    wait: Wait,
    waiting: bool,
}

impl<'a, A> Read<'a, A> {
    #[inline]
    pub(super) fn new<T>(reader: &'a mut StreamReader, attempt: A) -> Self
    where
        A: FnMut(&mut StreamReader) -> Option<io::Result<T>>,
    {
        Self {
            reader,
            attempt,
            wait: Wait::new(),
            waiting: false,
        }
    }

    #[inline]
    fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.reader.stream.stop_awaiting_data();
        }
    }
}

impl<A, T> Future for Read<'_, A>
where
    A: FnMut(&mut StreamReader) -> Option<io::Result<T>> + Unpin,
{
    type Output = io::Result<T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // A cancelled read is cancelled even if its data is there; it stays in the reader.
        this.wait.check()?;
        let result = if this.reader.stream.has(Flag::Failed) {
            this.reader.stream.exception().map(Err)
        } else {
            (this.attempt)(this.reader)
        };
        if let Some(result) = result {
            this.wait.finish();
            this.stop_waiting();
            return Poll::Ready(result);
        }
        // A pool buffer must not wait for the peer together with its reader.
        this.reader.head.detach();
        this.wait
            .suspend(cx, this.reader.stream.waits_for("a read of a stream"))?;
        this.waiting = true;
        this.reader.stream.await_data(cx.waker().clone());
        Poll::Pending
    }
}

impl<A> Drop for Read<'_, A> {
    #[inline]
    fn drop(&mut self) {
        self.stop_waiting();
    }
}
