//! The header of a task's slot.
//!
//! **Guarantees.** What other threads read ([`Public`]) stands first; everything else belongs to the
//! loop's thread. A slot without a task is `DONE`, and its word is one that no waker of a task carries
//! (until the generation wraps).
//!
//! The context (D11) is one word here, none for tasks that inherit nothing, so that a program
//! without context variables pays one store per spawn.

use super::arena::{NONE, Slot};
use super::body::TaskVTable;
use super::context::Vars;
use super::done::DoneCallbacks;
use super::id::{NO_INDEX, TaskId, next_generation, pack, unpack};
use super::public::Public;
use super::requests::Requests;
use super::waker::{drop_waker, waker, word_of};
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr::addr_of_mut;
use std::task::Waker;

/// The first step was made.
pub(super) const STARTED: u32 = 1;
/// An entry for the next step waits in the ready queue.
pub(super) const SCHEDULED: u32 = 1 << 1;
/// The step is going on.
pub(super) const RUNNING: u32 = 1 << 2;
/// The task ended.
pub(super) use super::public::DONE;
/// A join handle exists.
pub(super) const HANDLE: u32 = 1 << 4;
/// It ended cancelled.
pub(super) const CANCELLED: u32 = 1 << 5;
/// It ended by a panic.
pub(super) const PANICKED: u32 = 1 << 6;
/// The result, or the panic, was taken by the handle.
pub(super) const TAKEN: u32 = 1 << 7;
/// The next step drops the body: `abort`.
pub(super) const ABORT: u32 = 1 << 8;
/// The next step drops the body: a request found it waiting at foreign awaits only.
pub(super) const DROP_BODY: u32 = 1 << 9;
/// Its name stands in the loop's table of names.
pub(super) const NAMED: u32 = 1 << 10;
/// Requests stand above 0; for listings.
pub(super) const CANCELLING: u32 = 1 << 11;
/// Its end while pending is not reported.
pub(super) const QUIET: u32 = 1 << 12;
/// A request is being forwarded along joins and came by here.
pub(super) const VISITED: u32 = 1 << 13;

/// Its panic is not to be reported: it was asked to stop after it had failed.
pub(super) const FORGIVEN: u32 = 1 << 14;

/// It has done callbacks.
pub(super) const CALLBACKS: u32 = 1 << 15;

/// Its body returned: an output stands in the place of the future, until it is taken or cleared.
pub(super) const FINISHED: u32 = 1 << 16;

/// Nobody awaits the task.
const NOBODY: u64 = pack(0, NO_INDEX, 0);
/// Who awaits the task has a waker that is not of this floor; it stands in [`Cold`].
const OTHER: u64 = pack(0, NO_INDEX, 1);

/// The scope that is the task itself.
pub(super) const ROOT: u32 = NONE;
/// The scope in which no wait registers (`.bare()`).
pub(super) const BARE: u32 = NONE - 1;

/// What few tasks have.
#[derive(Default)]
pub(super) struct Cold {
    pub(super) requests: RefCell<Requests>,
    pub(super) payload: Cell<Option<Box<dyn Any + Send>>>,
    pub(super) callbacks: RefCell<DoneCallbacks>,
    /// Who awaits the task, where a word does not say it.
    joiner: Cell<Option<Waker>>,
    /// Where it was made; in debug mode only.
    pub(super) created: Cell<Option<&'static Location<'static>>>,
}

/// The part of the loop's thread.
struct Private {
    /// The word of the task's waker: loop, generation, index.
    word: Cell<u64>,
    /// First wait node.
    nodes: Cell<u32>,
    /// Current cancel scope.
    scope: Cell<u32>,
    vtable: Cell<Option<&'static TaskVTable>>,
    /// Who awaits the task: [`NOBODY`], a waker's word, or [`OTHER`].
    joiner: Cell<u64>,
    context: Cell<Vars>,
    cold: UnsafeCell<Option<Box<Cold>>>,
}

/// The header; see the module.
#[repr(C)]
pub(super) struct Header {
    pub(super) public: Public,
    private: Private,
}

// The model checker's atomics are larger.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == 64);

// SAFETY: `private` is written here; of `public`, which comes first and is valid as zeroes, an atomic.
unsafe impl Slot for Header {
    unsafe fn init(this: *mut Self, index: u32) {
        let private = Private {
            word: Cell::new(pack(0, index, 0)),
            nodes: Cell::new(NONE),
            scope: Cell::new(ROOT),
            vtable: Cell::new(None),
            joiner: Cell::new(NOBODY),
            context: Cell::new(Vars::NONE),
            cold: UnsafeCell::new(None),
        };
        // SAFETY: the caller has the slot for itself.
        unsafe {
            addr_of_mut!((*this).private).write(private);
            (*this).public.set_flags(DONE);
        }
    }
}

impl Header {
    #[inline]
    pub(super) fn index(&self) -> u32 {
        unpack(self.word()).0
    }

    #[inline]
    pub(super) fn generation(&self) -> u32 {
        unpack(self.word()).1
    }

    #[inline]
    pub(super) fn word(&self) -> u64 {
        self.private.word.get()
    }

    #[inline]
    pub(super) fn id(&self) -> Option<TaskId> {
        self.public.id()
    }

    /// Whether the task is pending.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        !self.has(DONE)
    }

    #[inline]
    pub(super) fn flags(&self) -> u32 {
        self.public.flags()
    }

    #[inline]
    pub(super) fn has(&self, flags: u32) -> bool {
        self.flags() & flags != 0
    }

    /// Only the loop's thread writes, so a load and a store do.
    #[inline]
    pub(super) fn set(&self, flags: u32) {
        self.set_flags(self.flags() | flags);
    }

    #[inline]
    pub(super) fn set_flags(&self, flags: u32) {
        self.public.set_flags(flags);
    }

    #[inline]
    pub(super) fn clear(&self, flags: u32) {
        self.set_flags(self.flags() & !flags);
    }

    #[inline]
    pub(super) fn vtable(&self) -> Option<&'static TaskVTable> {
        self.private.vtable.get()
    }

    #[inline]
    pub(super) fn nodes(&self) -> &Cell<u32> {
        &self.private.nodes
    }

    #[inline]
    pub(super) fn scope(&self) -> &Cell<u32> {
        &self.private.scope
    }

    #[inline]
    pub(super) fn kept(&self) -> u32 {
        self.public.kept()
    }

    #[inline]
    pub(super) fn set_kept(&self, kept: u32) {
        self.public.set_kept(kept);
    }

    /// The task's context variables.
    #[inline]
    pub(super) fn context(&self) -> &Cell<Vars> {
        &self.private.context
    }

    /// Who awaits the task, from now on nobody.
    #[inline]
    pub(super) fn take_joiner(&self) -> Option<Waker> {
        match self.private.joiner.replace(NOBODY) {
            NOBODY => None,
            OTHER => self.take_other_joiner(),
            word => Some(ManuallyDrop::into_inner(waker(word))),
        }
    }

    #[cold]
    fn take_other_joiner(&self) -> Option<Waker> {
        self.cold()?.joiner.take()
    }

    /// The word of the task that awaits this one; no task's if none of this floor does.
    pub(super) fn joiner_word(&self) -> u64 {
        self.private.joiner.get()
    }

    /// Who awaits the task from now on. Returns who did.
    #[inline]
    pub(super) fn replace_joiner(&self, new: Waker) -> Option<Waker> {
        let old = self.take_joiner();
        match word_of(&new) {
            Some(word) => {
                self.private.joiner.set(word);
                drop_waker(new);
            }
            None => self.set_other_joiner(new),
        }
        old
    }

    #[cold]
    fn set_other_joiner(&self, new: Waker) {
        self.cold_or_new().joiner.set(Some(new));
        self.private.joiner.set(OTHER);
    }

    /// A new task takes the slot.
    #[inline]
    pub(super) fn begin(&self, tag: u16, id: u64, vtable: &'static TaskVTable, flags: u32) {
        let private = &self.private;
        // Once there, the tag stays: all tasks of an arena are of one loop.
        private.word.set(private.word.get() | pack(tag, 0, 0));
        private.vtable.set(Some(vtable));
        self.public.begin(id, flags);
    }

    /// The task is pending no more. Returns its flags.
    #[inline]
    pub(super) fn end(&self, how: u32) -> u32 {
        let flags = self.flags() & !RUNNING | DONE | how;
        self.set_flags(flags);
        flags
    }

    /// Nobody needs the task any more, and its [`Cold`] was taken; the slot may be freed after this.
    #[inline]
    pub(super) fn vacate(&self) {
        let private = &self.private;
        private.word.set(next_generation(private.word.get()));
        self.set_kept(0);
    }

    /// Of a task that is done and without a handle.
    pub(super) fn take_cold(&self) -> Option<Box<Cold>> {
        // SAFETY: one thread, and `cold` and `cold_or_new` lend only to callers that hold the
        // task pending or its handle; neither is the case any more.
        unsafe { (*self.private.cold.get()).take() }
    }

    #[inline]
    pub(super) fn cold(&self) -> Option<&Cold> {
        // SAFETY: one thread; the box is only replaced by `cold_or_new` while there is none, and
        // only taken by `take_cold`.
        unsafe { (*self.private.cold.get()).as_deref() }
    }

    pub(super) fn cold_or_new(&self) -> &Cold {
        if self.cold().is_none() {
            let cold = Box::<Cold>::default();
            // SAFETY: as in `cold`; there is none, so none is borrowed.
            unsafe { *self.private.cold.get() = Some(cold) };
        }
        self.cold().expect("just made")
    }
}
