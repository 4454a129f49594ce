//! The iteration between the end of what is waited for and the resumption of who waits.
//!
//! In asyncio a task that ends queues its done callbacks; such a callback completes the future that
//! the waiting task awaits, and that queues the task. Here the end of a task queues the waiting
//! task itself, in the place where the callback would stand. [`Hop`] is the rest: in that step the
//! combinator notices, queues its task once more, and gives the result in the next one. So what a
//! program can see of the order is asyncio's, at the price of one more step and no callback.

use std::task::{Context, Poll};

/// See the module.
#[derive(Default)]
pub(super) struct Hop {
    /// There was a step in which the combinator had to wait.
    waited: bool,
    noticed: bool,
}

impl Hop {
    /// The combinator waits.
    pub(super) fn wait(&mut self) {
        self.waited = true;
    }

    /// What it waits for is there. Ready: the result may be given. At once when the combinator never
    /// waited, else one iteration after the first call.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.noticed || !self.waited {
            return Poll::Ready(());
        }
        self.noticed = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
