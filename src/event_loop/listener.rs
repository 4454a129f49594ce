//! A listening socket of a server: how it was come by, and how it is given up.
//!
//! ```text
//!   Bound ──listen──▶ Listening ──arm──▶ Armed ◀──resume── Paused (out of descriptors)
//!     └───────────────────┴────────────────┴─────────────────┴──close──▶ Closed
//! ```
//!
//! The accept loop is in [`accept`](super::accept).

use super::core::Core;
use super::exception::ExceptionContext;
use super::handle::TimerHandle;
use crate::driver::{Fd, Key};
use crate::protocol::Address;
use crate::sys::names;
use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// See the module.
pub(super) struct Listener {
    fd: RefCell<Option<Fd>>,
    /// Made by this server, so nobody else holds it.
    own: bool,
    cleanup: Cell<Option<Cleanup>>,
    /// The armed accept.
    pub(super) accept: Cell<Option<Key>>,
    /// Why it is not armed.
    pub(super) pause: RefCell<Option<Pause>>,
    /// A shortage before this time of the loop's clock belongs to the one that was reported.
    pub(super) quiet_until: Cell<u64>,
}

/// Accepting is suspended.
pub(super) struct Pause {
    /// Ends it.
    pub(super) timer: TimerHandle,
    /// What [`closed_count`](crate::driver::closed_count) was; ends it when it grows.
    pub(super) closed: u64,
}

impl Listener {
    /// A socket that this server made and bound.
    pub(super) fn own(socket: OwnedFd) -> Self {
        Self::new(socket, true)
    }

    /// A socket that the program brought.
    pub(super) fn adopted(socket: OwnedFd) -> Self {
        Self::new(socket, false)
    }

    fn new(socket: OwnedFd, own: bool) -> Self {
        // Accepted sockets inherit it, which saves a system call for each connection.
        names::set_nodelay(socket.as_fd());
        Self {
            fd: RefCell::new(Some(Fd::new(socket))),
            own,
            cleanup: Cell::new(None),
            accept: Cell::new(None),
            pause: RefCell::new(None),
            quiet_until: Cell::new(0),
        }
    }

    /// Removes the file of a Unix socket when the listener is closed.
    pub(super) fn clean_up(self, cleanup: Option<Cleanup>) -> Self {
        self.cleanup.set(cleanup);
        self
    }

    /// The socket; `None` once closed.
    pub(super) fn fd(&self) -> Option<Fd> {
        self.fd.borrow().clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.fd.borrow().is_none()
    }

    /// The address it is bound to.
    pub(super) fn address(&self) -> Option<Address> {
        names::own(self.fd()?.as_fd()).map(Address::from)
    }

    /// `listen(2)`; the kernel caps what it finds too long.
    pub(super) fn listen(&self, backlog: u32) -> io::Result<()> {
        let length = i32::try_from(backlog)
            .ok()
            .and_then(|length| Backlog::new(length).ok());
        if let Some(fd) = self.fd() {
            listen(&fd, length.unwrap_or(Backlog::MAXALLOWABLE))?;
        }
        Ok(())
    }

    /// Ends listening. What completes afterwards is closed by the orphan rule of the accept: kept
    /// by the descriptor, and closed with it.
    ///
    /// The armed accept holds the descriptor until its cancel was reaped, so dropping ours does
    /// not close the socket yet. One that the server made itself is therefore shut down, which
    /// makes the kernel refuse connections from this moment on. An adopted one is not: it may be
    /// shared with other processes (inherited, or passed by a service manager), and a shutdown
    /// would end listening for them too.
    pub(super) fn close(&self, core: &Core) {
        let Some(fd) = self.fd.take() else { return };
        if let Some(pause) = self.pause.take() {
            pause.timer.cancel();
        }
        if let Some(key) = self.accept.take() {
            core.abandon(key);
        }
        if self.own {
            // ENOTCONN: it was bound but never listened.
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
        }
        drop(fd);
        if let Some(cleanup) = self.cleanup.take()
            && let Err(error) = cleanup.run()
        {
            let path = cleanup.path.display();
            let message = format!("Unable to clean up listening UNIX socket '{path}'");
            core.report(ExceptionContext::error(message, error));
        }
    }
}

/// The file of a Unix socket, to be removed if it still is that socket.
pub(super) struct Cleanup {
    path: PathBuf,
    identity: (u64, u64),
}

impl Cleanup {
    /// Of the socket at `path`; `None` when there is none any more.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        Ok(identity(path)?.map(|identity| Self {
            path: path.to_owned(),
            identity,
        }))
    }

    fn run(&self) -> io::Result<()> {
        if identity(&self.path)? == Some(self.identity) {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// Device and inode of a file, if there is one.
fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
