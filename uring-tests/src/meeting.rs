//! Threads that wait for each other, and hear when the other is gone.

use std::sync::mpsc::{Receiver, Sender, channel};

/// One of two threads that meet. A [`Barrier`](std::sync::Barrier) would wait for one that panicked.
pub struct Meeting {
    here: Sender<()>,
    there: Receiver<()>,
}

impl Meeting {
    /// Both ends.
    pub fn between_two() -> (Self, Self) {
        let ((here, heard), (there, seen)) = (channel(), channel());
        let one = Self { here, there: seen };
        (
            one,
            Self {
                here: there,
                there: heard,
            },
        )
    }

    /// Returns when the other calls it too; as often as both like.
    ///
    /// # Panics
    /// When the other is gone.
    pub fn meet(&self) {
        let met = self.here.send(()).is_ok() && self.there.recv().is_ok();
        assert!(met, "the other thread is gone");
    }
}
