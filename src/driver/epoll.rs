//! The epoll driver: performs an operation when its descriptor is ready, and reports a completion.
//!
//! **Guarantees.** Those of [`Driver`], without a line of `unsafe`. Nothing is
//! performed inside `submit`; everything is in `park`, so that call order and cancel-before-flush
//! mean what they mean on io_uring. No call of this thread blocks except the wait itself.
//!
//! ```text
//!  submit, cancel ─▶ queue ──park──▶ flush: perform at once ──────────────▶ completion
//!                                      │ would block                            ▲
//!                                      ▼                                        │
//!                            waiters of the descriptor ──wait──▶ edge: perform ─┘
//!                                                                               │
//!                    file operations ─▶ threads ──unpark──▶ results collected ──┘
//! ```
//!
//! **One registration per descriptor, edge-triggered, kept.** A message costs a wait, a receive and
//! a send, and nothing else: no `epoll_ctl`, because the registration outlives the operations and
//! dies with the descriptor; no receive that finds nothing, because a short read from a TCP socket
//! has drained it and the next byte makes a new edge. What can make a read short although more is
//! there is told by the event (urgent data, end of stream) or by the read (control data of a Unix
//! socket): then it is read until it would block. See `file.rs`.
//!
//! **Settling.** An inline send is performed at flush. One that was taken whole, and that nothing
//! waits behind, does not end the wait: its completion is delivered with whatever ends it, as on
//! io_uring, where it would not even be reported. Every other completion at flush forbids sleeping, and
//! so does that one while a receive waits for a buffer, which the send may hold.
//!
//! | differs from io_uring | how |
//! |---|---|
//! | listeners | are put into non-blocking mode when first seen, for `accept4(2)` has no flag for it |
//! | sockets that connect | are in non-blocking mode during the call |
//! | file operations | run on a thread pool; one that runs is not cancelled, and completes |
//! | polls | report what holds when the wait ends, not what woke it, so an event that was over by then is missing; `POLLRDHUP` only when asked for |
//! | multishot poll | an edge of the other direction may repeat events that still hold |
//! | a receive that waits for no edge yet | is performed after the flush: a poll submitted behind it may see its bytes |
//! | a receive behind another one on the same socket | waits for its turn |

#![deny(unsafe_code)]

mod accept;
mod file;
mod jobs;
mod poll;
mod posted;
mod receive;
mod waiters;
mod waker;
mod write;

use super::{
    CONNECT_RETRY, Completion, Completions, Counters, Driver, DriverKind, Key, Op, OpTable, Park,
    Pool, Unpark, count_closed,
};
use crate::sys::epoll::{Epoll, Events, Wait};
use crate::sys::fork::Origin;
use crate::sys::threads::Threads;
use crate::sys::{clock, socket, to_result};
use file::{FileRef, Files, READ, WRITE};
use jobs::Jobs;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use waker::Waker;

/// Events taken from one wait; more are left for the next one.
///
/// Few, because all of them are received before the first answer is sent: with 500 connections busy,
/// 256 cost a fifth more CPU per message than 32, since buffers and sockets leave the cache meanwhile,
/// and the additional waits cost next to nothing.
const EVENTS: usize = 32;

/// How an [`EpollDriver`] is made.
#[derive(Clone, Debug)]
pub struct EpollOptions {
    /// The most receive buffers, at most [`super::MAX_BUFFERS`], which is the default.
    pub buffers: usize,
    /// Where file operations run; by default a pool of the driver's own, shut down with it.
    pub threads: Option<Threads>,
}

impl Default for EpollOptions {
    fn default() -> Self {
        Self {
            buffers: super::MAX_BUFFERS,
            threads: None,
        }
    }
}

/// What waits for the next flush.
enum Request {
    Start(Key),
    Cancel(Key),
}

/// The driver; see the module.
pub struct EpollDriver {
    epoll: Epoll,
    events: Events,
    files: Files,
    queue: Vec<Request>,
    /// Sends and connects that wait for their descriptor.
    writing: usize,
    /// Descriptors that had more to read than one park takes.
    again: Vec<FileRef>,
    /// Descriptors whose receive found no buffer, the longest waiting first.
    starving: VecDeque<FileRef>,
    /// Connects that the peer's full backlog refused.
    refused: Vec<Key>,
    jobs: Jobs,
    waker: Arc<Waker>,
    pool: Rc<Pool>,
    counters: Counters,
    /// Number of the park; tells the operations that it started.
    turn: u32,
    /// Of the epoll instance. A forked child shares it, and would take the parent's edges.
    origin: Origin,
    shut: bool,
}

/// One park in progress.
struct Turn<'a> {
    table: &'a mut OpTable,
    out: &'a mut Completions,
    /// Something completed, or is urgent: do not sleep.
    ends: bool,
    /// Something completed that does not end the wait.
    holds: bool,
}

impl Turn<'_> {
    #[inline]
    fn complete(&mut self, completion: Completion) {
        self.out.push(completion);
        self.ends = true;
    }

    #[inline]
    fn finish(&mut self, key: Key, result: i32) {
        self.complete(Completion::last(key, result));
    }

    /// Completes without ending the wait.
    #[inline]
    fn hold(&mut self, completion: Completion) {
        self.out.push(completion);
        self.holds = true;
    }
}

impl EpollDriver {
    /// A driver with its pool.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`: no descriptor is left for the epoll instance or the eventfd that wakes it;
    /// `ENOMEM`.
    pub fn new(options: EpollOptions) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let waker = Waker::new(&epoll)?;
        let pool = Pool::new(options.buffers);
        pool.set_unpark(waker.clone());
        Ok(Self {
            epoll,
            events: Events::new(EVENTS),
            files: Files::default(),
            queue: Vec::with_capacity(64),
            writing: 0,
            again: Vec::new(),
            starving: VecDeque::new(),
            refused: Vec::new(),
            jobs: Jobs::new(options.threads, waker.clone()),
            waker,
            pool,
            counters: Counters::default(),
            turn: 0,
            origin: Origin::here(),
            shut: false,
        })
    }

    /// The pool that file operations run on.
    pub fn threads(&self) -> &Threads {
        self.jobs.threads()
    }

    /// Performs what was submitted, in order.
    fn flush(&mut self, turn: &mut Turn<'_>) {
        let mut queue = std::mem::take(&mut self.queue);
        for request in queue.drain(..) {
            match request {
                Request::Start(key) => self.start(turn, key),
                Request::Cancel(key) => self.stop(turn, key),
            }
        }
        self.queue = queue;
    }

    #[inline]
    fn start(&mut self, turn: &mut Turn<'_>, key: Key) {
        let Some(op) = turn.table.op_mut(key) else {
            return;
        };
        match op {
            Op::Send { .. } => self.start_send(turn, key),
            Op::RecvMulti { .. } | Op::Recv { .. } | Op::Accept { .. } | Op::AcceptMulti { .. } => {
                self.start_read(turn, key)
            }
            Op::Connect { .. } => self.start_connect(turn, key),
            Op::Poll { .. } | Op::PollMulti { .. } => self.start_poll(turn, key),
            Op::Nop => turn.finish(key, 0),
            Op::Shutdown { fd, how } => {
                self.counters.submitted += 1;
                let done = socket::shutdown(fd, *how);
                turn.finish(key, to_result(done.map(|()| 0)));
            }
            Op::Close { fd } => {
                self.counters.submitted += 1;
                let done = fd.take().ok_or(Errno::EBADF).and_then(nix::unistd::close);
                count_closed();
                turn.finish(key, done.map_or_else(|errno| -(errno as i32), |()| 0));
            }
            Op::OpenAt { .. } | Op::ReadAt { .. } | Op::WriteAt { .. } | Op::Fsync { .. } => {
                self.counters.submitted += 1;
                if let Err(result) = self.jobs.start(key, op) {
                    turn.finish(key, result);
                }
            }
        }
    }

    /// Cancels an operation that waits; one that completed meanwhile is not found.
    fn stop(&mut self, turn: &mut Turn<'_>, key: Key) {
        let Some(op) = turn.table.op_mut(key) else {
            return;
        };
        if jobs::is_file(op) {
            if self.jobs.cancel(key, op) {
                turn.finish(key, -libc::ECANCELED);
            }
            return;
        }
        if let Some(index) = self.refused.iter().position(|other| *other == key) {
            self.refused.remove(index);
            return turn.finish(key, -libc::ECANCELED);
        }
        let Some(at) = op.fd().and_then(|fd| self.files.find(fd)) else {
            return;
        };
        self.try_before_cancel(turn, at, key);
        let file = &mut self.files[at];
        let wrote = file.remove_writer(key);
        self.writing -= usize::from(wrote);
        if wrote || file.remove(key) {
            turn.finish(key, -libc::ECANCELED);
        }
    }

    /// io_uring tries an operation when it is submitted, so a cancel that follows in the same flush
    /// comes too late for what is ready already. Sends, connects and one-shot polls are tried at once
    /// here too; receives and accepts are tried now. A multishot poll answers the cancel first on
    /// io_uring as well.
    fn try_before_cancel(&mut self, turn: &mut Turn<'_>, at: FileRef, key: Key) {
        let file = &mut self.files[at];
        if (file.reader()).is_some_and(|first| first.is(key, self.turn)) {
            file.readable = true;
            self.read(turn, at);
        }
    }

    /// What the last park left unread.
    fn go_on(&mut self, turn: &mut Turn<'_>) {
        let left = self.again.len();
        for index in 0..left {
            let at = self.again[index];
            if let Some(file) = self.files.get_mut(at) {
                file.queued = false;
                self.read(turn, at);
            }
        }
        // What has still more was added behind.
        self.again.drain(..left);
    }

    /// What no edge reports: a buffer that came back, room in a backlog.
    fn try_again(&mut self, turn: &mut Turn<'_>) {
        if !self.starving.is_empty() {
            self.feed(turn);
        }
        for key in std::mem::take(&mut self.refused) {
            self.start_connect(turn, key);
        }
    }

    /// What happened to one descriptor.
    #[inline]
    fn ready(&mut self, turn: &mut Turn<'_>, at: FileRef, mask: u32) {
        let Some(file) = self.files.get_mut(at) else {
            self.counters.stale += 1;
            return;
        };
        let unclaimed = file.take_edge(mask);
        if unclaimed != 0 {
            self.files.disregard(&self.epoll, at, unclaimed);
            return;
        }
        let file = &self.files[at];
        // One that is queued to go on has had its turn in this park.
        let reads = file.reader().is_some() && !file.queued;
        let writes = mask & WRITE_EDGE != 0 && file.writer().is_some();
        let polls = file.has_polls();
        if reads && mask & READ_EDGE != 0 {
            self.read(turn, at);
        }
        if writes {
            self.write(turn, at);
        }
        if polls {
            self.polled(turn, at, mask);
        }
    }

    /// Whether the park has something to return for. What does not end the wait does so all the same
    /// when a receive waits for a buffer: a send that is done gives some back.
    fn is_over(&self, turn: &Turn<'_>) -> bool {
        turn.ends || (turn.holds && !self.starving.is_empty())
    }

    fn wait_for(&self, turn: &Turn<'_>, woken: bool, until: Park) -> Wait {
        if woken || self.is_over(turn) || !self.again.is_empty() {
            return Wait::Zero;
        }
        let wait = match until {
            Park::Poll => Wait::Zero,
            Park::Forever => Wait::Forever,
            Park::Until(time) => match time.saturating_sub(clock::now()) {
                0 => Wait::Zero,
                left => Wait::For(Duration::from_nanos(left)),
            },
        };
        match wait {
            Wait::Forever if !self.refused.is_empty() => Wait::For(CONNECT_RETRY),
            Wait::For(time) if !self.refused.is_empty() => Wait::For(time.min(CONNECT_RETRY)),
            wait => wait,
        }
    }
}

/// Events after which a receive or accept has something to do.
const READ_EDGE: u32 = READ | (libc::EPOLLERR | libc::EPOLLHUP) as u32;
/// Events after which a send or connect has something to do.
const WRITE_EDGE: u32 = WRITE | (libc::EPOLLERR | libc::EPOLLHUP) as u32;

impl Driver for EpollDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Epoll
    }

    fn report(&self) -> String {
        let waits = if self.epoll.is_exact() {
            "exact (epoll_pwait2)"
        } else {
            "rounded up to milliseconds (epoll_pwait2 is refused)"
        };
        format!("driver: epoll, edge-triggered\nwaits: {waits}\nfiles: a pool of threads")
    }

    // Unsafe to call only.
    #[expect(unsafe_code)]
    #[inline]
    unsafe fn submit(&mut self, key: Key, _op: &mut Op) {
        if self.origin.is_here() {
            self.queue.push(Request::Start(key));
        }
    }

    #[inline]
    fn cancel(&mut self, key: Key) {
        if self.origin.is_here() {
            self.queue.push(Request::Cancel(key));
        }
    }

    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
        if self.shut {
            return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
        }
        if !self.origin.is_here() {
            return Err(io::Error::other(
                "the epoll instance belongs to the parent process",
            ));
        }
        let before = out.len();
        let mut turn = Turn {
            table,
            out,
            ends: false,
            holds: false,
        };
        self.turn = self.turn.wrapping_add(1);
        self.go_on(&mut turn);
        self.flush(&mut turn);
        let result = loop {
            self.try_again(&mut turn);
            let mut woken = self.waker.take();
            let wait = self.wait_for(&turn, woken, until);
            self.counters.enters += 1;
            match self.epoll.wait(&mut self.events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break Ok(()),
                Err(error) => break Err(error),
            }
            for index in 0..self.events.len() {
                let (mask, data) = self.events.get(index);
                if data == waker::DATA {
                    woken = true;
                } else {
                    self.ready(&mut turn, FileRef::from_bits(data), mask);
                }
            }
            if woken {
                self.waker.take();
            }
            self.jobs.collect(&mut turn);
            let over = match until {
                Park::Poll => true,
                Park::Until(time) => self.events.is_empty() && time <= clock::now(),
                Park::Forever => false,
            };
            // Otherwise only edges came that nobody waits for.
            if woken || over || self.is_over(&turn) {
                break Ok(());
            }
        };
        self.counters.completed += (out.len() - before) as u64;
        result
    }

    #[inline]
    fn wants_poll(&self) -> bool {
        if !self.origin.is_here() {
            return false;
        }
        !self.queue.is_empty()
            || !self.again.is_empty()
            || !self.starving.is_empty()
            || self.waker.is_raised()
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.waker.clone()
    }

    fn now(&self) -> u64 {
        clock::now()
    }

    fn coarse_now(&self) -> u64 {
        clock::coarse()
    }

    fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    /// Operations that never came back are files a thread still works on. Their buffers went with
    /// the job, so nothing here is leaked; the thread frees them. From here on parks fail with
    /// `ESHUTDOWN`, and whoever still holds the driver holds no epoll instance.
    fn shut_down(&mut self, _leaked: usize) {
        self.shut = true;
        self.origin = Origin::NOWHERE;
        self.epoll.close();
        self.jobs.close();
    }
}
