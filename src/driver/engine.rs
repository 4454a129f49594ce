//! The engine: a driver and the operations it performs, in one piece.
//!
//! **Guarantees.**
//! * Whoever holds an engine can start operations, ask for their end and hear of their completions,
//!   and nothing else: no safe code reaches the memory of an operation in flight, or makes a
//!   completion that the driver did not report.
//! * **Takes keep their order.** A receive or an accept that nobody waits for any more may still bring
//!   something. Until it has, later ones on the same descriptor are held back, in their order; then they
//!   get what was brought, before anything that is still in the socket. So no byte overtakes another,
//!   whoever gave up what, and the stash of a descriptor ([`Fd`](super::Fd)) needs nobody's attention.
//! * An engine is closed by [`close`](Engine::close). Dropped without, it leaks what is in flight
//!   on purpose (trap T2).
//!
//! ```text
//!  start ─┬──────────────────────────────▶ driver ──park──▶ completions ──▶ table: who hears?
//!         │ orphaned take on the same fd,      ▲                 ▲
//!         │ its stash is not empty, or         │ nothing left    │ what the stash has
//!         │ another is held for it             │                 │
//!         └────────────▶ held ─────────────────┴──(next park)────┘
//! ```
//!
//! **Who may touch it.** One loop. User code (targets, wakers, destructors) is never called in here
//! except by [`turn`](Engine::turn), [`close`](Engine::close) and, once it is closed,
//! [`start`](Engine::start), which are for those who drive an engine by hand; the event loop takes the
//! steps one by one and calls user code without a borrow.

use super::closed::ClosedDriver;
use super::pool::Claim;
use super::table::OpTable;
use super::target::{Complete, Delivery, Dispatch, Orphaned, Polled, Taken, Target};
use super::{Completion, Completions, Driver, Fd, Gather, Key, Op, Park, Pool};
use crate::ready::{ReadyEntry, ReadyQueue};
use std::io;
use std::rc::Rc;
use std::task::Waker;

/// See the module.
///
/// ```
/// use ringloop::driver::epoll::{EpollDriver, EpollOptions};
/// use ringloop::driver::{Complete, Engine, Event, Op, Park, Target};
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// #[derive(Default)]
/// struct Result(Cell<Option<i32>>);
///
/// impl Complete for Result {
///     fn complete(self: Rc<Self>, event: Event) {
///         self.0.set(Some(event.result));
///     }
/// }
///
/// let mut engine = Engine::new(Box::new(EpollDriver::new(EpollOptions::default())?));
/// let result = Rc::new(Result::default());
/// engine.start(Op::Nop, Target::Callback(result.clone()));
/// engine.turn(Park::Forever)?;
/// assert_eq!(result.0.get(), Some(0));
/// assert!(engine.close(2_000_000_000).is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Engine {
    // Before the driver: what is in flight is leaked while the driver, dropped then, leaks its own.
    table: OpTable,
    driver: Box<dyn Driver>,
    pool: Rc<Pool>,
    /// Takes that wait for others, in order.
    held: Vec<Key>,
    /// Completions made outside a park.
    answers: Completions,
    closed: bool,
}

impl Engine {
    /// An engine that performs its operations with `driver`.
    pub fn new(driver: Box<dyn Driver>) -> Self {
        Self {
            table: OpTable::new(),
            pool: driver.pool().clone(),
            driver,
            held: Vec::new(),
            answers: Completions::new(),
            closed: false,
        }
    }

    /// The driver: its kind, report, clock, counters, pool.
    #[inline]
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Starts an operation; its completions go to `target`, by the next park at the earliest. After the
    /// close it completes at once with `-ECANCELED`: a waiter finds that, nobody else hears of it.
    #[inline]
    pub fn start(&mut self, op: Op, target: Target) -> Key {
        if self.closed {
            let (key, refused, _target) = self.refuse(op, target);
            if let Dispatch::Drop(adopted) = refused {
                adopted.adopt();
            }
            return key;
        }
        let waits = (op.takes()).is_some_and(|fd| fd.is_disturbed() || self.holds_for(fd));
        let key = self.table.insert(op, target);
        if waits {
            self.held.push(key);
        } else {
            self.submit(key);
        }
        key
    }

    /// As [`start`](Self::start) of an [`Op::Send`], built where it is to stand.
    /// Not for a closed engine.
    #[inline(always)]
    pub(crate) fn start_send(
        &mut self,
        fd: Fd,
        data: Box<Gather>,
        inline: bool,
        urgent: bool,
        target: Rc<dyn Complete>,
    ) -> Key {
        let (key, op) = self.table.insert_send(fd, data, inline, urgent, target);
        // SAFETY: as in `submit`.
        unsafe { self.driver.submit(key, op) };
        key
    }

    /// Whether a take on this descriptor is held back.
    #[inline]
    fn holds_for(&mut self, fd: &Fd) -> bool {
        let Self { held, table, .. } = self;
        held.iter().any(|key| {
            let take = table.op_mut(*key).and_then(|op| op.takes());
            take.is_some_and(|held| held.id() == fd.id())
        })
    }

    #[inline]
    fn submit(&mut self, key: Key) {
        if let Some(op) = self.table.op_mut(key) {
            // SAFETY: the operation stands in this engine's table at its key. Nobody but the driver
            // gets at it there, every park of the driver is given that table, and the table gets only
            // completions that this driver reported: the engine itself makes one up only for what the
            // driver was not given.
            unsafe { self.driver.submit(key, op) };
        }
    }

    /// The engine is closed: what to do for an operation that is not started any more, and the target
    /// that hears nothing of it; to be dropped outside any borrow.
    #[cold]
    pub(crate) fn refuse(&mut self, op: Op, target: Target) -> (Key, Dispatch, Target) {
        let (target, unheard) = match target {
            Target::Waiter(_) => (target, Target::Orphan),
            Target::Callback(_) | Target::Orphan => (Target::Orphan, target),
        };
        let key = self.table.insert(op, target);
        let refused = Completion::last(key, -libc::ECANCELED);
        (key, self.dispatch(refused), unheard)
    }

    /// Asks for the end of an operation; it completes as usual, with `-ECANCELED` if this came first.
    /// A stale key, and one of an operation that is over, is ignored.
    pub fn cancel(&mut self, key: Key) {
        if self.closed || !self.table.is_in_flight(key) {
            return;
        }
        if self.held.is_empty() || !self.let_fall(key) {
            self.driver.cancel(key);
        }
    }

    /// Takes the target of an operation away: what it still brings goes where the operation's orphan rule
    /// says. Call [`Orphaned::adopt`], and [`cancel`](Self::cancel) if it is in flight.
    pub fn orphan(&mut self, key: Key) -> Orphaned {
        if !self.held.is_empty() {
            self.let_fall(key);
        }
        self.table.orphan(key)
    }

    /// One that is held back brings nothing: it ends at once, and whether it did.
    #[cold]
    fn let_fall(&mut self, key: Key) -> bool {
        let Some(at) = self.held.iter().position(|held| *held == key) else {
            return false;
        };
        self.held.remove(at);
        self.answers.push(Completion::last(key, -libc::ECANCELED));
        true
    }

    /// For a future: the operation and its result if it is done, else whether its target has to be
    /// replaced by this waker ([`set_target`](Self::set_target)). No waker is cloned or dropped in
    /// here: those are code of others.
    pub fn poll(&mut self, key: Key, waker: &Waker) -> Polled {
        self.table.poll(key, waker)
    }

    /// Replaces the target of an operation in flight; the one that is not needed any more is to be
    /// dropped outside any borrow.
    #[must_use = "drop it outside any borrow"]
    pub fn set_target(&mut self, key: Key, target: Target) -> Target {
        self.table.set_target(key, target)
    }

    /// Whether the operation is in flight: its final completion was not reported yet.
    pub fn is_in_flight(&mut self, key: Key) -> bool {
        self.table.is_in_flight(key)
    }

    /// How many operations are in flight.
    pub fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    /// The names of the operations in flight.
    pub fn names_in_flight(&self) -> Vec<&'static str> {
        self.table.names_in_flight()
    }

    /// Completions for operations that were gone.
    pub fn stale(&self) -> u64 {
        self.table.stale()
    }

    /// Results that came for nobody and went where the rule of their operation says.
    pub fn adopted(&self) -> u64 {
        self.table.adopted()
    }

    /// Whether a [`Park::Poll`] could find or submit anything.
    #[inline]
    pub(crate) fn wants_poll(&self) -> bool {
        !self.held.is_empty() || !self.answers.is_empty() || self.driver.wants_poll()
    }

    /// Parks the driver; completions are appended to `out`, each to be given to
    /// [`dispatch`](Self::dispatch), in order.
    #[inline]
    pub(crate) fn park(&mut self, until: Park, out: &mut Completions) -> io::Result<()> {
        let mut until = until;
        if !self.held.is_empty() || !self.answers.is_empty() {
            until = self.let_go(until, out);
        }
        self.driver.park(&mut self.table, until, out)
    }

    /// Serves takes that were held back, and hands out what was answered here. How long the park may
    /// last then. (What is held still waits for the driver: the cancel of an orphan.)
    #[cold]
    fn let_go(&mut self, until: Park, out: &mut Completions) -> Park {
        out.append(&mut self.answers);
        for key in std::mem::take(&mut self.held) {
            while let Some(op) = self.table.op_mut(key) {
                let Some(fd) = op.takes() else { break };
                if fd.has_orphans() || !self.pool.may_bring() {
                    self.held.push(key);
                    break;
                }
                let Some(completion) = serve(key, op, &self.pool) else {
                    // The stash is empty: the rest is the driver's.
                    self.submit(key);
                    break;
                };
                let goes_on = completion.is_more();
                out.push(completion);
                if !goes_on {
                    break;
                }
            }
        }
        if out.is_empty() { until } else { Park::Poll }
    }

    /// Takes one completion in, if it is one of those that matter: what a callback is to hear goes to
    /// `ready`.
    #[inline(always)]
    pub(crate) fn take_in(&mut self, completion: &Completion, ready: &ReadyQueue) -> Taken {
        self.table.take_in(completion, ready)
    }

    /// Takes one completion in and says what to do for it, without a borrow of the engine.
    pub(crate) fn dispatch(&mut self, completion: Completion) -> Dispatch {
        self.table.dispatch(completion, &self.pool)
    }

    /// What a ready entry that [`dispatch`](Self::dispatch) made brings, and to whom, if that is bytes of
    /// a receive that goes on.
    #[inline(always)]
    pub(crate) fn deliver_data(&mut self, ready: &ReadyEntry) -> Option<(Rc<dyn Complete>, Claim)> {
        self.table.deliver_data(ready, &self.pool)
    }

    /// What it brings if it is something else.
    pub(crate) fn deliver_other(&mut self, ready: ReadyEntry) -> Delivery {
        self.table.deliver_other(ready, &self.pool)
    }

    /// What it brings, and to whom.
    pub(crate) fn deliver(&mut self, ready: ReadyEntry) -> Delivery {
        let key = Key {
            index: ready.index,
            generation: ready.generation,
        };
        match self.deliver_data(&ready) {
            Some((target, claim)) => Delivery::Data(target, key, claim.lease(&self.pool)),
            None => self.deliver_other(ready),
        }
    }

    /// The keys of all operations whose result nobody has taken.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.table.keys()
    }

    /// The end, once as much as possible came back: what is still in flight is leaked. The names of that.
    pub(crate) fn shut_down(&mut self) -> Vec<&'static str> {
        let names = self.table.names_in_flight();
        if !self.closed {
            self.closed = true;
            self.driver.shut_down(names.len());
            let stand_in = ClosedDriver::instead_of(&*self.driver);
            self.driver = Box::new(stand_in);
            self.pool.forget_unpark();
        }
        names
    }

    /// One turn of a loop, by hand: parks, then calls the targets of what completed, in order. How many
    /// completions there were.
    ///
    /// # Errors
    /// Only when the driver is broken for good.
    pub fn turn(&mut self, until: Park) -> io::Result<usize> {
        /// A target that panics leaves the rest to the next turn.
        struct Rest<'a>(&'a mut Engine, std::vec::IntoIter<Completion>);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                self.0.answers.splice(..0, self.1.by_ref());
            }
        }
        let mut out = Completions::new();
        let parked = self.park(until, &mut out);
        let count = out.len();
        let mut rest = Rest(self, out.into_iter());
        for completion in rest.1.by_ref() {
            match rest.0.dispatch(completion) {
                Dispatch::Ready(entry) => rest.0.deliver(entry).call(),
                Dispatch::Wake(waker) => waker.wake(),
                Dispatch::Drop(adopted) => adopted.adopt(),
                Dispatch::Nothing => {}
            }
        }
        drop(rest);
        parked.map(|()| count)
    }

    /// Cancels everything, waits at most `deadline` nanoseconds until it has come back, and closes the
    /// driver. Nobody hears of completions any more: results are adopted by the orphan rule of
    /// their operation. The names of the operations that did not come back, whose memory is leaked on
    /// purpose.
    ///
    /// This is the only correct end of a driver: the kernel does not wait when a ring is closed (trap
    /// T2).
    pub fn close(&mut self, deadline: u64) -> Vec<&'static str> {
        let end = self.driver.now().saturating_add(deadline);
        for key in self.keys() {
            if self.orphan(key).adopt() {
                self.cancel(key);
            }
        }
        // What has come back is taken in, however late it is when this looks.
        let mut in_time = deadline > 0;
        while self.in_flight() > 0 && in_time {
            in_time = self.driver.now() < end;
            if self.turn(Park::Until(end)).is_err() {
                break;
            }
        }
        self.shut_down()
    }
}

/// Completes a take with what the stash has, if it has something.
fn serve(key: Key, op: &mut Op, pool: &Rc<Pool>) -> Option<Completion> {
    match op {
        Op::Recv { fd, buf } => fd
            .take_bytes(buf)
            .map(|result| Completion::last(key, result)),
        Op::RecvMulti { fd } => match fd.take_all() {
            Some(Ok(bytes)) => {
                let len = bytes.len() as i32;
                Some(Completion::brought(key, pool.bring(bytes), len))
            }
            Some(Err(end)) => Some(Completion::last(key, end)),
            None => None,
        },
        Op::Accept { fd } => fd
            .take_accepted()
            .map(|connection| Completion::descriptor(key, connection, false)),
        Op::AcceptMulti { fd } => fd
            .take_accepted()
            .map(|connection| Completion::descriptor(key, connection, true)),
        _ => None,
    }
}
