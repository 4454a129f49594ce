//! A loop that is turned by hand, and code of others in odd places.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
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

/// What happened, in order.
pub struct Order<T>(Rc<RefCell<Vec<T>>>);

impl<T> Clone for Order<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: 'static> Order<T> {
    pub fn new() -> Self {
        Self(Rc::default())
    }

    /// This happens now.
    pub fn add(&self, what: T) {
        self.0.borrow_mut().push(what);
    }

    /// What happened since the last call.
    pub fn take(&self) -> Vec<T> {
        self.0.take()
    }
}

/// Adds to an order when it is dropped.
pub struct Dropped<T: Copy + 'static>(pub Order<T>, pub T);

impl<T: Copy + 'static> Drop for Dropped<T> {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
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
