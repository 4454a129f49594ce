//! The op table: owner of everything in flight.
//!
//! **Guarantees.**
//! * An entry owns its operation (buffers, descriptor) and its completion target from its insertion
//!   until the operation's own final completion was reaped, whatever happened to
//!   the future that started it. A future is only a handle: dropping it, forgetting it, panicking
//!   near it are sound.
//! * Entries stand in chunks that never move.
//! * Keys carry a generation; a completion with a stale one is counted and ignored (trap T24).
//! * A table that is dropped with operations in flight leaks them: memory the kernel may write is
//!   never freed (trap T2).
//!
//! * A take (receive, accept) without a target is counted on its descriptor until its result was adopted.
//!
//! **Who may touch it.** The [`Engine`](super::Engine) it belongs to. A driver is lent it while it is
//! parked, to look its operations up.
//!
//! Nothing here calls user code while the table is borrowed: wakers, targets and adopted results are
//! handed to the caller. The life of an entry is drawn in `entry.rs`.

use super::chunk::Gather;
use super::entry::{Entry, State};
use super::fd::Fd;
use super::op::Op;
use super::pool::{Claim, Pool};
use super::target::{
    Adopted, Complete, Delivery, Dispatch, Event, Orphaned, Parts, Polled, Taken, Target,
};
use super::{Completion, FLAG_BROUGHT, FLAG_BUFFER, FLAG_FD, FLAG_MORE, Key};
use crate::ready::{Kind, ReadyEntry, ReadyQueue};
use std::rc::Rc;
use std::task::Waker;

/// Entries in a chunk.
const CHUNK: usize = 64;

/// The most operations in flight. The upper bits of an index belong to the drivers.
pub(crate) const MAX_OPERATIONS: u32 = 1 << 28;

/// The operations of one engine; see the module.
pub struct OpTable {
    #[expect(clippy::vec_box, reason = "entries never move")]
    chunks: Vec<Box<[Entry; CHUNK]>>,
    free: u32,
    in_flight: usize,
    stale: u64,
    adopted: u64,
}

const NO_ENTRY: u32 = u32::MAX;

impl Default for OpTable {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: NO_ENTRY,
            in_flight: 0,
            stale: 0,
            adopted: 0,
        }
    }
}

impl OpTable {
    /// An empty table. Only an [`Engine`](super::Engine) puts something into it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry of a key that is not stale. It may be vacant only if nobody ever had the key.
    #[inline(always)]
    fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        let chunk = self.chunks.get_mut(key.index as usize / CHUNK)?;
        let entry = &mut chunk[key.index as usize % CHUNK];
        (entry.state.generation() == key.generation).then_some(entry)
    }

    #[cold]
    fn add_chunk(&mut self) {
        let first = (self.chunks.len() * CHUNK) as u32;
        assert!(
            first < MAX_OPERATIONS,
            "more operations in flight than keys can name"
        );
        let free = self.free;
        let chunk: Vec<Entry> = (0..CHUNK as u32)
            .map(|i| Entry {
                state: State::Vacant {
                    generation: 0,
                    next: if i + 1 < CHUNK as u32 {
                        first + i + 1
                    } else {
                        free
                    },
                },
                op: None,
            })
            .collect();
        let Ok(chunk) = chunk.into_boxed_slice().try_into() else {
            unreachable!("CHUNK entries")
        };
        self.chunks.push(chunk);
        self.free = first;
    }

    /// A vacant entry, taken from the list: what is written to it is in flight.
    #[inline(always)]
    fn take_entry(&mut self) -> (Key, &mut Entry) {
        if self.free == NO_ENTRY {
            self.add_chunk();
        }
        let index = self.free;
        let entry = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        let State::Vacant { generation, next } = entry.state else {
            unreachable!("only vacant entries are on the list")
        };
        self.free = next;
        self.in_flight += 1;
        (Key { index, generation }, entry)
    }

    /// Takes an operation over; its key names it until its final completion has been taken.
    #[inline]
    pub(super) fn insert(&mut self, op: Op, target: Target) -> Key {
        if matches!(target, Target::Orphan)
            && let Some(fd) = op.takes()
        {
            fd.add_orphan();
        }
        let (key, entry) = self.take_entry();
        entry.op = Some(op);
        entry.state = State::in_flight(key.generation, target);
        key
    }

    /// The same for an [`Op::Send`], built where it stands; it comes back for the driver.
    #[inline(always)]
    pub(super) fn insert_send(
        &mut self,
        fd: Fd,
        data: Box<Gather>,
        inline: bool,
        urgent: bool,
        target: Rc<dyn Complete>,
    ) -> (Key, &mut Op) {
        let (key, entry) = self.take_entry();
        // A vacant entry owns nothing: there is nothing to drop.
        std::mem::forget(std::mem::replace(
            &mut entry.state,
            State::in_flight(key.generation, Target::Callback(target)),
        ));
        let op = entry.op.get_or_insert_with(|| Op::Send {
            fd,
            data,
            inline,
            urgent,
        });
        (key, op)
    }

    /// Takes an entry's members out; `None` when it is vacant already. The key is stale from now on.
    #[inline]
    fn free(&mut self, key: Key) -> Option<(Op, State)> {
        let next = self.free;
        let entry = self.entry(key)?;
        let op = entry.op.take()?;
        let state = entry.vacate(next);
        self.free = key.index;
        Some((op, state))
    }

    /// The operation, while it is in flight. For drivers, in a park.
    #[inline]
    pub fn op_mut(&mut self, key: Key) -> Option<&mut Op> {
        let entry = self.entry(key)?;
        match entry.state.is_in_flight() {
            true => entry.op.as_mut(),
            false => None,
        }
    }

    /// Whether the operation is in flight: its final completion was not reported yet.
    #[inline]
    pub(super) fn is_in_flight(&mut self, key: Key) -> bool {
        self.op_mut(key).is_some()
    }

    /// Takes one completion in: what a callback is to hear goes to `ready`.
    #[inline(always)]
    pub(super) fn take_in(&mut self, completion: &Completion, ready: &ReadyQueue) -> Taken {
        let Completion { key, result, flags } = *completion;
        let next = self.free;
        let Some(entry) = self.entry(key) else {
            return Taken::Not;
        };
        let State::Callback {
            done: done @ false,
            target,
            ..
        } = &mut entry.state
        else {
            return Taken::Not;
        };
        let settled = flags == 0
            && matches!(&entry.op, Some(Op::Send { data, inline: true, .. })
                if result as usize == data.total() && target.settled(data.total()));
        if settled {
            let (Some(Op::Send { fd, data, .. }), State::Callback { target, .. }) =
                (entry.op.take(), entry.vacate(next))
            else {
                unreachable!("matched above")
            };
            self.free = key.index;
            self.in_flight -= 1;
            return Taken::Settled(data, fd, target);
        }
        // The ready entry carries lease and descriptor on; `deliver` takes them.
        if flags & FLAG_MORE == 0 {
            *done = true;
            self.in_flight -= 1;
        }
        ready.push(ReadyEntry {
            index: key.index,
            generation: key.generation,
            result,
            flags,
            kind: Kind::Completion,
        });
        Taken::Heard
    }

    /// Takes one completion in and says what to do for it.
    pub(super) fn dispatch(&mut self, completion: Completion, pool: &Rc<Pool>) -> Dispatch {
        let (key, result, flags) = completion.into_parts();
        let entry = self.entry(key).filter(|entry| entry.state.is_in_flight());
        let Some(entry) = entry else {
            return self.dispatch_stale(result, flags, pool);
        };
        if let State::Callback { done, .. } = &mut entry.state {
            if flags & FLAG_MORE == 0 {
                *done = true;
                self.in_flight -= 1;
            }
            return Dispatch::Ready(ReadyEntry {
                index: key.index,
                generation: key.generation,
                result,
                flags,
                kind: Kind::Completion,
            });
        }
        self.dispatch_to_future(key, result, Parts::take(result, flags, pool), flags)
    }

    #[cold]
    fn dispatch_stale(&mut self, result: i32, flags: u32, pool: &Rc<Pool>) -> Dispatch {
        self.stale += 1;
        drop(Parts::take(result, flags, pool));
        Dispatch::Nothing
    }

    /// The same for an operation in flight whose target is a waiter, or nobody.
    #[cold]
    fn dispatch_to_future(&mut self, key: Key, result: i32, parts: Parts, flags: u32) -> Dispatch {
        let Some(entry) = self.entry(key) else {
            unreachable!("the caller looked it up")
        };
        if flags & FLAG_MORE != 0 {
            // Only callbacks can hear more than once.
            if let Some(op) = &entry.op {
                op.adopt(result, parts);
            }
            self.adopted += 1;
            return Dispatch::Nothing;
        }
        if let State::Waiter { .. } = entry.state {
            let Parts { lease, fd } = parts;
            if let (Some(op), Some(_)) = (&entry.op, &lease) {
                // A waiter hears of no bytes in a buffer of the pool: they are the next receive's.
                op.adopt(result, Parts { lease, fd: None });
            }
            let done = State::Result {
                generation: key.generation,
                result,
                fd,
            };
            let State::Waiter { waker, .. } = std::mem::replace(&mut entry.state, done) else {
                unreachable!("matched above")
            };
            self.in_flight -= 1;
            return Dispatch::Wake(waker);
        }
        self.in_flight -= 1;
        self.adopted += u64::from(result >= 0);
        let Some((op, ..)) = self.free(key) else {
            unreachable!("an operation in flight")
        };
        Dispatch::Drop(Adopted {
            op,
            result,
            parts,
            counted: true,
        })
    }

    /// What a ready entry brings, and to whom, in the common case: received bytes, more to come.
    /// (Later completions may be queued behind this one, so the entry may be `Done` already.)
    #[inline(always)]
    pub(super) fn deliver_data(
        &mut self,
        ready: &ReadyEntry,
        pool: &Pool,
    ) -> Option<(Rc<dyn Complete>, Claim)> {
        const DATA: u32 = FLAG_MORE | FLAG_BUFFER;
        if ready.flags & (DATA | FLAG_FD | FLAG_BROUGHT) != DATA {
            return None;
        }
        let entry = self.entry(Key {
            index: ready.index,
            generation: ready.generation,
        })?;
        let State::Callback { target, .. } = &entry.state else {
            return None;
        };
        let claim = pool.claim_buffer(ready.flags, ready.result)?;
        Some((target.clone(), claim))
    }

    /// What a ready entry of kind [`Kind::Completion`] brings that
    /// [`deliver_data`](Self::deliver_data) does not, and to whom. When the target was orphaned
    /// meanwhile, the result is adopted.
    pub(super) fn deliver_other(&mut self, ready: ReadyEntry, pool: &Rc<Pool>) -> Delivery {
        let key = Key {
            index: ready.index,
            generation: ready.generation,
        };
        if ready.flags == 0
            && let Some(entry) = self.entry(key)
            && matches!(entry.op, Some(Op::Send { .. }))
            && matches!(entry.state, State::Callback { .. })
        {
            let Some((send, State::Callback { target, .. })) = self.free(key) else {
                unreachable!("matched above")
            };
            return Delivery::Sent(target, key, send, ready.result);
        }
        self.event(ready, pool)
    }

    /// As [`deliver`](Self::deliver), in the form that fits every completion.
    fn event(&mut self, ready: ReadyEntry, pool: &Rc<Pool>) -> Delivery {
        let key = Key {
            index: ready.index,
            generation: ready.generation,
        };
        let result = ready.result;
        let more = ready.flags & FLAG_MORE != 0;
        let parts = Parts::take(result, ready.flags, pool);
        let (target, op) = if more {
            let Some(entry) = self.entry(key) else {
                return Delivery::Nothing;
            };
            match &entry.state {
                State::Callback { target, .. } => (target.clone(), None),
                _ => {
                    if let Some(op) = &entry.op {
                        op.adopt(result, parts);
                    }
                    return Delivery::Nothing;
                }
            }
        } else {
            match self.free(key) {
                Some((op, State::Callback { target, .. })) => (target, Some(op)),
                Some((op, _)) => {
                    return Delivery::Adopt(Adopted {
                        op,
                        result,
                        parts,
                        counted: true,
                    });
                }
                None => return Delivery::Nothing,
            }
        };
        let event = Event {
            key,
            result,
            more,
            lease: parts.lease,
            fd: parts.fd,
            op,
        };
        Delivery::Event(target, event)
    }

    /// For a future: the operation and its result if it is done, else whether its target has to be
    /// replaced by this waker ([`set_target`](Self::set_target)). No waker is cloned or dropped in
    /// here: those are code of others.
    pub(super) fn poll(&mut self, key: Key, waker: &Waker) -> Polled {
        let Some(entry) = self.entry(key) else {
            return Polled::Gone;
        };
        match &entry.state {
            State::Waiter { waker: old, .. } if old.will_wake(waker) => Polled::Waits,
            State::Waiter { .. } | State::Callback { done: false, .. } => Polled::WantsWaker,
            State::Result { .. } => match self.free(key) {
                Some((op, State::Result { result, fd, .. })) => Polled::Done(op, result, fd),
                _ => unreachable!("matched above"),
            },
            State::Vacant { .. } | State::Callback { .. } | State::Orphan { .. } => Polled::Gone,
        }
    }

    /// Replaces the target of an operation in flight; the one that is not needed any more is to be
    /// dropped outside any borrow.
    #[must_use = "drop it outside any borrow"]
    pub(super) fn set_target(&mut self, key: Key, target: Target) -> Target {
        match self.entry(key).map(|entry| &mut entry.state) {
            Some(state @ (State::Waiter { .. } | State::Callback { done: false, .. })) => {
                std::mem::replace(state, State::in_flight(key.generation, target)).into_target()
            }
            // Nobody waits again for what was given up.
            _ => target,
        }
    }

    /// Takes the target away. What the operation still brings is adopted by its orphan rule.
    pub(super) fn orphan(&mut self, key: Key) -> Orphaned {
        let Some(entry) = self.entry(key) else {
            return Orphaned::Stale;
        };
        match entry.state {
            // `deliver` will adopt it.
            State::Callback { done: true, .. } => Orphaned::Queued(entry.make_orphan(true)),
            State::Waiter { .. } | State::Callback { .. } | State::Orphan { done: false, .. } => {
                Orphaned::InFlight(entry.make_orphan(false))
            }
            State::Result { .. } => match self.free(key) {
                Some((op, State::Result { result, fd, .. })) => Orphaned::Done(Adopted {
                    op,
                    result,
                    parts: Parts { lease: None, fd },
                    counted: false,
                }),
                _ => unreachable!("matched above"),
            },
            State::Orphan { .. } | State::Vacant { .. } => Orphaned::Stale,
        }
    }

    /// How many operations are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Completions for operations that were gone.
    pub(super) fn stale(&self) -> u64 {
        self.stale
    }

    /// Results that came for nobody and went where the rule of their operation says.
    pub(super) fn adopted(&self) -> u64 {
        self.adopted
    }

    /// The keys of all entries that are not vacant.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.entries()
            .filter(|(_, entry)| !matches!(entry.state, State::Vacant { .. }))
            .map(|(index, entry)| Key {
                index,
                generation: entry.state.generation(),
            })
            .collect()
    }

    /// The names of the operations in flight.
    pub(super) fn names_in_flight(&self) -> Vec<&'static str> {
        self.entries()
            .filter(|(_, entry)| entry.state.is_in_flight())
            .filter_map(|(_, entry)| entry.op.as_ref().map(Op::name))
            .collect()
    }

    fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .zip(0..)
            .map(|(entry, index)| (index, entry))
    }
}

impl Drop for OpTable {
    fn drop(&mut self) {
        for entry in self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut()) {
            if entry.state.is_in_flight() {
                // The kernel may still write to its memory: leaked on purpose.
                std::mem::forget(entry.op.take());
                std::mem::forget(entry.vacate(NO_ENTRY));
            }
        }
    }
}
