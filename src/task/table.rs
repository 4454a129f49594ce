//! The static table of loops: how a wake finds its loop from any thread, at any time.
//!
//! **Guarantees.** Entries are made once, never freed and reused by later loops, so a waker may
//! outlive everything. A wake for a loop that is gone is refused by the entry's inbox, which knows
//! its present owner.
//!
//! **Who may touch it.** [`Tasks`](super::Tasks) claims and releases an entry; wakers and
//! [`Remote`] push from any thread.

use super::id::{LoopId, SLOT_BITS, pack, tag_of};
use super::inbox::Inbox;
use super::permanent::Permanent;
use super::shared::Shared;
use crate::driver::Unpark;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The most loops that exist at one time.
pub const MAX_LOOPS: usize = 1 << SLOT_BITS;

/// A closure sent to a loop.
pub type RemoteCall = Box<dyn FnOnce() + Send>;

/// What other threads send.
pub(super) enum Sent {
    /// The word of a waker.
    Wake(u64),
    Call(RemoteCall),
}

/// What others need of the loop that has the entry.
struct Owner {
    /// `None` once the loop is closed: it may keep a descriptor open.
    unpark: Option<Arc<dyn Unpark>>,
    shared: Arc<Shared>,
}

/// One permanent entry.
pub(super) struct Entry {
    pub(super) inbox: Inbox<Sent>,
    owner: Mutex<Option<Owner>>,
}

impl Entry {
    fn owner<R>(&self, f: impl FnOnce(&mut Option<Owner>) -> R) -> R {
        f(&mut self.owner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, sent: Sent, admitted: impl FnOnce(u64) -> bool) -> Result<(), Sent> {
        if self.inbox.push(sent, admitted)? {
            let unpark = self.owner(|owner| owner.as_ref().and_then(|owner| owner.unpark.clone()));
            if let Some(unpark) = unpark {
                unpark.unpark();
            }
        }
        Ok(())
    }
}

#[cfg(not(loom))]
static TABLE: [Permanent<Entry>; MAX_LOOPS] = [const { Permanent::new() }; MAX_LOOPS];
#[cfg(loom)]
static TABLE: std::sync::LazyLock<Vec<Permanent<Entry>>> =
    std::sync::LazyLock::new(|| (0..MAX_LOOPS).map(|_| Permanent::new()).collect());

/// Slots that were used and released, and how many were ever used.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

fn free<R>(f: impl FnOnce(&mut (Vec<usize>, usize)) -> R) -> R {
    f(&mut FREE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn entry(slot: usize) -> Option<&'static Entry> {
    TABLE[slot].get()
}

/// Takes a free entry for a new loop.
///
/// # Panics
/// When [`MAX_LOOPS`] loops exist.
pub(super) fn claim(
    unpark: Arc<dyn Unpark>,
    shared: impl FnOnce(LoopId) -> Arc<Shared>,
) -> (LoopId, &'static Entry, Arc<Shared>) {
    let slot = free(|(free, used)| {
        free.pop().or_else(|| {
            *used += 1;
            (*used <= MAX_LOOPS).then(|| *used - 1)
        })
    });
    let slot = slot.expect("more than MAX_LOOPS event loops exist");
    // The slot is this call's alone.
    let entry = TABLE[slot].get_or_make(|| Entry {
        inbox: Inbox::new(),
        owner: Mutex::new(None),
    });
    let id = LoopId::next(slot);
    let shared = shared(id);
    let owner = Owner {
        unpark: Some(unpark),
        shared: shared.clone(),
    };
    entry.owner(|place| *place = Some(owner));
    entry.inbox.open(id.get());
    (id, entry, shared)
}

/// Nobody wakes the loop any more. Its inbox is closed already.
pub(super) fn silence(entry: &Entry) {
    let gone = entry.owner(|owner| owner.as_mut().and_then(|owner| owner.unpark.take()));
    drop(gone);
}

/// Gives the entry of a loop back. Its inbox is closed already.
pub(super) fn release(id: LoopId) {
    if let Some(entry) = entry(id.slot()) {
        drop(entry.owner(Option::take));
    }
    free(|(free, _)| free.push(id.slot()));
}

/// The part of a loop that any thread may read, while the loop exists.
pub(super) fn shared(id: LoopId) -> Option<Arc<Shared>> {
    entry(id.slot())?.owner(|owner| {
        owner
            .as_ref()
            .filter(|owner| owner.shared.loop_id == id)
            .map(|owner| owner.shared.clone())
    })
}

/// Wakes a task that is not of the loop running on this thread.
#[cold]
pub(super) fn wake_remote(bits: u64) {
    let tag = tag_of(bits);
    if let Some(entry) = entry(tag as usize & (MAX_LOOPS - 1)) {
        // Refused: the loop is gone, and its tasks with it.
        let _ = entry.push(Sent::Wake(bits), |owner| owner as u16 == tag);
    }
}

/// Sends closures to a loop from any thread: the ground of `call_soon_threadsafe`.
#[derive(Clone, Copy)]
pub struct Remote {
    pub(super) id: LoopId,
}

/// The loop was closed; what was sent to it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event loop is closed")
    }
}

impl std::error::Error for Closed {}

impl Remote {
    /// Queues `f` for the loop's next iteration and wakes the loop if it sleeps.
    ///
    /// # Errors
    /// [`Closed`] after the loop was closed; `f` is dropped by this call.
    pub fn call(&self, f: RemoteCall) -> Result<(), Closed> {
        entry(self.id.slot())
            .ok_or(Closed)?
            .push(Sent::Call(f), |owner| owner == self.id.get())
            .map_err(|_| Closed)
    }

    /// The loop.
    pub const fn loop_id(&self) -> LoopId {
        self.id
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.id).finish()
    }
}

const _: () = assert!(pack(u16::MAX, 0, 0) == (u16::MAX as u64) << 48);
