//! What the driver knows of each descriptor, and its one registration.
//!
//! **Guarantees.** A slot belongs to one [`Fd`] and is found by the descriptor's number. When the
//! number is used again by another `Fd`, the slot starts anew under the next generation, and events
//! of the old one are ignored. While operations wait here they hold the `Fd`, so a slot with
//! waiters is never reused.
//!
//! What is known of reading, edge-triggered:
//!
//! ```text
//!                 edge                             would block, or drained by a short read
//!   not readable ──────▶ readable (exhaust: the edge told of urgent data, an end or an error)
//!        ▲                  │  ──────────────────────────────────────────────┐
//!        └──────────────────┴────────────────────────────────────────────────┘
//! ```
//!
//! "Not readable" means that the kernel reports an edge once it is again, so waiting is safe. A short
//! read only counts as drained when nothing else can have shortened it; see `receive.rs`.
//!
//! Interest is only ever what somebody waited for. It is kept when the operation completes, since
//! the next one mostly wants the same, and dropped when edges come that nobody claims: otherwise the
//! peer of a paused connection would wake the loop with every packet.

use super::super::fd::{Fd, SocketKind};
use super::waiters::Waiters;
use crate::sys::epoll::Epoll;
use std::io;
use std::ops::{Index, IndexMut};
use std::os::fd::{AsRawFd, RawFd};

/// Interest of receives and accepts.
pub(super) const READ: u32 = (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP) as u32;
/// Interest of sends and connects.
pub(super) const WRITE: u32 = libc::EPOLLOUT as u32;
/// After these a short read proves nothing.
const EXHAUST: u32 = (libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
/// Reported for every registration, asked for or not.
const ALWAYS: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// Names a slot while it belongs to one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileRef {
    fd: RawFd,
    generation: u32,
}

impl FileRef {
    /// The value that travels through epoll.
    const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.fd as u32 as u64
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self {
            fd: bits as u32 as RawFd,
            generation: (bits >> 32) as u32,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct File {
    /// The [`Fd::id`] of the owner; 0 while there is none.
    id: u32,
    generation: u32,
    /// What is registered; 0: the descriptor is not.
    interest: u32,
    /// What it is, once somebody has asked.
    pub(super) kind: Option<SocketKind>,
    /// A receive or accept may find something.
    pub(super) readable: bool,
    /// Read until it would block.
    pub(super) exhaust: bool,
    /// Is in the driver's `again` list.
    pub(super) queued: bool,
    /// Is in the driver's `starving` list.
    pub(super) starved: bool,
    /// Is known to be in non-blocking mode.
    pub(super) nonblocking: bool,
    pub(super) readers: Waiters,
    pub(super) writers: Waiters,
    pub(super) polls: Waiters,
}

impl File {
    /// Notes an edge; returns the interest that it should cost because nobody claims it.
    #[inline]
    pub(super) fn take_edge(&mut self, mask: u32) -> u32 {
        let reads = mask & (READ | ALWAYS) != 0;
        let known = self.readable;
        self.readable |= reads;
        self.exhaust |= mask & EXHAUST != 0;
        let wanted = !self.readers.is_empty() || !self.writers.is_empty() || !self.polls.is_empty();
        if wanted || mask & ALWAYS != 0 {
            0
        } else if !reads {
            mask & WRITE
        } else if known {
            READ
        } else {
            0
        }
    }

    /// A receive found nothing, or drained the socket.
    #[inline]
    pub(super) fn set_drained(&mut self) {
        self.readable = false;
        self.exhaust = false;
    }
}

/// The slots, by descriptor number.
#[derive(Debug, Default)]
pub(super) struct Files {
    slots: Vec<File>,
}

impl Files {
    /// The slot of `fd`, if it has one.
    #[inline]
    pub(super) fn find(&self, fd: &Fd) -> Option<FileRef> {
        let number = fd.as_raw_fd();
        let file = self.slots.get(number as usize)?;
        (file.id == fd.id()).then_some(FileRef {
            fd: number,
            generation: file.generation,
        })
    }

    /// Whether a send or connect waits.
    pub(super) fn has_writers(&self, fd: &Fd) -> bool {
        self.find(fd).is_some_and(|at| !self[at].writers.is_empty())
    }

    /// The slot of `fd`, made if it has none.
    #[inline]
    pub(super) fn slot(&mut self, fd: &Fd) -> FileRef {
        match self.find(fd) {
            Some(at) => at,
            None => self.make(fd),
        }
    }

    fn make(&mut self, fd: &Fd) -> FileRef {
        let number = fd.as_raw_fd();
        if self.slots.len() <= number as usize {
            self.slots.resize_with(number as usize + 1, File::default);
        }
        let file = &mut self.slots[number as usize];
        let generation = file.generation.wrapping_add(1);
        *file = File {
            id: fd.id(),
            generation,
            ..File::default()
        };
        FileRef {
            fd: number,
            generation,
        }
    }

    /// The slot, if it still belongs to the same descriptor.
    #[inline]
    pub(super) fn get_mut(&mut self, at: FileRef) -> Option<&mut File> {
        let file = self.slots.get_mut(at.fd as usize)?;
        (file.generation == at.generation).then_some(file)
    }

    /// Makes sure that edges of `bits` are reported; whether that took a call, after which what is
    /// ready already is reported too.
    ///
    /// # Errors
    /// `EPERM`: a file that is always ready; `ENOSPC`, `ENOMEM`: see [`Epoll::add`].
    #[inline]
    pub(super) fn watch(&mut self, epoll: &Epoll, at: FileRef, bits: u32) -> io::Result<bool> {
        let file = &mut self.slots[at.fd as usize];
        let interest = file.interest | bits;
        if interest == file.interest {
            return Ok(false);
        }
        let mask = interest | libc::EPOLLET as u32;
        let data = at.to_bits();
        let first = if file.interest == 0 {
            epoll.add(at.fd, mask, data)
        } else {
            epoll.modify(at.fd, mask, data)
        };
        match first {
            Ok(()) => {}
            // The same file had this number before (a duplicate moved back): its registration lives.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                epoll.modify(at.fd, mask, data)?;
            }
            Err(error) => return Err(error),
        }
        file.interest = interest;
        Ok(true)
    }

    /// Has what is ready at this moment reported by the next wait, as if its edges came now.
    ///
    /// # Errors
    /// See [`Epoll::modify`].
    pub(super) fn report_again(&self, epoll: &Epoll, at: FileRef) -> io::Result<()> {
        let mask = self.slots[at.fd as usize].interest | libc::EPOLLET as u32;
        epoll.modify(at.fd, mask, at.to_bits())
    }

    /// Stops edges that nobody claims. Whoever waits for them later calls [`Files::watch`].
    #[cold]
    pub(super) fn disregard(&mut self, epoll: &Epoll, at: FileRef, bits: u32) {
        let file = &mut self.slots[at.fd as usize];
        // Never empty, which would mean that it is not registered.
        let interest = (file.interest & !bits) | ALWAYS;
        let mask = interest | libc::EPOLLET as u32;
        // Fails when the descriptor is closed and a duplicate made the edge: then nobody cares.
        if epoll.modify(at.fd, mask, at.to_bits()).is_ok() {
            file.interest = interest;
        }
    }
}

impl Index<FileRef> for Files {
    type Output = File;

    #[inline]
    fn index(&self, at: FileRef) -> &File {
        &self.slots[at.fd as usize]
    }
}

impl IndexMut<FileRef> for Files {
    #[inline]
    fn index_mut(&mut self, at: FileRef) -> &mut File {
        &mut self.slots[at.fd as usize]
    }
}
