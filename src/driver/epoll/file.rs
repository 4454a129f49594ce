//! What the driver knows of each descriptor, and its one registration.
//!
//! **Guarantees.** A slot belongs to one [`Fd`] and is found by the descriptor's number. When the
//! number is used again by another `Fd`, the slot starts anew under the id of that one, and events
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

use super::super::{Fd, Key};
use super::waiters::{Waiter, Waiters};
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
    /// Its [`Fd::id`].
    id: u32,
}

impl FileRef {
    /// The value that travels through epoll.
    const fn to_bits(self) -> u64 {
        (self.id as u64) << 32 | self.fd as u32 as u64
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self {
            fd: bits as u32 as RawFd,
            id: (bits >> 32) as u32,
        }
    }
}

#[derive(Debug)]
pub(super) struct File {
    more: Option<Box<More>>,
    /// While one reads: who does. Mostly nobody else waits.
    reader: Waiter,
    /// The [`Fd::id`] of the owner; 0 while there is none.
    id: u32,
    /// What is registered (there are 16 events at most); 0: the descriptor is not.
    interest: u16,
    reads: bool,
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
}

// There is one for each descriptor number: part of the price of an idle connection.
const _: () = assert!(size_of::<File>() == 32);

/// Who else waits. Made when the first one comes, and kept while the slot has its owner.
#[derive(Debug, Default)]
struct More {
    /// Only used while one reads.
    readers: Waiters,
    writers: Waiters,
    polls: Waiters,
}

impl File {
    /// The slot of a descriptor of which nothing is known.
    const fn new(id: u32) -> Self {
        Self {
            more: None,
            reader: Waiter::NOBODY,
            id,
            interest: 0,
            reads: false,
            readable: false,
            exhaust: false,
            queued: false,
            starved: false,
            nonblocking: false,
        }
    }

    /// Notes an edge; returns the interest that it should cost because nobody claims it.
    #[inline]
    pub(super) fn take_edge(&mut self, mask: u32) -> u32 {
        let reads = mask & (READ | ALWAYS) != 0;
        let known = self.readable;
        self.readable |= reads;
        self.exhaust |= mask & EXHAUST != 0;
        let wanted = self.reads || self.writer().is_some() || self.has_polls();
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

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The first that waits to receive or accept.
    #[inline]
    pub(super) fn reader(&self) -> Option<Waiter> {
        self.reads.then_some(self.reader)
    }

    pub(super) fn push_reader(&mut self, waiter: Waiter) {
        if self.reads {
            self.more().readers.push(waiter);
        } else {
            self.reads = true;
            self.reader = waiter;
        }
    }

    /// Takes the first away.
    pub(super) fn pop_reader(&mut self) {
        let next = self.more.as_mut().and_then(|more| more.readers.pop());
        self.reads = next.is_some();
        self.reader = next.unwrap_or(Waiter::NOBODY);
    }

    /// The first that waits to send or connect.
    #[inline]
    pub(super) fn writer(&self) -> Option<Waiter> {
        self.more.as_ref().and_then(|more| more.writers.front())
    }

    pub(super) fn push_writer(&mut self, waiter: Waiter) {
        self.more().writers.push(waiter);
    }

    /// Takes the first away.
    pub(super) fn pop_writer(&mut self) {
        self.more().writers.pop();
    }

    #[inline]
    pub(super) fn has_polls(&self) -> bool {
        self.more
            .as_ref()
            .is_some_and(|more| !more.polls.is_empty())
    }

    pub(super) fn push_poll(&mut self, waiter: Waiter) {
        self.more().polls.push(waiter);
    }

    /// Takes the polls away that `keep` refuses; asked in order.
    pub(super) fn retain_polls(&mut self, keep: impl FnMut(&Waiter) -> bool) {
        self.more().polls.retain(keep);
    }

    /// Takes a reader or a poll away; whether it was there.
    pub(super) fn remove(&mut self, key: Key) -> bool {
        if self.reader().is_some_and(|reader| reader.key == key) {
            self.pop_reader();
            return true;
        }
        (self.more.as_mut()).is_some_and(|more| more.readers.remove(key) || more.polls.remove(key))
    }

    /// Takes a writer away; whether it was there.
    pub(super) fn remove_writer(&mut self, key: Key) -> bool {
        (self.more.as_mut()).is_some_and(|more| more.writers.remove(key))
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
            id: file.id,
        })
    }

    /// Whether a send or connect waits.
    pub(super) fn has_writers(&self, fd: &Fd) -> bool {
        self.find(fd).is_some_and(|at| self[at].writer().is_some())
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
        let at = FileRef {
            fd: fd.as_raw_fd(),
            id: fd.id(),
        };
        let missing = (at.fd as usize + 1).saturating_sub(self.slots.len());
        if missing > self.slots.capacity() - self.slots.len() {
            // By a part, where a vector would double.
            let part = (self.slots.len() / 4).max(64);
            self.slots.reserve_exact(part.max(missing));
        }
        let len = self.slots.len() + missing;
        self.slots.resize_with(len, || File::new(0));
        self[at] = File::new(at.id);
        at
    }

    /// The slot, if it still belongs to the same descriptor.
    #[inline]
    pub(super) fn get_mut(&mut self, at: FileRef) -> Option<&mut File> {
        let file = self.slots.get_mut(at.fd as usize)?;
        (file.id == at.id).then_some(file)
    }

    /// Makes sure that edges of `bits` are reported; whether that took a call, after which what is
    /// ready already is reported too.
    ///
    /// # Errors
    /// `EPERM`: a file that is always ready; `ENOSPC`, `ENOMEM`: see [`Epoll::add`].
    #[inline]
    pub(super) fn watch(&mut self, epoll: &Epoll, at: FileRef, bits: u32) -> io::Result<bool> {
        let file = &mut self.slots[at.fd as usize];
        let before = u32::from(file.interest);
        let interest = before | bits;
        if interest == before {
            return Ok(false);
        }
        let mask = interest | libc::EPOLLET as u32;
        let data = at.to_bits();
        let first = if before == 0 {
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
        file.interest = interest as u16;
        Ok(true)
    }

    /// Has what is ready at this moment reported by the next wait, as if its edges came now.
    ///
    /// # Errors
    /// See [`Epoll::modify`].
    pub(super) fn report_again(&self, epoll: &Epoll, at: FileRef) -> io::Result<()> {
        let mask = u32::from(self[at].interest) | libc::EPOLLET as u32;
        epoll.modify(at.fd, mask, at.to_bits())
    }

    /// Stops edges that nobody claims. Whoever waits for them later calls [`Files::watch`].
    #[cold]
    pub(super) fn disregard(&mut self, epoll: &Epoll, at: FileRef, bits: u32) {
        let file = &mut self.slots[at.fd as usize];
        // Never empty, which would mean that it is not registered.
        let interest = (u32::from(file.interest) & !bits) | ALWAYS;
        let mask = interest | libc::EPOLLET as u32;
        // Fails when the descriptor is closed and a duplicate made the edge: then nobody cares.
        if epoll.modify(at.fd, mask, at.to_bits()).is_ok() {
            file.interest = interest as u16;
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
