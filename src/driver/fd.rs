//! A descriptor as operations hold it, and the stash of what arrived for nobody.
//!
//! **Guarantees.** The descriptor is closed when the last holder lets go: the owner *and* every
//! operation in flight hold one, so its number can not be reused between a submission and the
//! kernel's use of it (cookbook §6.3 rule 6). What an orphaned receive or accept brought is kept
//! here, in order, for the next one: no byte and no connection is lost to a dropped future. While one
//! may still bring something, or something is kept, the descriptor is *disturbed*, and the
//! [`Engine`](super::Engine) holds later receives and accepts back.

use super::blocks;
use crate::sys::socket;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;

thread_local! {
    static CLOSED: Cell<u64> = const { Cell::new(0) };
    static MADE: Cell<u32> = const { Cell::new(0) };
}

/// How many descriptors this thread's loops have closed; a listener that ran out of descriptors
/// tries again when it grows.
pub fn closed_count() -> u64 {
    CLOSED.get()
}

/// Counts a descriptor that was closed otherwise than by dropping its last [`Fd`].
pub(crate) fn count_closed() {
    // `try_with`: the last holder may go while the thread ends.
    let _ = CLOSED.try_with(|count| count.set(count.get() + 1));
}

/// A shared descriptor with its stash. Clones name the same descriptor.
///
/// As an `Rc` would be, but with a count of 32 bits and no weak ones, and in a block of `blocks.rs`.
pub struct Fd(NonNull<Inner>, PhantomData<Inner>);

/// What all clones share.
pub(super) struct Inner {
    /// How many `Fd` point here; the last one gives this back.
    holders: Cell<u32>,
    fd: OwnedFd,
    id: u32,
    family: Cell<Family>,
    /// It has a stash.
    disturbed: Cell<bool>,
}

// Part of the price of a connection.
const _: () = assert!(size_of::<Inner>() == 16);

impl Inner {
    #[inline]
    pub(super) fn is_disturbed(&self) -> bool {
        self.disturbed.get()
    }
}

impl Clone for Fd {
    #[inline]
    fn clone(&self) -> Self {
        let holders = &self.inner().holders;
        match holders.get().checked_add(1) {
            Some(more) => holders.set(more),
            // Only by leaking clones: no memory could hold as many.
            None => std::process::abort(),
        }
        Self(self.0, PhantomData)
    }
}

impl Drop for Fd {
    #[inline]
    fn drop(&mut self) {
        let holders = &self.inner().holders;
        let left = holders.get() - 1;
        holders.set(left);
        if left == 0 {
            self.free();
        }
    }
}

impl Fd {
    /// The last one goes. Not part of what every message comes by.
    #[cold]
    #[inline(never)]
    fn free(&mut self) {
        // SAFETY: taken in `new`, by the same thread; the count says that nobody else points there.
        drop(unsafe { blocks::give_back(self.0) });
    }
}

/// What is known of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unknown,
    /// A Unix socket of some type.
    Unix,
    /// No Unix socket.
    NotUnix,
    /// All there is to know.
    Known(SocketKind),
}

/// A socket, as far as receiving from it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketKind {
    Tcp,
    UnixStream,
    OtherUnix,
    Other,
}

/// What is kept of a disturbed descriptor.
#[derive(Default)]
pub(super) struct Stash {
    bytes: VecDeque<u8>,
    accepted: VecDeque<OwnedFd>,
    end: Option<i32>,
    /// Takes that nobody waits for and whose last completion was not adopted.
    orphans: u32,
}

impl Stash {
    pub(super) fn is_empty(&self) -> bool {
        self.orphans == 0 && self.bytes.is_empty() && self.accepted.is_empty() && self.end.is_none()
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fd({})", self.as_raw_fd())
    }
}

impl Fd {
    /// Takes the descriptor over; it is closed when the last clone and the last operation let go.
    pub fn new(fd: OwnedFd) -> Self {
        let id = MADE.get().wrapping_add(1).max(1);
        MADE.set(id);
        let inner = blocks::take(Inner {
            holders: Cell::new(1),
            fd,
            id,
            family: Cell::new(Family::Unknown),
            disturbed: Cell::new(false),
        });
        Self(inner, PhantomData)
    }

    /// Of what the clones share.
    #[cfg(test)]
    pub(super) fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    #[inline]
    fn inner(&self) -> &Inner {
        // SAFETY: it lives until the last `Fd` that points there is dropped, belongs to one thread, and
        // is only borrowed shared.
        unsafe { self.0.as_ref() }
    }

    /// As [`new`](Self::new), for a connection of that listener: a socket of the same kind.
    pub(crate) fn accepted(fd: OwnedFd, listener: &Self) -> Self {
        let fd = Self::new(fd);
        // Not of what is no socket: nothing is accepted from that.
        let _ = listener.kind();
        fd.inner().family.set(listener.inner().family.get());
        fd
    }

    /// What kind of socket it is. The kernel is asked at most once.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    #[inline]
    pub(super) fn kind(&self) -> io::Result<SocketKind> {
        match self.inner().family.get() {
            Family::Known(kind) => Ok(kind),
            _ => self.ask_kind(),
        }
    }

    #[cold]
    fn ask_kind(&self) -> io::Result<SocketKind> {
        let option = |name| socket::option(self, libc::SOL_SOCKET, name);
        let kind = match option(libc::SO_DOMAIN)? {
            libc::AF_INET | libc::AF_INET6 => match option(libc::SO_PROTOCOL)? {
                libc::IPPROTO_TCP => SocketKind::Tcp,
                _ => SocketKind::Other,
            },
            libc::AF_UNIX => match option(libc::SO_TYPE)? {
                libc::SOCK_STREAM => SocketKind::UnixStream,
                _ => SocketKind::OtherUnix,
            },
            _ => SocketKind::Other,
        };
        self.inner().family.set(Family::Known(kind));
        Ok(kind)
    }

    /// Whether it is a Unix socket. The kernel is asked at most once.
    pub(super) fn is_unix(&self) -> bool {
        if self.inner().family.get() == Family::Unknown {
            let domain = socket::option(self, libc::SOL_SOCKET, libc::SO_DOMAIN);
            self.set_unix(matches!(domain, Ok(libc::AF_UNIX)));
        }
        matches!(
            self.inner().family.get(),
            Family::Unix | Family::Known(SocketKind::UnixStream | SocketKind::OtherUnix)
        )
    }

    /// Notes whether it is a Unix socket.
    pub(super) fn set_unix(&self, is_unix: bool) {
        if let Family::Known(_) = self.inner().family.get() {
            return;
        }
        self.inner().family.set(match is_unix {
            true => Family::Unix,
            false => Family::NotUnix,
        });
    }

    /// Tells descriptors of this thread apart even when their numbers are the same one, used again;
    /// never 0.
    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.inner().id
    }

    /// Whether nobody else, and no operation, holds the descriptor.
    pub fn is_unique(&self) -> bool {
        self.inner().holders.get() == 1
    }

    /// Works on the stash; `None` when there is none. `f` calls no code of others.
    fn with_stash<R>(&self, f: impl FnOnce(&mut Stash) -> R) -> Option<R> {
        self.is_disturbed().then(|| self.add_to_stash(f))
    }

    /// The same, with an empty one when there is none.
    fn add_to_stash<R>(&self, f: impl FnOnce(&mut Stash) -> R) -> R {
        let (result, kept) = blocks::with_stash(self.0, f);
        self.inner().disturbed.set(kept);
        result
    }

    /// Whether something is kept here, or may still be brought.
    #[inline]
    pub(super) fn is_disturbed(&self) -> bool {
        self.inner().is_disturbed()
    }

    /// Whether something may still be brought.
    pub(super) fn has_orphans(&self) -> bool {
        self.with_stash(|stash| stash.orphans > 0) == Some(true)
    }

    /// A receive or accept is orphaned.
    pub(super) fn add_orphan(&self) {
        self.add_to_stash(|stash| stash.orphans += 1);
    }

    /// Its last completion was adopted.
    pub(super) fn drop_orphan(&self) {
        self.with_stash(|stash| stash.orphans -= 1);
    }

    /// Keeps bytes that an orphaned receive brought.
    pub(crate) fn stash_bytes(&self, bytes: &[u8]) {
        self.add_to_stash(|stash| stash.bytes.extend(bytes));
    }

    /// Keeps bytes that an orphaned one-shot receive brought. It may have had them from here, so what is
    /// here comes behind them.
    pub(crate) fn stash_bytes_first(&self, bytes: &[u8]) {
        self.add_to_stash(|stash| {
            let behind = std::mem::replace(&mut stash.bytes, bytes.to_vec().into());
            stash.bytes.extend(behind);
        });
    }

    /// Keeps an end of stream (0) or an error (negated errno) that an orphaned receive met.
    pub(crate) fn stash_end(&self, result: i32) {
        self.add_to_stash(|stash| stash.end = Some(result));
    }

    /// Keeps a connection that an orphaned accept brought.
    pub(crate) fn stash_accepted(&self, fd: OwnedFd) {
        self.add_to_stash(|stash| stash.accepted.push_back(fd));
    }

    /// Keeps a connection that an orphaned one-shot accept brought, likewise.
    pub(crate) fn stash_accepted_first(&self, fd: OwnedFd) {
        self.add_to_stash(|stash| stash.accepted.push_front(fd));
    }

    /// Moves stashed bytes to `buf`: how many, or the stashed end (0 or a negated errno), or
    /// `None` when nothing is kept. An empty `buf` gets 0 and takes nothing, not even the end.
    ///
    /// There is no need to call it before a receive, which gets them by itself.
    pub fn take_bytes(&self, buf: &mut [u8]) -> Option<i32> {
        self.with_stash(|stash| {
            if stash.bytes.is_empty() {
                return match buf.is_empty() {
                    true => stash.end.map(|_| 0),
                    false => stash.end.take(),
                };
            }
            let n = buf.len().min(stash.bytes.len());
            for (to, from) in buf.iter_mut().zip(stash.bytes.drain(..n)) {
                *to = from;
            }
            i32::try_from(n).ok()
        })?
    }

    /// Takes all stashed bytes, or else the stashed end.
    pub(super) fn take_all(&self) -> Option<Result<Vec<u8>, i32>> {
        self.with_stash(|stash| match std::mem::take(&mut stash.bytes) {
            bytes if bytes.is_empty() => stash.end.take().map(Err),
            bytes => Some(Ok(bytes.into())),
        })?
    }

    /// Takes the oldest stashed connection.
    ///
    /// There is no need to call it before an accept, which gets it by itself.
    pub fn take_accepted(&self) -> Option<OwnedFd> {
        self.with_stash(|stash| stash.accepted.pop_front())?
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner().fd.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.inner().fd.as_raw_fd()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        count_closed();
    }
}
