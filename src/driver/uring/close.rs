//! The end of the driver.
//!
//! **Guarantees.** The ring is closed here, not when the driver is dropped: whoever still holds the
//! driver holds neither descriptors nor locked memory. Closing a ring does not wait: operations in
//! flight go on writing (trap T2). So the ring is closed after a drain
//! ([`Engine::close`](crate::driver::Engine::close)); what did not come back keeps its
//! memory for ever: the op table leaks its buffers, and here the receive pool and its descriptors
//! are leaked. A driver that is dropped without [`shut_down`](crate::driver::Driver::shut_down)
//! does not know, and leaks them too. In a forked child nothing at all is touched: ring,
//! registrations and buffers are the parent's, parks fail, and so a drain ends at once.

use super::{GROUP, UringDriver, Wait, tag};

impl UringDriver {
    pub(super) fn close(&mut self, leaked: usize) {
        if self.shut {
            return;
        }
        self.shut = true;
        // From here on, parks fail.
        self.broken = self.broken.or(Some(libc::ESHUTDOWN));
        if !self.ring.is_usable() || self.ring.is_foreign() {
            self.pool.leak();
            std::mem::forget(self.pool.detach());
            return;
        }
        if leaked == 0 {
            // The poll of the wake descriptor is all that is in flight. A ring that is closed with
            // nothing gives its locked memory back within some 25 ms, with something in 500 (trap
            // T6). (Twice: a cancelled operation ends in the second, trap T4.)
            self.push_cancel(tag::WAKE);
            self.enter(Wait::Poll);
            self.enter(Wait::Poll);
        }
        // The kernel takes no buffer of the group any more, and gives none of them back.
        let unregistered = self.ring.unregister_buffers(GROUP);
        let descriptors = self.pool.detach();
        if leaked > 0 || unregistered.is_err() {
            self.pool.leak();
            std::mem::forget(descriptors);
        }
        // SAFETY: submit, cancel, park and wants_poll look whether the ring is usable before they
        // touch it, and nothing else of this driver does.
        unsafe { self.ring.close() }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // Unknown how many: the safe guess.
        self.close(1);
    }
}
