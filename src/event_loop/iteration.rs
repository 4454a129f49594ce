//! One iteration of the loop: asyncio's `_run_once`, in a completion's terms.
//!
//! ```text
//!   prune timers ─▶ iteration end: gather and submit ─▶ park (one system call: submit + wait)
//!        ▲                                                    │
//!        │                                     calls and wakes from other threads ─▶ ready
//!        │                                     completions ─▶ op table ──────────── ─▶ ready
//!        │                                     due timers ───────────────────────── ─▶ ready
//!        └──── run exactly the k entries that are ready now; what they queue waits ◀──┘
//! ```
//!
//! The order within an iteration is therefore: carried-over entries, I/O, due timers (contract
//! §2.4). With ready work the loop does not sleep; it lets what the last poll woke run first, then
//! asks the driver whether polling could bring anything, and polls every now and then anyway
//! ([`Driver::poll_every`](crate::driver::Driver::poll_every)).

use super::bells::is_bell;
use super::core::{AtIterationEnd, Core};
use super::exception::ExceptionContext;
use super::handle::Origin;
use super::thread_safe_handle::Failed;
use crate::driver::{COARSE, Completion, Park, Taken};
use crate::ready::{Kind, ReadyEntry};
use crate::task::{CallKey, CallOnce, CallPanic, Context, is_loop_exit};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::vec::Drain;

/// A park never lasts longer: 24 hours.
const MAX_PARK: u64 = 86_400 * 1_000_000_000;
/// A loop that goes to sleep for a timer sleeps at least until so long after the last one, the slack that
/// the kernel gives a thread's timers: a sleep costs as much as many timers, so those that stand closer
/// share one. 50 µs.
const TIMER_SLACK: u64 = 50_000;

/// In debug mode, a callback or step that takes as long is reported: 100 ms.
pub(super) const SLOW_CALLBACK: u64 = 100_000_000;

#[inline]
fn call_key(entry: &ReadyEntry) -> CallKey {
    CallKey {
        index: entry.index,
        generation: entry.generation,
    }
}

impl Core {
    /// # Errors
    /// When the driver is broken for good.
    pub(super) fn run_once(self: &Rc<Self>) -> io::Result<()> {
        self.iterations.set(self.iterations.get() + 1);
        let mut ready = self.ready.len();
        if ready == 0 || self.attention.get() || !self.goes_on() {
            self.look_around()?;
            ready = self.ready.len();
        }
        for _ in 0..ready {
            let Some(entry) = self.ready.pop() else { break };
            if self.debug.get() {
                self.run_timed(entry.taken());
            } else {
                self.run(entry);
            }
        }
        Ok(())
    }

    /// Whether what is ready may run at once: nothing came from other threads or the kernel, and the driver
    /// need not be polled in any case.
    #[inline]
    fn goes_on(&self) -> bool {
        if self.stopping.get() || self.tasks.has_remote() {
            return false;
        }
        let skipped = self.skipped_polls.get() + 1;
        if skipped >= self.poll_every || self.engine.borrow().driver().has_news() {
            return false;
        }
        self.skipped_polls.set(skipped);
        true
    }

    /// Everything before the entries that are ready are run.
    #[inline(never)]
    fn look_around(&self) -> io::Result<()> {
        // Until all is done: user code may panic on the way.
        self.attention.set(true);
        self.timers
            .borrow_mut()
            .prune(|key| self.callbacks.is_waiting(key));
        self.end_iteration();
        let parked = self.park()?;
        if self.tasks.is_tracking() {
            self.tasks.set_time(self.now());
        }
        self.take_remote();
        self.take_completions();
        self.take_timers(parked);
        // A loop that polls in every iteration does not ask.
        if !parked {
            self.attention.set(!self.is_calm());
        }
        Ok(())
    }

    /// Whether nothing is left that the next iteration has to look at.
    #[inline]
    fn is_calm(&self) -> bool {
        self.timers.borrow().next().is_none()
            && self.ended.borrow().is_empty()
            && self.watching.borrow().is_empty()
            && self.completions.borrow().is_empty()
            && !self.tasks.is_tracking()
            && !self.engine.borrow().wants_poll()
    }

    /// Lets transports send what was written during the iteration that ends.
    #[inline]
    fn end_iteration(&self) {
        if !self.ended.borrow().is_empty() {
            self.call_ended();
        }
    }

    fn call_ended(&self) {
        /// The rest of the list; goes back, in front of what was added meanwhile, when a panic or a
        /// loop exit leaves the iteration.
        struct Rest<'a, 'd>(&'a Core, &'a mut Drain<'d, Rc<dyn AtIterationEnd>>);
        impl Drop for Rest<'_, '_> {
            fn drop(&mut self) {
                if self.1.len() > 0 {
                    self.put_back();
                }
            }
        }
        impl Rest<'_, '_> {
            #[cold]
            fn put_back(&mut self) {
                let rest: Vec<_> = self.1.by_ref().collect();
                self.0.ended.borrow_mut().splice(..0, rest);
            }
        }
        let mut ended = self.ended.take();
        let mut all = ended.drain(..);
        let rest = Rest(self, &mut all);
        for end in rest.1.by_ref() {
            end.iteration_ended();
        }
        drop(rest);
        drop(all);
        // Keep the larger list; what was added meanwhile (by user code inside) waits for the next,
        // which `park` does not let wait for an event.
        let mut added = self.ended.borrow_mut();
        std::mem::swap(&mut *added, &mut ended);
        if !ended.is_empty() {
            added.append(&mut ended);
        }
    }

    /// When to wake up for a timer.
    fn wakes(&self, when: u64, now: u64) -> u64 {
        let shared = if when > now {
            self.slack_until.get()
        } else {
            0
        };
        when.max(shared).min(now.saturating_add(MAX_PARK))
    }

    /// Whether the driver was asked.
    fn park(&self) -> io::Result<bool> {
        let mut engine = self.engine.borrow_mut();
        // What a panic left of the last completions, and who was added while the last iteration ended,
        // do not wait for an event.
        let left = !self.completions.borrow().is_empty() || !self.ended.borrow().is_empty();
        let busy = left || self.stopping.get() || !self.ready.is_empty();
        // Those who wait for anything that may happen wait for the next iteration, whenever it is.
        if !self.watching.borrow().is_empty() {
            let mut watching = self.watching.take();
            self.ended.borrow_mut().append(&mut watching);
        }
        let mut until = Park::Poll;
        if busy {
            let skipped = self.skipped_polls.get() + 1;
            // What the last poll woke runs before the kernel is asked again: it mostly submits
            // something, and one call then does both.
            let just_polled = skipped == 1 && !self.submitted.get();
            let skip = just_polled || (skipped < self.poll_every && !engine.wants_poll());
            if skip && !self.stopping.get() {
                self.skipped_polls.set(skipped);
                return Ok(false);
            }
        } else {
            until = match self.timers.borrow().next() {
                Some(when) => Park::Until(self.wakes(when, engine.driver().now())),
                None => Park::Forever,
            };
        }
        self.skipped_polls.set(0);
        self.submitted.set(false);
        // What another thread queued before this returns false is seen below; what it queues later
        // ends the park.
        let sleeps = until != Park::Poll;
        if sleeps && !self.tasks.prepare_sleep() {
            until = Park::Poll;
        }
        let result = engine.park(until, &mut self.completions.borrow_mut());
        if sleeps {
            self.tasks.finish_sleep();
        }
        result.map(|()| true)
    }

    pub(super) fn take_remote(&self) {
        self.tasks.drain_remote(|call| {
            self.enqueue(&mut CallOnce::new(call));
        });
    }

    #[inline]
    fn take_completions(&self) {
        if !self.completions.borrow().is_empty() {
            self.dispatch_completions();
        }
    }

    fn dispatch_completions(&self) {
        /// The rest of the list; stays for the next iteration when a waker panics.
        struct Rest<'a, 'd>(&'a Core, &'a mut Drain<'d, Completion>);
        impl Drop for Rest<'_, '_> {
            fn drop(&mut self) {
                if self.1.len() > 0 {
                    self.0.completions.borrow_mut().extend(self.1.by_ref());
                }
            }
        }
        let mut completions = self.completions.take();
        let mut all = completions.drain(..);
        let rest = Rest(self, &mut all);
        for completion in rest.1.by_ref() {
            let taken = self.engine.borrow_mut().take_in(&completion, &self.ready);
            match taken {
                Taken::Heard => {}
                Taken::Settled(data, fd, target) => {
                    self.give_gather(data);
                    drop((fd, target));
                }
                Taken::Not => self.dispatch(completion),
            }
        }
        drop(rest);
        drop(all);
        // Only a panic leaves something in the list, and it did not come here.
        std::mem::swap(&mut *self.completions.borrow_mut(), &mut completions);
    }

    fn take_timers(&self, parked: bool) {
        let mut timers = self.timers.borrow_mut();
        let Some(next) = timers.next() else { return };
        let engine = self.engine.borrow();
        let driver = engine.driver();
        // Between two polls a deadline that is far away costs no look at the exact clock.
        if !parked && driver.coarse_now() + COARSE < next {
            return;
        }
        // Due: before now plus the clock's resolution of 1 ns.
        let end = driver.now() + 1;
        while let Some(key) = timers.pop_due(end) {
            let CallKey { index, generation } = key;
            if is_bell(key) && timers.is_bell_waiting(key) {
                self.ready.push(ReadyEntry::bell(index, generation));
            } else if self.callbacks.is_waiting(key) {
                self.ready.push(ReadyEntry::callback(index, generation));
            } else {
                timers.forget_cancelled();
            }
        }
        timers.note_taken(end);
        if next < end {
            self.slack_until.set(end.saturating_add(TIMER_SLACK));
        }
    }

    #[inline(always)]
    fn run(self: &Rc<Self>, entry: ReadyEntry) {
        match entry.kind {
            Kind::Task => self.tasks.step_inline(entry.index, entry.generation),
            // A copy, so that entries of the other kinds need not stand in memory.
            Kind::Completion => self.complete(entry.taken()),
            Kind::Bell => self.ring(call_key(&entry)),
            Kind::Callback => self.run_callback(call_key(&entry)),
        }
    }

    #[inline(never)]
    fn run_callback(&self, key: CallKey) {
        if let Err(panic) = self.callbacks.run(key) {
            self.report_callback(panic);
        }
    }

    /// Code of others runs only where a cancelled scope wakes it.
    fn ring(&self, key: CallKey) {
        let bell = self.timers.borrow_mut().take_bell(key);
        let Some(bell) = bell else { return };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.tasks.ring(bell))) {
            let Origin { name, created } = Origin::of_bell();
            self.report_callback(CallPanic {
                name,
                created,
                context: Context::new(),
                payload,
            });
        }
    }

    #[cold]
    fn report_callback(&self, panic: CallPanic) {
        let CallPanic {
            name,
            created,
            context: ran_in,
            payload,
        } = panic;
        if is_loop_exit(&*payload) {
            resume_unwind(payload);
        }
        let (origin, payload) = match payload.downcast::<Failed>() {
            Ok(failed) => (failed.origin, failed.payload),
            Err(payload) => (Origin { name, created }, payload),
        };
        let message = format!("Exception in callback {}", origin.name);
        let mut context = ExceptionContext::panic(message, payload);
        context.handle = Some(origin.text(self.debug.get()));
        ran_in.run(|| self.report(context));
    }

    #[cold]
    fn run_timed(self: &Rc<Self>, entry: ReadyEntry) {
        let what = match entry.kind {
            Kind::Task => {
                let task = self.tasks.at(entry.index, entry.generation);
                task.map_or_else(String::new, |task| format!("{task:?}"))
            }
            Kind::Completion => "a completion".to_owned(),
            Kind::Bell => "a timer".to_owned(),
            Kind::Callback => {
                let name = self.callbacks.name(call_key(&entry));
                name.unwrap_or_default().to_owned()
            }
        };
        let start = self.now();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run(entry)));
        let took = self.now() - start;
        if took >= self.slow_callback.get() {
            self.report(ExceptionContext::new(format!(
                "Executing {what} took {}.{:03} seconds",
                took / 1_000_000_000,
                took / 1_000_000 % 1000,
            )));
        }
        if let Err(payload) = outcome {
            resume_unwind(payload);
        }
    }
}
