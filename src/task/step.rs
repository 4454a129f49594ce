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
//! The task's context (D11) is entered and left with the task.

use super::arena::NONE;
use super::body::TaskVTable;
use super::context::{self, Outer, Vars};
use super::loop_exit::{LoopExit, is_loop_exit};
use super::registry::TaskRef;
use super::report::Report;
use super::shared::Current;
use super::slot::{
    ABORT, CALLBACKS, CANCELLED, DONE, DROP_BODY, FORGIVEN, HANDLE, Header, NAMED, PANICKED, QUIET,
    ROOT, RUNNING, SCHEDULED, STARTED, TAKEN,
};
use super::tasks::Tasks;
use super::waker::{wake_from, waker};
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
    pub fn step(self: &Rc<Self>, index: u32, generation: u32) {
        self.step_inline(index, generation);
    }

    /// As `step`, for the iteration.
    #[inline(always)]
    pub(crate) fn step_inline(self: &Rc<Self>, index: u32, generation: u32) {
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
        if flags & RUNNING != 0 || !self.enter_slot(slot) {
            slot.clear(SCHEDULED);
            return self.misused(slot, Report::ENTER);
        }
        slot.set_flags(flags & !SCHEDULED | RUNNING | STARTED);
        // SAFETY: the slot does not move and stays while `self` does; every way on ends in `leave_step`.
        let outer = unsafe { context::enter(slot.context()) };
        let unstarted = flags & STARTED == 0 && slot.kept() != 0;
        if unstarted || flags & (ABORT | DROP_BODY) != 0 {
            return self.step_dropping(slot, outer);
        }
        let waker = waker(slot.word());
        let mut cx = Context::from_waker(&waker);
        // SAFETY: the slot holds the body its table was written for (`begin` after `write`), a future
        // while the task is pending, and RUNNING keeps everybody else away from it until the poll is over.
        let polled = catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.poll)(slot, &mut cx) }));
        match polled {
            Ok(Poll::Pending) => {
                self.leave_step(slot, outer);
                slot.clear(RUNNING);
                if slot.kept() != 0 || self.closed.get() {
                    self.pending_with_request(slot);
                }
            }
            Ok(Poll::Ready(())) => {
                if slot.cold().is_some() && self.ends_cancelled(slot) {
                    return self.step_dropping(slot, outer);
                }
                self.leave_step(slot, outer);
                self.end(slot, 0);
            }
            Err(payload) => {
                let second = self.drop_body(slot).err();
                self.step_panicked(slot, outer, payload, second);
            }
        }
    }

    /// The first step of a new task, inside whatever runs now. Its entry in the ready queue was not
    /// made.
    pub(super) fn step_eagerly(self: &Rc<Self>, slot: &Header) {
        /// Puts the current task back, also when a loop exit goes by.
        struct Restore<'a>(&'a Tasks, Option<Current>);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                if let Some(before) = self.1.take() {
                    self.0.swap_current(before);
                }
            }
        }
        let before = self.swap_current(Current::Nobody);
        let _restore = Restore(self, Some(before));
        self.step(slot.index(), slot.generation());
    }

    #[inline]
    fn leave_step(&self, slot: &Header, outer: Outer) {
        context::leave(outer);
        slot.scope().set(ROOT);
        if !self.leave_slot(slot) {
            self.left_wrongly(slot);
        }
    }

    #[cold]
    fn left_wrongly(&self, slot: &Header) {
        self.swap_current(Current::Nobody);
        self.misused(slot, Report::LEAVE);
    }

    #[cold]
    fn misused(&self, slot: &Header, message: &'static str) {
        self.report_of(slot, message, None);
    }

    /// Reports in the task's context.
    #[cold]
    fn report_of(&self, slot: &Header, message: &'static str, payload: Option<Payload>) {
        let report = Report {
            message,
            task: self.task_ref(slot),
            created: slot.cold().and_then(|cold| cold.created.get()),
            payload,
        };
        context::run_as_in(slot.context(), || self.report(report));
    }

    #[cold]
    fn pending_with_request(&self, slot: &Header) {
        if self.closed.get() {
            self.destroy(slot);
        } else {
            self.settle(slot, ROOT);
        }
    }

    /// Drops the future or the output that stands in the place, which is empty after. Nobody else uses
    /// it: the task is RUNNING, or done and without a handle.
    fn drop_body(&self, slot: &Header) -> Result<(), Payload> {
        let Some(vtable) = slot.vtable() else {
            return Ok(());
        };
        // SAFETY: as in `step`, by the condition above. Each caller ends the task right after, or finds
        // it finished and its output unread, so it is the first and the last.
        catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.clear)(slot) }))
    }

    /// The step drops the future, or the output it returned: the task ends cancelled.
    #[cold]
    fn step_dropping(&self, slot: &Header, outer: Outer) {
        match self.drop_body(slot) {
            Ok(()) => {
                self.leave_step(slot, outer);
                self.end_otherwise(slot, CANCELLED);
            }
            Err(payload) => self.step_panicked(slot, outer, payload, None),
        }
    }

    /// The step panicked, and what was left of the body is dropped, which panicked for the second time.
    #[cold]
    fn step_panicked(
        &self,
        slot: &Header,
        outer: Outer,
        payload: Payload,
        second: Option<Payload>,
    ) {
        self.leave_step(slot, outer);
        if second.is_some() {
            self.report_of(slot, Report::DROP_PANICKED, second);
        }
        if !is_loop_exit(&*payload) {
            slot.cold_or_new().payload.set(Some(payload));
            return self.end_otherwise(slot, PANICKED);
        }
        // The task keeps a mark of it, the value leaves the loop.
        let mark: Payload = Box::new(LoopExit(Box::new(())));
        slot.cold_or_new().payload.set(Some(mark));
        self.end_otherwise(slot, PANICKED);
        resume_unwind(payload);
    }

    /// The task is done. Last comes what runs code of others.
    #[inline(always)]
    fn end(&self, slot: &Header, how: u32) {
        if slot.nodes().get() != NONE {
            self.nodes.orphan(slot);
        }
        let flags = slot.end(how);
        self.live.set(self.live.get() - 1);
        match flags & (HANDLE | CALLBACKS) {
            HANDLE => {
                if let Some(joiner) = slot.take_joiner() {
                    wake_from(self, joiner);
                }
            }
            0 => self.retire(slot),
            _ => self.end_calling(slot, flags),
        }
    }

    #[cold]
    fn end_otherwise(&self, slot: &Header, how: u32) {
        self.end(slot, how);
    }

    /// A done task whose handle is gone: an unread panic is reported, an unread output is dropped,
    /// and the slot is free.
    #[inline]
    pub(super) fn retire(&self, slot: &Header) {
        let flags = slot.flags();
        let Some(vtable) = slot.vtable() else {
            return;
        };
        let unread = flags & (TAKEN | CANCELLED | PANICKED) == 0 && vtable.clears_output;
        if unread || flags & (PANICKED | NAMED) != 0 {
            return self.retire_in_full(slot, vtable, unread);
        }
        self.free(slot, vtable);
    }

    /// Code of others runs here, and may leave the loop: not before the slot is free.
    #[inline(never)]
    fn retire_in_full(&self, slot: &Header, vtable: &TaskVTable, unread: bool) {
        let told = catch_unwind(AssertUnwindSafe(|| {
            if slot.has(PANICKED) {
                self.report_panic(slot);
            } else if unread && let Err(payload) = self.drop_body(slot) {
                self.report_of(slot, Report::DROP_PANICKED, Some(payload));
            }
        }));
        if slot.has(NAMED)
            && let Some(id) = slot.id()
        {
            self.shared.remove_name(id);
        }
        self.free(slot, vtable);
        if let Err(payload) = told {
            resume_unwind(payload);
        }
    }

    #[inline]
    fn free(&self, slot: &Header, vtable: &TaskVTable) {
        let context = slot.context().take();
        if slot.cold().is_some() || !context.is_none() {
            return self.free_in_full(slot, vtable, context);
        }
        slot.vacate();
        self.arena.free(slot, &vtable.room);
    }

    /// What the task had besides goes too, when the slot is free: it may be code of others.
    #[inline(never)]
    fn free_in_full(&self, slot: &Header, vtable: &TaskVTable, context: Vars) {
        let cold = slot.take_cold();
        slot.vacate();
        self.arena.free(slot, &vtable.room);
        self.guard_drop(|| drop((cold, context)));
    }

    #[cold]
    fn report_panic(&self, slot: &Header) {
        let payload = slot.cold().and_then(|cold| cold.payload.take());
        if slot.has(FORGIVEN | TAKEN) || payload.as_deref().is_some_and(is_loop_exit) {
            return self.guard_drop(|| drop(payload));
        }
        self.report_of(slot, Report::NEVER_RETRIEVED, payload);
    }

    /// Ends a pending task because its loop closes.
    pub(super) fn destroy(&self, slot: &Header) {
        if slot.has(RUNNING) {
            return;
        }
        slot.clear(SCHEDULED);
        let (index, generation) = (slot.index(), slot.generation());
        if !slot.has(QUIET) {
            self.report_of(slot, Report::DESTROYED, None);
            // Code of others, which may have stepped the task to its end, and the slot be another's.
            if !slot.is_live() || slot.generation() != generation || slot.has(RUNNING) {
                return;
            }
        }
        let before = self.swap_current(Current::Arena { index, generation });
        slot.set(RUNNING);
        // SAFETY: the slot stays while `self` does; `drop_body` catches what is thrown.
        let outer = unsafe { context::enter(slot.context()) };
        let dropped = self.drop_body(slot);
        context::leave(outer);
        self.swap_current(match before {
            // Somebody had entered it outside a step.
            Current::Arena { index: of, .. } if of == index => Current::Nobody,
            before => before,
        });
        // Neither a panic of the body's drop nor one of a joiner's waker stops the closing.
        self.guard_drop(|| self.end_otherwise(slot, CANCELLED));
        if let Err(payload) = dropped {
            self.report(Report::dropping(payload));
        }
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
