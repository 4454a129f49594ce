//! A page of memory that a server shares with the program that measures it: the counters of its
//! allocator, read without asking the server, and the switch that turns counting on.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// The counters.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Page {
    counting: AtomicBool,
    allocations: AtomicU64,
    live: AtomicI64,
}

const LENGTH: usize = 4096;

impl Page {
    /// A page that counts nothing.
    pub const fn idle() -> Page {
        Page {
            counting: AtomicBool::new(false),
            allocations: AtomicU64::new(0),
            live: AtomicI64::new(0),
        }
    }

    /// A new page, and the descriptor by which another process attaches to it. The page stays for
    /// the life of the process.
    pub fn create() -> io::Result<(OwnedFd, &'static Page)> {
        // SAFETY: the name is a literal; without CLOEXEC, since a child inherits it.
        let fd = unsafe { libc::memfd_create(c"counters".as_ptr(), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no pointers.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), LENGTH as i64) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let page = Page::attach(fd.as_raw_fd())?;
        Ok((fd, page))
    }

    /// The page behind a descriptor that [`Page::create`] made.
    pub fn attach(fd: RawFd) -> io::Result<&'static Page> {
        // SAFETY: a new mapping touches nothing that exists.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: mapped for the life of the process, zeroed at first, and all fields are atomic
        // and valid at any value that both processes store.
        Ok(unsafe { &*memory.cast::<Page>() })
    }

    /// Turns counting on or off.
    pub fn count(&self, on: bool) {
        self.counting.store(on, Ordering::Relaxed);
    }

    /// Notes an allocation (or a change of size) and by how much the heap grew.
    #[inline]
    pub fn allocated(&self, bytes: i64) {
        if self.counting.load(Ordering::Relaxed) {
            self.allocations.fetch_add(1, Ordering::Relaxed);
            self.live.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Notes that so much was given back.
    #[inline]
    pub fn freed(&self, bytes: i64) {
        if self.counting.load(Ordering::Relaxed) {
            self.live.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Allocations counted so far.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Bytes allocated and not given back while it counted.
    pub fn live(&self) -> i64 {
        self.live.load(Ordering::Relaxed)
    }
}
