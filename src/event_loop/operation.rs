//! One operation as a future.
//!
//! **Guarantees.** The future is only a handle: the op table owns operation and buffers. Dropped, or
//! cancelled, before the operation ended, it asks for the operation's cancel, and what the operation
//! still brings goes where its orphan rule says. One that outlives its loop ends with `ECANCELED`.

use super::core::Core;
use crate::driver::{Key, Op, Polled, Target};
use crate::task::{Cancelled, Wait, WaitsFor};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// How an operation ended.
#[derive(Debug)]
pub struct Outcome {
    /// The operation with its buffers; [`Op::Nop`] when they went with the loop.
    pub op: Op,
    /// Zero or more on success, a negated errno on failure.
    pub result: i32,
    /// The descriptor that the operation made.
    pub fd: Option<OwnedFd>,
}

impl Outcome {
    /// The result as `std` writes it.
    ///
    /// # Errors
    /// The errno of a negative result.
    pub fn count(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

enum State {
    Unsubmitted(Option<Op>),
    Submitted(Key),
    Ended,
}

/// See the module. Submits at its first poll.
pub struct Operation {
    core: Rc<Core>,
    state: State,
    wait: Wait,
    what: WaitsFor,
}

impl Operation {
    /// The future of `op` on `core`.
    pub fn new(core: Rc<Core>, op: Op) -> Self {
        let fd = op.fd().map_or(-1, AsRawFd::as_raw_fd);
        let what = WaitsFor::Io {
            name: op.name(),
            fd,
        };
        Self {
            core,
            state: State::Unsubmitted(Some(op)),
            wait: Wait::new(),
            what,
        }
    }

    fn abandon(&mut self) {
        if let State::Submitted(key) = std::mem::replace(&mut self.state, State::Ended) {
            self.core.abandon(key);
        }
    }
}

impl Future for Operation {
    type Output = Result<Outcome, Cancelled>;

    /// # Panics
    /// When polled after it ended.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Err(cancelled) = this.wait.check() {
            this.abandon();
            return Poll::Ready(Err(cancelled));
        }
        let key = match &mut this.state {
            State::Unsubmitted(op) => {
                // A request that waits for the next suspension is taken before anything begins.
                if let Err(cancelled) = this.wait.suspend(cx, this.what) {
                    this.state = State::Ended;
                    return Poll::Ready(Err(cancelled));
                }
                let Some(op) = op.take() else {
                    unreachable!("taken only here")
                };
                let key = this.core.submit(op, Target::Waiter(cx.waker().clone()));
                this.state = State::Submitted(key);
                key
            }
            State::Submitted(key) => *key,
            State::Ended => panic!("an operation was polled after it ended"),
        };
        let polled = this.core.engine.borrow_mut().poll(key, cx.waker());
        match polled {
            Polled::Done(op, result, fd) => {
                this.state = State::Ended;
                this.wait.finish();
                Poll::Ready(Ok(Outcome { op, result, fd }))
            }
            Polled::Gone => {
                this.state = State::Ended;
                this.wait.finish();
                Poll::Ready(Ok(Outcome {
                    op: Op::Nop,
                    result: -libc::ECANCELED,
                    fd: None,
                }))
            }
            polled => {
                if matches!(polled, Polled::WantsWaker) {
                    let target = Target::Waiter(cx.waker().clone());
                    let old = this.core.engine.borrow_mut().set_target(key, target);
                    drop(old);
                }
                if let Err(cancelled) = this.wait.suspend(cx, this.what) {
                    this.abandon();
                    return Poll::Ready(Err(cancelled));
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.abandon();
    }
}
