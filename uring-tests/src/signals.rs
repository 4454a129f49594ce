//! A storm of signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static DELIVERED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    DELIVERED.fetch_add(1, Ordering::SeqCst);
}

/// SIGUSR1 for the thread that began it, as fast as another can send it. System calls are not
/// restarted.
pub struct Storm {
    over: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

impl Storm {
    /// Begins; returns when the first signal has come. To be dropped by the thread that calls this.
    ///
    /// # Panics
    /// When there is no thread to be had.
    pub fn begin() -> Self {
        let action = SigAction::new(
            SigHandler::Handler(count),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler only adds to an atomic.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("there is SIGUSR1");
        let (over, before) = (
            Arc::new(AtomicBool::new(false)),
            DELIVERED.load(Ordering::SeqCst),
        );
        // SAFETY: takes nothing.
        let target = unsafe { libc::pthread_self() };
        let ended = over.clone();
        let sender = std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                // SAFETY: the target lives: it joins this thread.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                std::thread::yield_now();
            }
        });
        while DELIVERED.load(Ordering::SeqCst) == before {
            std::thread::yield_now();
        }
        Self {
            over,
            sender: Some(sender),
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let sender = self.sender.take().expect("dropped once");
        sender.join().expect("it only sends");
    }
}
