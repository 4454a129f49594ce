//! Which process made something: this one, or the parent it was forked from; and what a forked child
//! forgets.
//!
//! **Guarantees.** What a forked child shares with its parent (a ring, an epoll instance, the queue
//! of threads that exist only in the parent) can be told from its own by one load. A child that was
//! cloned without running fork handlers is only found by comparing process ids, a system call.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between this process and the first one that noted an origin.
static FORKS: AtomicU32 = AtomicU32::new(0);

fn count_forks() {
    static ONCE: Once = Once::new();
    extern "C" fn in_the_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    in_child(&ONCE, in_the_child);
}

/// Has `forget` called in every child that this process forks from now on, in the thread that
/// forked, before `fork(2)` returns there. Once for each `once`.
///
/// `forget` may touch only what the forking thread can not have locked or borrowed, must not
/// allocate, and must not panic.
pub fn in_child(once: &Once, forget: extern "C" fn()) {
    once.call_once(|| {
        // SAFETY: the handlers of the C library run in the child like any function; what they may
        // do is the caller's contract above. Where one can not be registered (no memory), children
        // remember: process ids can still be compared, and nothing unsound follows.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    });
}

/// The process that made something.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    forks: u32,
    pid: u32,
}

impl Origin {
    /// No process at all: what was made is closed.
    pub const NOWHERE: Self = Self {
        forks: u32::MAX,
        pid: 0,
    };

    /// This process.
    pub fn here() -> Self {
        count_forks();
        Self {
            forks: FORKS.load(Ordering::Relaxed),
            pid: std::process::id(),
        }
    }

    /// Whether this is the process, and not a child it forked. Costs a load.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }

    /// Whether the process has another id. Costs a system call.
    pub fn is_foreign(&self) -> bool {
        self.pid != std::process::id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_nowhere_is_no_process() {
        assert!(Origin::here().is_here());
        assert!(!Origin::here().is_foreign());
        assert!(!Origin::NOWHERE.is_here());
        assert!(Origin::NOWHERE.is_foreign());
    }
}
