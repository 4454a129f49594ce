//! A loop that is turned by hand, and code of others in odd places.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use ringloop::{Builder, DriverKind};
use uring_tests::lab::Lab;

/// A loop that the test turns itself.
pub fn lab(kind: DriverKind) -> Lab {
    Lab::new(&Builder::new().driver(kind))
}

/// One iteration, which does not wait.
pub fn turn(l: &Lab) {
    l.event_loop.stop();
    l.event_loop.run_forever().expect("the loop runs");
}

/// A waker that counts.
#[derive(Default)]
pub struct Counting(AtomicUsize);

impl Counting {
    pub fn new() -> (Arc<Self>, Waker) {
        let this = Arc::new(Self::default());
        (this.clone(), this.into())
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls once.
pub fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}
