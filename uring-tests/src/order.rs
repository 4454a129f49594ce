//! What happened, in order.

use std::cell::RefCell;
use std::rc::Rc;

/// What happened, in order. Its clones are the same list.
pub struct Order<T>(Rc<RefCell<Vec<T>>>);

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T> Clone for Order<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Order<T> {
    /// This happens now.
    pub fn add(&self, what: T) {
        self.0.borrow_mut().push(what);
    }

    /// A callback in which this happens.
    pub fn note(&self, what: T) -> impl FnOnce() + use<T> {
        let this = self.clone();
        move || this.add(what)
    }

    /// What happened since the last call.
    pub fn take(&self) -> Vec<T> {
        self.0.take()
    }
}

/// Adds to an order when it is dropped.
pub struct Dropped<T: Copy>(pub Order<T>, pub T);

impl<T: Copy> Drop for Dropped<T> {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}
