//! One step of a task, and its end.
//!
//! ```text
//!            spawn                  step
//!   (free) ─────────▶ scheduled ───────────▶ running ──pending──▶ suspended
//!      ▲                  ▲                     │  │                  │
//!      │                  └────── wake ─────────┼──┼──────────────────┘
//!      │                                        │  └─ ready, panic, dropped body
//!      │                                        ▼
//!      └───── handle gone, or none ────────── done ── result stands in place until it is taken
//! ```
//!
//! **Guarantees.** The body is polled, or dropped, only between enter and leave of its task, by one
//! caller at a time (`RUNNING`). A panic ends its task alone. A [`LoopExit`] goes on to the caller
//! of [`Tasks::step`] when everything is in order.
//!
//! Where context variables will stand (D11): the task's context is swapped in next to the current
//! task, before the poll, and out after it.

use super::loop_exit::{LoopExit, is_loop_exit};
use super::registry::TaskRef;
use super::report::Report;
use super::shared::{Current, arena_word};
use super::slot::{
    ABORT, CANCELLED, DONE, DROP_BODY, HANDLE, Header, NAMED, PANICKED, QUIET, ROOT, RUNNING,
    SCHEDULED, STARTED, TAKEN,
};
use super::tasks::Tasks;
use super::waker::waker;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};

type Payload = Box<dyn Any + Send>;

impl Tasks {
    /// Makes the next step of a task. Entries that are stale are ignored.
    ///
    /// # Panics
    /// With a [`LoopExit`] that the body let go: the task is ended, and the run of the loop is to
    /// be left. Also when the reporter panics.
    #[inline]
    pub fn step(self: &Rc<Self>, index: u32, generation: u32) {
        let Some(slot) = self.arena.get(index) else {
            return;
        };
        let flags = slot.flags();
        if slot.generation() != generation || flags & (SCHEDULED | DONE) != SCHEDULED {
            return;
        }
        let Some(vtable) = slot.vtable() else {
            return;
        };
        let word = arena_word(index, generation);
        slot.clear(SCHEDULED);
        if flags & RUNNING != 0 || !self.shared.enter(word) {
            return self.misused(slot, Report::ENTER);
        }
        slot.set(RUNNING | STARTED);
        let unstarted = flags & STARTED == 0 && slot.kept().get() != 0;
        if unstarted || flags & (ABORT | DROP_BODY) != 0 {
            let dropped = self.drop_body(slot);
            self.leave_step(slot, word);
            return self.finish_dropped(slot, dropped);
        }
        let waker = waker(self.word(slot));
        let mut cx = Context::from_waker(&waker);
        // SAFETY: the slot holds the body its table was written for (`begin` after `write`), and
        // RUNNING keeps everybody else away from it until the poll is over.
        let polled = catch_unwind(AssertUnwindSafe(|| unsafe {
            (vtable.poll)(slot.body(), &mut cx)
        }));
        self.leave_step(slot, word);
        match polled {
            Ok(Poll::Pending) => {
                if slot.kept().get() != 0 || self.closed.get() {
                    self.pending_with_request(slot);
                }
            }
            Ok(Poll::Ready(())) => self.finish(slot),
            Err(payload) => self.finish_panicked(slot, payload),
        }
    }

    #[inline]
    fn leave_step(&self, slot: &Header, word: u64) {
        slot.clear(RUNNING);
        slot.scope().set(ROOT);
        if !self.shared.leave(word) {
            self.shared.swap(Current::Nobody);
            self.misused(slot, Report::LEAVE);
        }
    }

    #[cold]
    fn misused(&self, slot: &Header, message: &'static str) {
        self.report(Report {
            message,
            task: self.task_ref(slot),
            payload: None,
        });
    }

    #[cold]
    fn pending_with_request(&self, slot: &Header) {
        if self.closed.get() {
            self.destroy(slot);
        } else {
            self.settle(slot, ROOT);
        }
    }

    /// Makes the body Empty, with the task current. The body is pending, not running elsewhere.
    fn drop_body(&self, slot: &Header) -> Result<(), Payload> {
        let Some(vtable) = slot.vtable() else {
            return Ok(());
        };
        // SAFETY: as in `step`; the caller set RUNNING or holds the task ended.
        catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.clear)(slot.body()) }))
    }

    fn finish_dropped(&self, slot: &Header, dropped: Result<(), Payload>) {
        match dropped {
            Ok(()) => self.end(slot, CANCELLED),
            Err(payload) => self.finish_panicked(slot, payload),
        }
    }

    /// The body returned and its output stands in place.
    #[inline]
    fn finish(&self, slot: &Header) {
        if slot.cold().is_some() && self.ends_cancelled(slot) {
            let dropped = self.drop_output(slot);
            return self.finish_dropped(slot, dropped);
        }
        self.end(slot, 0);
    }

    #[cold]
    fn drop_output(&self, slot: &Header) -> Result<(), Payload> {
        self.drop_body(slot)
    }

    /// What the panic left of the body is dropped first.
    #[cold]
    fn finish_panicked(&self, slot: &Header, payload: Payload) {
        if let Err(second) = self.drop_body(slot) {
            self.report(Report {
                message: Report::DROP_PANICKED,
                task: self.task_ref(slot),
                payload: Some(second),
            });
        }
        let exit = is_loop_exit(&*payload);
        let (kept, exiting) = if exit {
            let marker: Payload = Box::new(LoopExit(Box::new(())));
            (marker, Some(payload))
        } else {
            (payload, None)
        };
        if !exit || slot.has(HANDLE) {
            slot.cold_or_new().payload.set(Some(kept));
            self.end(slot, PANICKED);
        } else {
            self.end(slot, 0);
        }
        if let Some(payload) = exiting {
            resume_unwind(payload);
        }
    }

    /// The task is done. Last comes what runs code of others.
    #[inline]
    fn end(&self, slot: &Header, how: u32) {
        if slot.nodes().get() != super::arena::NONE {
            self.nodes.orphan(slot);
        }
        slot.end(how);
        self.live.set(self.live.get() - 1);
        if !slot.has(HANDLE) {
            self.retire(slot);
        } else if let Some(joiner) = slot.joiner().take() {
            joiner.wake();
        }
    }

    /// A done task whose handle is gone: an unread panic is reported, what is left of the body is
    /// dropped, and the slot is free.
    #[inline]
    pub(super) fn retire(&self, slot: &Header) {
        if slot.has(PANICKED) {
            self.report_panic(slot);
        }
        if !slot.has(TAKEN | CANCELLED)
            && let Err(payload) = self.drop_body(slot)
        {
            self.report(Report {
                message: Report::DROP_PANICKED,
                task: self.task_ref(slot),
                payload: Some(payload),
            });
        }
        self.free(slot);
    }

    #[cold]
    fn report_panic(&self, slot: &Header) {
        slot.clear(PANICKED);
        let payload = slot.cold().and_then(|cold| cold.payload.take());
        if payload.as_deref().is_some_and(is_loop_exit) {
            return;
        }
        self.report(Report {
            message: Report::NEVER_RETRIEVED,
            task: self.task_ref(slot),
            payload,
        });
    }

    /// Gives the slot back.
    #[inline]
    pub(super) fn free(&self, slot: &Header) {
        if slot.has(NAMED)
            && let Some(id) = slot.id()
        {
            self.shared.remove_name(id);
        }
        drop(slot.joiner().take());
        slot.vacate();
        if let Some(vtable) = slot.vtable() {
            self.arena.free(slot, vtable.layout);
        }
    }

    /// Ends a pending task because its loop closes.
    pub(super) fn destroy(&self, slot: &Header) {
        if slot.has(RUNNING) {
            return;
        }
        slot.clear(SCHEDULED);
        if !slot.has(QUIET) {
            self.report_destroyed(slot);
        }
        let (index, generation) = (slot.index(), slot.generation());
        let before = self.shared.swap(Current::Arena { index, generation });
        slot.set(RUNNING);
        let dropped = self.drop_body(slot);
        slot.clear(RUNNING);
        self.shared.swap(before);
        let payload = dropped.err();
        // A panic of a body's drop, and one of a joiner's waker, must not stop the closing.
        self.guard_drop(|| self.end(slot, CANCELLED));
        if let Some(payload) = payload {
            self.report(Report {
                message: Report::DROP_PANICKED,
                task: None,
                payload: Some(payload),
            });
        }
    }

    fn report_destroyed(&self, slot: &Header) {
        self.report(Report {
            message: Report::DESTROYED,
            task: self.task_ref(slot),
            payload: None,
        });
    }

    /// The pending task that an entry of the ready queue names.
    pub fn at(&self, index: u32, generation: u32) -> Option<TaskRef> {
        self.task_ref(self.pending(index, generation)?)
    }

    /// A reference to the task in a slot, pending or done.
    pub(super) fn task_ref(&self, slot: &Header) -> Option<TaskRef> {
        Some(TaskRef::arena(
            self.shared.clone(),
            slot.index(),
            slot.id()?,
        ))
    }
}
