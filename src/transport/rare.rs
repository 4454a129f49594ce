//! What few transports need, in one box that the others do not have.
//!
//! **Guarantees.** A transport that is not paused, never had much to send, has the usual water marks and a
//! protocol that is handed leases keeps one pointer for all this. Nothing in here runs code of others: what
//! is taken out is dropped by the caller.

use super::bulk::Bulk;
use super::receive::Held;
use super::socket::SocketTransport;
use crate::protocol::{Address, BufferedProtocol, WriteLimits};
use std::rc::Rc;

/// See the module.
#[derive(Default)]
pub(super) struct Rare {
    /// What completed while reading was paused, in order.
    pub(super) held: Option<Held>,
    pub(super) bulk: Option<Bulk>,
    /// Water marks that were set.
    pub(super) limits: Option<WriteLimits>,
    /// The protocol, if it lends buffers.
    pub(super) buffered: Option<Rc<dyn BufferedProtocol>>,
    /// The peer's address, if it is no IPv4 one.
    pub(super) peer: Option<Address>,
    /// The socket's own address, once somebody asked or the socket is closed.
    pub(super) own: Option<Address>,
    /// Writes that were dropped after the loss.
    pub(super) dropped_writes: u32,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.held.is_none()
            && self.bulk.is_none()
            && self.limits.is_none()
            && self.buffered.is_none()
            && self.peer.is_none()
            && self.own.is_none()
            && self.dropped_writes == 0
    }
}

impl SocketTransport {
    /// Changes what is rare. `f` must not run code of others.
    #[cold]
    pub(super) fn with_rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> R {
        let mut rare = self.rare.take().unwrap_or_default();
        let result = f(&mut rare);
        if !rare.is_empty() {
            self.rare.set(Some(rare));
        }
        result
    }

    /// The same if there is something, else nothing.
    #[inline]
    pub(super) fn rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> Option<R> {
        let mut rare = self.rare.take()?;
        let result = f(&mut rare);
        if !rare.is_empty() {
            self.rare.set(Some(rare));
        }
        Some(result)
    }
}
