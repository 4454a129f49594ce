//! One epoll instance, waiting to the nanosecond.
//!
//! nix wraps epoll too, but without `epoll_pwait2(2)` (Linux 5.11), and with milliseconds a timer is
//! late by half of one on average.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How long a wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Zero,
    /// So long.
    For(Duration),
    /// Until an event comes.
    Forever,
}

/// What is registered for each descriptor: `EPOLLIN`, `EPOLLOUT` …
pub type Mask = u32;

/// Room for the events of one wait.
pub struct Events {
    list: Vec<libc::epoll_event>,
    count: usize,
}

impl Events {
    /// Room for `capacity` events.
    pub fn new(capacity: usize) -> Self {
        Self {
            list: vec![libc::epoll_event { events: 0, u64: 0 }; capacity],
            count: 0,
        }
    }

    /// How many events the last wait brought.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the last wait brought none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What happened and the value it was registered with.
    ///
    /// # Panics
    /// When `index` is not below [`Events::len`].
    #[inline]
    pub fn get(&self, index: usize) -> (Mask, u64) {
        let event = self.list[..self.count][index];
        (event.events, event.u64)
    }
}

/// An epoll instance. Closed on drop; registered descriptors stay open.
pub struct Epoll {
    /// `None` once closed: calls then fail with `EBADF`.
    fd: Option<OwnedFd>,
    /// `epoll_pwait2` was not refused so far.
    exact: Cell<bool>,
}

impl Epoll {
    /// A new instance, close-on-exec.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`: the limit of open descriptors; `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: the descriptor was just made and nobody else knows it.
            fd: Some(unsafe { OwnedFd::from_raw_fd(fd) }),
            exact: Cell::new(true),
        })
    }

    /// Whether waits end to the nanosecond, as far as known: false once the kernel refused
    /// `epoll_pwait2`; waits are then rounded up to the millisecond.
    pub fn is_exact(&self) -> bool {
        self.exact.get()
    }

    /// Closes the instance before it is dropped; every later call fails with `EBADF`.
    pub fn close(&mut self) {
        self.fd = None;
    }

    #[inline]
    fn raw(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    fn control(&self, operation: i32, fd: RawFd, mask: Mask, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: mask,
            u64: data,
        };
        // SAFETY: the event is only read, during the call.
        let done = unsafe { libc::epoll_ctl(self.raw(), operation, fd, &raw mut event) };
        super::check(done as isize).map(drop)
    }

    /// Registers a descriptor, which leaves by itself when it (and every duplicate) is closed; its
    /// events carry `data`.
    ///
    /// # Errors
    /// `EEXIST`: registered already; `EPERM`: this kind of file is always ready and can not be
    /// waited for; `ENOSPC`: the user's limit of registrations (`fs.epoll.max_user_watches`); `ENOMEM`.
    pub fn add(&self, fd: RawFd, mask: Mask, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, mask, data)
    }

    /// Changes a registration. What is ready at this moment is reported anew.
    ///
    /// # Errors
    /// `ENOENT`: not registered.
    pub fn modify(&self, fd: RawFd, mask: Mask, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, mask, data)
    }

    /// Waits for events; how many came is in `events`, 0 after the time is over.
    ///
    /// # Errors
    /// `EINTR`: a signal handler ran.
    pub fn wait(&self, events: &mut Events, wait: Wait) -> io::Result<()> {
        events.count = 0;
        let count = match wait {
            Wait::Zero => self.wait_millis(events, 0)?,
            Wait::Forever => self.wait_millis(events, -1)?,
            Wait::For(time) => match self.wait_exactly(events, time) {
                Some(counted) => counted?,
                None => self.wait_millis(events, millis_up(time))?,
            },
        };
        events.count = count;
        Ok(())
    }

    fn wait_millis(&self, events: &mut Events, millis: i32) -> io::Result<usize> {
        // SAFETY: the kernel writes at most as many events as the list has room for.
        let count = unsafe {
            libc::epoll_wait(
                self.raw(),
                events.list.as_mut_ptr(),
                events.list.len() as i32,
                millis,
            )
        };
        super::check(count as isize)
    }

    /// `None` when the kernel does not know the call (before 5.11: ENOSYS) or a seccomp filter
    /// refuses it (ENOSYS or EPERM, which the call itself never gives).
    fn wait_exactly(&self, events: &mut Events, time: Duration) -> Option<io::Result<usize>> {
        if !self.exact.get() {
            return None;
        }
        let time = KernelTimespec {
            seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: i64::from(time.subsec_nanos()),
        };
        // SAFETY: the kernel writes at most as many events as the list has room for, reads the time
        // (whose layout is the kernel's on every architecture) and, with a null mask, no signal set.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.raw(),
                events.list.as_mut_ptr(),
                events.list.len() as i32,
                &raw const time,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        let counted = super::check(count as isize);
        if let Err(error) = &counted
            && let Some(libc::ENOSYS | libc::EPERM) = error.raw_os_error()
        {
            self.exact.set(false);
            return None;
        }
        Some(counted)
    }
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// Milliseconds, rounded up so that a wait never ends early.
fn millis_up(time: Duration) -> i32 {
    i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EventFd;

    #[test]
    fn a_wait_takes_as_long_as_said_and_no_millisecond_longer_than_needed() {
        let epoll = Epoll::new().unwrap();
        let mut events = Events::new(4);
        let time = Duration::from_micros(300);
        let start = std::time::Instant::now();
        epoll.wait(&mut events, Wait::For(time)).unwrap();
        assert!(start.elapsed() >= time);
        assert!(events.is_empty());
    }

    #[test]
    fn without_pwait2_waits_are_rounded_up() {
        let epoll = Epoll::new().unwrap();
        epoll.exact.set(false);
        let mut events = Events::new(4);
        let start = std::time::Instant::now();
        let time = Duration::from_micros(1100);
        epoll.wait(&mut events, Wait::For(time)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(2));
        assert_eq!(millis_up(Duration::from_nanos(1)), 1);
        assert_eq!(millis_up(Duration::from_millis(7)), 7);
        assert_eq!(millis_up(Duration::MAX), i32::MAX);
    }

    #[test]
    fn events_carry_their_data() {
        let epoll = Epoll::new().unwrap();
        let event = EventFd::new().unwrap();
        let mask = (libc::EPOLLIN | libc::EPOLLET) as Mask;
        epoll.add(event.as_raw_fd(), mask, 42).unwrap();
        let again = epoll.add(event.as_raw_fd(), mask, 42).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
        let mut events = Events::new(4);
        epoll.wait(&mut events, Wait::Zero).unwrap();
        assert_eq!(events.len(), 0);
        for _ in 0..2 {
            // Edge-triggered: each write is an event, though nobody reads.
            event.write(1).unwrap();
            epoll.wait(&mut events, Wait::Forever).unwrap();
            assert_eq!(events.len(), 1);
            assert_eq!(events.get(0), (libc::EPOLLIN as Mask, 42));
        }
        let mut epoll = epoll;
        epoll.close();
        let closed = epoll.wait(&mut events, Wait::Forever).unwrap_err();
        assert_eq!(closed.raw_os_error(), Some(libc::EBADF));
    }
}
