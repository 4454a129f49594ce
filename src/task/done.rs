//! Done callbacks: who is called when a task ended.
//!
//! **Guarantees.** Each is called once, through the loop's `call_soon`, in the order in which they
//! were added; who awaits the task is one of them in that order. Each runs in the context it was
//! given, else in a copy of the one it was added in. They do not keep the task's handle: adding one
//! to a task and dropping the handle is fine.

use super::callbacks::CallOnce;
use super::context::{Context, copy_context};
use super::handle::{RawTask, current};
use super::id::TaskId;
use super::registry::TaskRef;
use super::slot::{CALLBACKS, CANCELLED, DONE, HANDLE, Header, PANICKED};
use super::tasks::Tasks;
use super::waker::wake_from;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It returned its output.
    Finished,
    /// It was cancelled.
    Cancelled,
    /// It panicked; asyncio: it raised an exception.
    Panicked,
}

impl Ended {
    /// How a task with these flags ended.
    pub(super) fn from_flags(flags: u32) -> Self {
        if flags & CANCELLED != 0 {
            Self::Cancelled
        } else if flags & PANICKED != 0 {
            Self::Panicked
        } else {
            Self::Finished
        }
    }
}

/// What a done callback is told. asyncio: the task itself, whose result is the handle's here.
#[derive(Clone, Debug)]
pub struct DoneTask {
    task: TaskRef,
    ended: Ended,
}

impl DoneTask {
    /// The task.
    pub fn task(&self) -> &TaskRef {
        &self.task
    }

    /// How it ended.
    pub fn ended(&self) -> Ended {
        self.ended
    }
}

/// Names a done callback of one task, to remove it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DoneCallbackId(u64);

struct DoneCallback {
    id: DoneCallbackId,
    created: &'static Location<'static>,
    context: Context,
    call: Box<dyn FnOnce(&DoneTask)>,
    /// The task that waits for this call; for listings.
    awaiting: Option<TaskId>,
}

/// The callbacks of one task.
#[derive(Default)]
pub(super) struct DoneCallbacks {
    list: Vec<DoneCallback>,
    last: u64,
    /// How many came before who awaits the task.
    before_joiner: usize,
}

impl DoneCallbacks {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The tasks that wait for a call.
    pub(super) fn awaiting(&self) -> impl Iterator<Item = TaskId> {
        self.list.iter().filter_map(|callback| callback.awaiting)
    }

    /// Somebody begins to await the task.
    pub(super) fn note_joiner(&mut self) {
        self.before_joiner = self.list.len();
    }
}

impl RawTask {
    /// Has `callback` called when the task has ended, or soon if it has. See the guarantees of the
    /// module: in order, by `call_soon`, in a copy of the current context.
    /// asyncio: `Task.add_done_callback`.
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(&DoneTask) + 'static) -> DoneCallbackId {
        self.add_done_callback_in(&copy_context(), callback)
    }

    /// As [`add_done_callback`](Self::add_done_callback), in this context as it is.
    #[track_caller]
    pub fn add_done_callback_in(
        &self,
        context: &Context,
        callback: impl FnOnce(&DoneTask) + 'static,
    ) -> DoneCallbackId {
        self.add(DoneCallback {
            id: DoneCallbackId(0),
            created: Location::caller(),
            context: context.clone(),
            call: Box::new(callback),
            awaiting: None,
        })
    }

    /// As [`add_done_callback`](Self::add_done_callback), of a combinator: the current task waits
    /// for the call, and listings say so.
    #[track_caller]
    pub(crate) fn add_waiting_callback(
        &self,
        callback: impl FnOnce(&DoneTask) + 'static,
    ) -> DoneCallbackId {
        self.add(DoneCallback {
            id: DoneCallbackId(0),
            created: Location::caller(),
            context: copy_context(),
            call: Box::new(callback),
            awaiting: current().map(|task| task.id()),
        })
    }

    fn add(&self, callback: DoneCallback) -> DoneCallbackId {
        let slot = self.slot();
        if slot.has(DONE) {
            if let Some(task) = self.tasks().task_ref(slot) {
                let ended = Ended::from_flags(slot.flags());
                self.tasks().call_done(callback, DoneTask { task, ended });
            }
            return DoneCallbackId(0);
        }
        let mut callbacks = slot.cold_or_new().callbacks.borrow_mut();
        callbacks.last += 1;
        let id = DoneCallbackId(callbacks.last);
        callbacks.list.push(DoneCallback { id, ..callback });
        slot.set(CALLBACKS);
        id
    }

    /// Removes a done callback. False when it was called, queued or removed before; what is queued
    /// runs. asyncio: `Task.remove_done_callback`, which compares callbacks and counts.
    pub fn remove_done_callback(&self, id: DoneCallbackId) -> bool {
        let removed = self.slot().cold().and_then(|cold| {
            let mut callbacks = cold.callbacks.borrow_mut();
            let at = callbacks.list.iter().position(|known| known.id == id)?;
            if at < callbacks.before_joiner {
                callbacks.before_joiner -= 1;
            }
            Some(callbacks.list.remove(at))
        });
        removed.is_some()
    }
}

impl Tasks {
    fn call_done(&self, callback: DoneCallback, done: DoneTask) {
        let DoneCallback {
            created,
            context,
            call,
            ..
        } = callback;
        let body = CallOnce::new(move || call(&done));
        let mut body = body.in_context(&context).created_at(created);
        self.guard_drop(|| self.host().call_soon(&mut body));
    }

    /// A task with callbacks ended; the last of [`Tasks::end`].
    #[cold]
    pub(super) fn end_calling(&self, slot: &Header, flags: u32) {
        let ended = Ended::from_flags(flags);
        let task = self.task_ref(slot);
        let callbacks = slot.cold().map(|cold| cold.callbacks.take());
        let joiner = slot.take_joiner();
        // Code of others may run from here on, and drop the handle: the slot is not touched again.
        if flags & HANDLE == 0 {
            self.retire(slot);
        }
        let (Some(callbacks), Some(task)) = (callbacks, task) else {
            return;
        };
        let mut later = callbacks.list;
        let after = later.split_off(callbacks.before_joiner.min(later.len()));
        for callback in later {
            let task = task.clone();
            self.call_done(callback, DoneTask { task, ended });
        }
        // A waker that panics keeps nobody else from being called.
        let woken = joiner.map(|joiner| catch_unwind(AssertUnwindSafe(|| wake_from(self, joiner))));
        for callback in after {
            let task = task.clone();
            self.call_done(callback, DoneTask { task, ended });
        }
        if let Some(Err(payload)) = woken {
            resume_unwind(payload);
        }
    }
}

impl fmt::Debug for DoneCallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DoneCallbacks").field(&self.len()).finish()
    }
}
