//! Catching a signal: the handler counts it and makes a descriptor readable.
//!
//! **Guarantees.** A signal has at most one [`Catch`]. What the handler does is async-signal-safe:
//! atomics, `write(2)` to an eventfd, `sigaction(2)`, `raise(3)`; `errno` stays as it was. While a
//! handler of any thread may still write to the eventfd, it is not closed. Dropping the catch puts
//! back the action there was before, unless somebody else has replaced ours.
//!
//! ```text
//!            Catch::new                  drop
//!   (free) ─────────────▶ caught ─────────────────▶ (free)
//!                           │ the `last`-th delivery, or a delivery while nobody catches
//!                           ▼
//!                     default action
//! ```
//!
//! A forked child catches nothing: a signal that finds our handler there takes its default action.
//! The handler runs in any thread; one with a descriptor table of its own must block the signal.

use super::fork;
use super::signal_slot::{Delivery, SignalSlot};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Once;

/// Signals are numbered from 1 to 64.
const SIGNALS: usize = 65;

/// One for each signal.
#[cfg(not(loom))]
static SLOTS: [SignalSlot; SIGNALS] = [const { SignalSlot::new() }; SIGNALS];
#[cfg(loom)]
static SLOTS: std::sync::LazyLock<[SignalSlot; SIGNALS]> =
    std::sync::LazyLock::new(|| std::array::from_fn(|_| SignalSlot::new()));

fn slot(signal: i32) -> io::Result<&'static SignalSlot> {
    usize::try_from(signal)
        .ok()
        .filter(|signal| *signal > 0)
        .and_then(|signal| SLOTS.get(signal))
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

/// In a forked child nobody catches anything.
extern "C" fn forget() {
    SLOTS.iter().for_each(SignalSlot::forget);
}

extern "C" fn handler(signal: i32) {
    let Ok(slot) = slot(signal) else { return };
    // SAFETY: the thread's own errno, saved because the interrupted code may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    match slot.enter() {
        Delivery::Event(event) => {
            let one = 1u64;
            // SAFETY: 8 readable bytes; the descriptor is the catch's eventfd, which stays open until
            // this handler leaves. It fails only when the counter is full: then it is readable.
            unsafe { libc::write(event, ptr::from_ref(&one).cast(), 8) };
        }
        Delivery::Last => take_default(signal),
        Delivery::Nobody => unheard(signal),
    }
    slot.leave();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// A delivery that came while nobody catches the signal: in a forked child, or just when the catch was
/// dropped. A handler that somebody else has put in place, and that may have called ours, decides for
/// itself. Async-signal-safe.
fn unheard(signal: i32) {
    if action(signal).is_ok_and(|action| is_ours(&action) || action.sa_sigaction == libc::SIG_DFL) {
        take_default(signal);
    }
}

/// Puts the default action back and sends the signal to this thread once more. In the handler of the
/// signal, which is blocked there, it arrives when the handler returns. Async-signal-safe.
pub fn take_default(signal: i32) {
    // SAFETY: zeroes are a valid action: the default one, no flags, an empty mask; both calls are
    // async-signal-safe and take a number.
    unsafe {
        let action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        libc::raise(signal);
    }
}

fn action(signal: i32) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the kernel writes the action, or an error is returned; zeroes are a valid one anyway.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    super::check(result as isize)?;
    // SAFETY: initialised, see above.
    Ok(unsafe { action.assume_init() })
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handler as extern "C" fn(i32) as libc::sighandler_t
}

/// Whether the signal's action is the default one.
///
/// # Errors
/// `EINVAL`: there is no such signal.
pub fn is_default(signal: i32) -> io::Result<bool> {
    Ok(action(signal)?.sa_sigaction == libc::SIG_DFL)
}

/// Whether this is the thread in which `main` runs.
pub fn is_main_thread() -> bool {
    // SAFETY: takes nothing.
    u32::try_from(unsafe { libc::gettid() }) == Ok(std::process::id())
}

/// A signal that is caught for as long as this lives; see the module.
#[derive(Debug)]
pub struct Catch {
    signal: i32,
    event: OwnedFd,
    previous: libc::sigaction,
}

impl Catch {
    /// Catches the signal. Its `last`-th delivery, and each later one, takes the default action; 0:
    /// none does.
    ///
    /// # Errors
    /// `EBUSY`: it is caught already; `EINVAL`: there is no such signal, or it can not be caught;
    /// else what making an eventfd answers (no more descriptors).
    pub fn new(signal: i32, last: u32) -> io::Result<Self> {
        static FORGETS: Once = Once::new();
        fork::in_child(&FORGETS, forget);
        let slot = slot(signal)?;
        if !slot.claim() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let caught = Self::install(signal, slot, last);
        if caught.is_err() {
            slot.release();
        }
        caught
    }

    fn install(signal: i32, slot: &SignalSlot, last: u32) -> io::Result<Self> {
        // SAFETY: makes a descriptor; numbers only.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        super::check(event as isize)?;
        // SAFETY: just made, and nobody else knows it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        slot.publish(event.as_raw_fd(), last);
        let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: zeroes are a valid action, whose handler is then ours: a function of the expected
        // kind that does only what a handler may do (see the module). The kernel writes the old one.
        let result = unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handler as extern "C" fn(i32) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, previous.as_mut_ptr())
        };
        super::check(result as isize).inspect_err(|_| slot.retire())?;
        // SAFETY: initialised, see above.
        let previous = unsafe { previous.assume_init() };
        Ok(Self {
            signal,
            event,
            previous,
        })
    }

    /// Blocks the thread until the signal was delivered, or [`wake`](Self::wake) called, since the last
    /// time.
    pub fn wait(&self) {
        let mut poll = libc::pollfd {
            fd: self.event.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut count = 0u64;
        loop {
            // SAFETY: one structure, valid for the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
            // Below 0 it was EINTR: the kernel refuses nothing else here.
            if ready > 0 {
                let fd = self.event.as_raw_fd();
                // SAFETY: 8 writable bytes. It fails where another thread was quicker.
                let read = unsafe { libc::read(fd, ptr::from_mut(&mut count).cast(), 8) };
                if read == 8 {
                    return;
                }
            }
        }
    }

    /// Ends a [`wait`](Self::wait) of another thread, or the next one.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: 8 readable bytes. It fails only when the counter is full: then it is readable.
        unsafe { libc::write(self.event.as_raw_fd(), ptr::from_ref(&one).cast(), 8) };
    }

    /// How often the signal was delivered since it is caught. Deliveries that come before one was
    /// handled are one, as signals are.
    pub fn count(&self) -> u32 {
        slot(self.signal).map_or(0, SignalSlot::count)
    }

    /// Ends it; how often the signal was delivered. None is missing: a later one finds the action that
    /// there was before.
    pub fn end(self) -> u32 {
        self.put_back();
        self.count()
    }

    fn put_back(&self) {
        if action(self.signal).is_ok_and(|action| is_ours(&action)) {
            // SAFETY: the action that the kernel gave us before.
            unsafe { libc::sigaction(self.signal, &raw const self.previous, ptr::null_mut()) };
        }
        if let Ok(slot) = slot(self.signal) {
            slot.retire();
        }
    }
}

impl AsFd for Catch {
    /// The eventfd that is readable once the signal was delivered; nobody reads it here.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for Catch {
    fn drop(&mut self) {
        self.put_back();
        if let Ok(slot) = slot(self.signal) {
            slot.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    /// Empties it.
    fn was_readable(catch: &Catch) -> bool {
        let mut event = File::from(catch.as_fd().try_clone_to_owned().unwrap());
        event.read(&mut [0; 8]).is_ok()
    }

    /// One test, for signals belong to the process.
    #[test]
    fn a_signal_is_caught_counted_and_given_back() {
        const SIGNAL: i32 = libc::SIGUSR2;
        let raise = || {
            // SAFETY: a number; the signal is caught.
            unsafe { libc::raise(SIGNAL) };
        };
        assert!(is_default(SIGNAL).unwrap());
        let catch = Catch::new(SIGNAL, 0).unwrap();
        assert!(!is_default(SIGNAL).unwrap());
        assert!(!was_readable(&catch));
        for count in 1..=3 {
            raise();
            assert_eq!(catch.count(), count);
        }
        assert!(was_readable(&catch));
        let twice = Catch::new(SIGNAL, 0).unwrap_err();
        assert_eq!(twice.raw_os_error(), Some(libc::EBUSY));
        drop(catch);
        assert!(is_default(SIGNAL).unwrap());
        // A new catch begins anew.
        let catch = Catch::new(SIGNAL, 0).unwrap();
        assert_eq!(catch.count(), 0);
        // Somebody else's action stays.
        // SAFETY: ignoring a signal is a valid action.
        unsafe { libc::signal(SIGNAL, libc::SIG_IGN) };
        drop(catch);
        assert!(!is_default(SIGNAL).unwrap());
        raise();
        // SAFETY: as above; the default is what it was.
        unsafe { libc::signal(SIGNAL, libc::SIG_DFL) };
        for signal in [0, -1, 65, libc::SIGKILL, libc::SIGSTOP] {
            let refused = Catch::new(signal, 0).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "{signal}");
        }
    }

    #[test]
    fn a_test_does_not_run_in_the_main_thread() {
        assert!(!is_main_thread());
    }
}
