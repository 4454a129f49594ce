//! `Wait`: what every ringloop leaf future holds, and where cancellation reaches it.
//!
//! **Guarantees.** A wait has at most one node. A request is delivered to a node once, by
//! [`Wait::check`]; a kept request is taken by the first [`Wait::suspend`]. Outside any task, and
//! under `.bare()`, nothing registers and nothing can cancel.
//!
//! A leaf future is written like this:
//!
//! ```text
//!   poll:  wait.check()?;                     // a delivered request wins over the result
//!          if the result is there { wait.finish(); return Ready(Ok(result)) }
//!          keep cx.waker() where the result will come;
//!          wait.suspend(cx, what)?;           // a kept request is taken here
//!          Pending
//!   drop:  Wait's own drop unregisters
//! ```

use super::cancelled::Cancelled;
use super::id::TaskId;
use super::nodes::Marks;
use super::noted::Noted;
use super::running;
use super::slot::{BARE, Header};
use super::tasks::Tasks;
use super::waker::{clone_waker, word_of};
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Waker};

/// What a wait waits for, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A time.
    Sleep,
    /// The end of a task.
    Task(TaskId),
    /// An operation of the kernel on a descriptor.
    Io {
        /// The operation.
        name: &'static str,
        /// The descriptor.
        fd: i32,
    },
    /// Something else: a lock, a queue, an event.
    Other(&'static str),
}

/// One pending await of one task; see the module. All methods work outside any task too.
#[derive(Default)]
pub struct Wait {
    /// The node, while there is one.
    node: Option<(Rc<Tasks>, u32)>,
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wait").field(&self.what()).finish()
    }
}

impl Header {
    /// Whether an await with this waker needs nothing but a node: it is the task's own waker, no
    /// request is kept, and waits register.
    #[inline]
    pub(super) fn awaits_plainly(&self, waker: &Waker) -> bool {
        self.kept() == 0 && self.scope().get() != BARE && word_of(waker) == Some(self.word())
    }

    /// What waits for the end of this task.
    #[inline]
    fn awaited(&self) -> Noted {
        Noted::join(self.index(), self.generation())
    }
}

impl Wait {
    /// A wait that waits for nothing yet.
    pub const fn new() -> Self {
        Self { node: None }
    }

    /// Whether there is a node.
    #[inline]
    pub(super) fn is_registered(&self) -> bool {
        self.node.is_some()
    }

    /// Whether it is registered, and for what.
    pub fn what(&self) -> Option<WaitsFor> {
        let (tasks, index) = self.node.as_ref()?;
        Some(tasks.what(tasks.nodes.update(*index, |node| node.what)))
    }

    /// The first thing in a leaf's `poll`.
    ///
    /// # Errors
    /// [`Cancelled`] when a request was delivered to this wait, once; also when the result of what
    /// it waited for is there meanwhile (the leaf keeps or adopts the result).
    #[inline]
    pub fn check(&mut self) -> Result<(), Cancelled> {
        match &self.node {
            Some((tasks, index)) if tasks.nodes.is_marked(*index) => self.deliver(),
            _ => Ok(()),
        }
    }

    #[cold]
    fn deliver(&mut self) -> Result<(), Cancelled> {
        let Some((tasks, index)) = &self.node else {
            return Ok(());
        };
        let Some(cancelled) = tasks.deliver(*index) else {
            return Ok(());
        };
        self.finish();
        Err(cancelled)
    }

    /// The last thing before a leaf returns `Pending`: registers the wait with the running task,
    /// its current scope and the waker of `cx`, or refreshes that.
    ///
    /// # Errors
    /// [`Cancelled`] when a request was kept for the first await that would suspend: this one.
    /// Nothing is registered then.
    #[inline]
    pub fn suspend(&mut self, cx: &mut Context<'_>, what: WaitsFor) -> Result<(), Cancelled> {
        let registered = self.node.is_none()
            && running::with(|tasks| {
                // Nothing in here runs code of others.
                let Some(tasks) = tasks else {
                    return true;
                };
                match tasks.current_slot() {
                    Some(slot) if slot.awaits_plainly(cx.waker()) => {
                        let index = tasks.add_node(slot, None, tasks.note(what));
                        self.node = running::owned().map(|tasks| (tasks, index));
                        true
                    }
                    current => current.is_none(),
                }
            });
        if registered {
            return Ok(());
        }
        self.suspend_otherwise(cx, what)
    }

    /// `suspend` with another waker than the task's, again, with a request kept, or moved.
    #[inline(never)]
    fn suspend_otherwise(&mut self, cx: &mut Context<'_>, what: WaitsFor) -> Result<(), Cancelled> {
        let Some(tasks) = running::owned() else {
            self.finish();
            return Ok(());
        };
        let Some(slot) = tasks.waiting_slot() else {
            self.finish();
            return Ok(());
        };
        if slot.kept() != 0
            && let Some(scope) = tasks.take_kept(slot)
        {
            let cancelled = tasks.requests(slot, scope, |requests| requests.value());
            self.finish();
            return Err(cancelled);
        }
        let what = tasks.note(what);
        self.register(&tasks, slot, cx.waker(), what);
        Ok(())
    }

    /// As `suspend`, for the end of a task of the loop `of`: a kept request goes to that task.
    ///
    /// # Panics
    /// When another loop runs: nothing drives `of` meanwhile.
    #[inline(never)]
    pub(super) fn suspend_join(
        &mut self,
        cx: &mut Context<'_>,
        of: &Rc<Tasks>,
        awaited: &Header,
    ) -> Result<(), Cancelled> {
        let Some(tasks) = running::owned() else {
            self.finish();
            return Ok(());
        };
        assert!(
            Rc::ptr_eq(&tasks, of),
            "the awaited task is attached to a different loop"
        );
        let Some(slot) = tasks.waiting_slot() else {
            self.finish();
            return Ok(());
        };
        let index = self.register(&tasks, slot, cx.waker(), awaited.awaited());
        if slot.kept() != 0
            && let Some(scope) = tasks.take_kept(slot)
        {
            let marks = tasks.nodes.marks(index);
            let marks = Marks {
                mark: scope,
                forwarded: true,
                ..marks
            };
            tasks.nodes.set_marks(index, marks);
            let message = tasks.requests(slot, scope, |requests| requests.message());
            tasks.cancel(awaited, message);
        }
        Ok(())
    }

    /// `suspend_join` when nothing is special. `None`: something is.
    #[inline]
    pub(super) fn suspend_join_plainly<'a>(
        &mut self,
        cx: &Context<'_>,
        of: &'a Rc<Tasks>,
        awaited: &Header,
    ) -> Option<&'a Header> {
        if self.node.is_some() || !running::is(of) {
            return None;
        }
        let slot = of.current_slot()?;
        if !slot.awaits_plainly(cx.waker()) {
            return None;
        }
        let index = of.add_node(slot, None, awaited.awaited());
        self.node = Some((of.clone(), index));
        Some(slot)
    }

    /// Makes or refreshes the node.
    fn register(&mut self, tasks: &Rc<Tasks>, slot: &Header, waker: &Waker, what: Noted) -> u32 {
        let own = word_of(waker) == Some(slot.word());
        if let Some((of, index)) = &self.node {
            let index = *index;
            let same = Rc::ptr_eq(of, tasks)
                && of.nodes.update(index, |node| {
                    node.what = what;
                    node.slot == Some(NonNull::from(slot)) && node.scope == slot.scope().get()
                });
            if same {
                tasks.refresh(index, (!own).then_some(waker));
                return index;
            }
        }
        let waker = (!own).then(|| clone_waker(waker));
        self.finish();
        let index = tasks.add_node(slot, waker, what);
        self.node = Some((tasks.clone(), index));
        index
    }

    /// For a join whose task is done: the node goes. `Ok(Some)`: whose request had gone to that task.
    ///
    /// # Errors
    /// [`Cancelled`] as `check`.
    #[inline]
    pub(super) fn finish_join(&mut self) -> Result<Option<u32>, Cancelled> {
        match &self.node {
            Some((tasks, index)) if tasks.nodes.is_marked(*index) => self.finish_marked(),
            _ => {
                self.finish();
                Ok(None)
            }
        }
    }

    #[cold]
    fn finish_marked(&mut self) -> Result<Option<u32>, Cancelled> {
        self.check()?;
        let forwarded = self.node.as_ref().and_then(|(tasks, index)| {
            let marks = tasks.nodes.marks(*index);
            marks.forwarded.then_some(marks.mark)
        });
        self.finish();
        Ok(forwarded)
    }

    /// The result is taken: the node goes. Dropping the wait does the same.
    #[inline]
    pub fn finish(&mut self) {
        if let Some((tasks, index)) = self.node.take() {
            tasks.remove_node(index);
        }
    }
}

impl Wait {
    #[inline(never)]
    fn unregister(&mut self) {
        self.finish();
    }
}

impl Drop for Wait {
    /// Mostly the node went with the result.
    #[inline]
    fn drop(&mut self) {
        if self.node.is_some() {
            self.unregister();
        }
    }
}
