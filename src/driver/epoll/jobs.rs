//! File operations, on threads.
//!
//! **Guarantees.** A job owns its buffer while it is queued and while it runs, so that nothing here
//! needs care about memory: the operation in the table holds an empty one until the result brings
//! the buffer back, and when the driver is gone the job frees it. The descriptor stays open because
//! the operation in the table holds it (also when it is leaked). A job that has not started can
//! be cancelled; one that runs completes.
//!
//! ```text
//!   start ─▶ Ticket(work) ──thread takes it──▶ runs ─▶ Done ─▶ posted, unpark ─▶ collect ─▶ completion
//!                 └──cancel takes it──▶ -ECANCELED
//! ```

use super::super::{Buf, Completion, Key, Op, Unpark};
use super::Turn;
use super::posted::Posted;
use super::waker::Waker;
use crate::sys::threads::Threads;
use crate::sys::{file, to_result};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether the operation runs here.
pub(super) const fn is_file(op: &Op) -> bool {
    matches!(
        op,
        Op::OpenAt { .. } | Op::ReadAt { .. } | Op::WriteAt { .. } | Op::Fsync { .. }
    )
}

enum Work {
    Open(CString, i32, u32),
    Read(RawFd, Buf, u64),
    Write(RawFd, Buf, u64),
    Sync(RawFd, bool),
}

/// A result on its way back.
struct Done {
    key: Key,
    result: i32,
    opened: Option<OwnedFd>,
    buf: Option<Buf>,
}

impl Work {
    /// Takes from the operation what the job needs.
    fn take(op: &mut Op) -> Option<Self> {
        Some(match op {
            Op::OpenAt { path, flags, mode } => Self::Open(path.clone(), *flags, (*mode).into()),
            Op::ReadAt { fd, part } => {
                Self::Read(fd.as_raw_fd(), empty(&mut part.buf), part.offset)
            }
            Op::WriteAt { fd, part } => {
                Self::Write(fd.as_raw_fd(), empty(&mut part.buf), part.offset)
            }
            Op::Fsync { fd, data_only } => Self::Sync(fd.as_raw_fd(), *data_only),
            _ => return None,
        })
    }

    fn run(self, key: Key) -> Done {
        let done = |result, buf| Done {
            key,
            result,
            opened: None,
            buf,
        };
        match self {
            Self::Open(path, flags, mode) => match file::open(&path, flags, mode) {
                Ok(fd) => Done {
                    opened: Some(fd),
                    ..done(0, None)
                },
                Err(error) => done(to_result(Err(error)), None),
            },
            Self::Read(fd, mut buf, offset) => {
                let result = to_result(file::read_at(fd, &mut buf, offset));
                done(result, Some(buf))
            }
            Self::Write(fd, buf, offset) => {
                let result = to_result(file::write_at(fd, &buf, offset));
                done(result, Some(buf))
            }
            Self::Sync(fd, data_only) => done(to_result(file::sync(fd, data_only)), None),
        }
    }

    /// Gives the buffer of a job that did not run back.
    fn give_back(self, op: &mut Op) {
        if let Self::Read(_, buf, _) | Self::Write(_, buf, _) = self {
            restore(op, buf);
        }
    }
}

fn empty(buf: &mut Buf) -> Buf {
    std::mem::replace(buf, Buf::Vec(Vec::new()))
}

fn restore(op: &mut Op, bytes: Buf) {
    if let Op::ReadAt { part, .. } | Op::WriteAt { part, .. } = op {
        part.buf = bytes;
    }
}

/// Where threads put results.
struct Results {
    done: Posted<Done>,
    waker: Arc<Waker>,
}

impl Results {
    fn post(&self, done: Done) {
        self.done.post(done);
        self.waker.unpark();
    }
}

/// The work of a queued job, until the thread or a cancel takes it.
type Ticket = Arc<Mutex<Option<Work>>>;

fn claim(ticket: &Ticket) -> Option<Work> {
    ticket.lock().unwrap_or_else(PoisonError::into_inner).take()
}

pub(super) struct Jobs {
    threads: Threads,
    /// Whether the pool is the driver's own.
    own: bool,
    results: Arc<Results>,
    tickets: HashMap<Key, Ticket>,
}

impl Jobs {
    /// With `threads` shared with others, or a pool of its own.
    pub(super) fn new(threads: Option<Threads>, waker: Arc<Waker>) -> Self {
        use crate::sys::threads::{KEEP_IDLE, default_limit};
        let own = threads.is_none();
        let threads =
            threads.unwrap_or_else(|| Threads::new("ringloop-file", default_limit(), KEEP_IDLE));
        Self {
            threads,
            own,
            results: Arc::new(Results {
                done: Posted::new(),
                waker,
            }),
            tickets: HashMap::new(),
        }
    }

    pub(super) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Hands the operation to a thread.
    ///
    /// # Errors
    /// The result it completes with when no thread takes it: `-EAGAIN` when the system gives none,
    /// `-ECANCELED` when the pool is shut down.
    pub(super) fn start(&mut self, key: Key, op: &mut Op) -> Result<(), i32> {
        let Some(work) = Work::take(op) else {
            return Err(-libc::EINVAL);
        };
        let ticket: Ticket = Arc::new(Mutex::new(Some(work)));
        let for_thread = ticket.clone();
        let results = self.results.clone();
        let job = move || {
            if let Some(work) = claim(&for_thread) {
                results.post(work.run(key));
            }
        };
        if let Err(refused) = self.threads.submit(Box::new(job)) {
            if let Some(work) = claim(&ticket) {
                work.give_back(op);
            }
            return Err(-refused.cause.raw_os_error().unwrap_or(libc::ECANCELED));
        }
        self.tickets.insert(key, ticket);
        Ok(())
    }

    /// Takes the operation back unless a thread has begun; whether it did.
    pub(super) fn cancel(&mut self, key: Key, op: &mut Op) -> bool {
        let Some(work) = self.tickets.get(&key).and_then(claim) else {
            return false;
        };
        self.tickets.remove(&key);
        work.give_back(op);
        true
    }

    /// Reports what threads have finished.
    #[inline]
    pub(super) fn collect(&mut self, turn: &mut Turn<'_>) {
        if self.results.done.any() {
            self.collect_all(turn);
        }
    }

    #[cold]
    fn collect_all(&mut self, turn: &mut Turn<'_>) {
        for done in self.results.done.take() {
            self.tickets.remove(&done.key);
            if let (Some(op), Some(buf)) = (turn.table.op_mut(done.key), done.buf) {
                restore(op, buf);
            }
            turn.complete(match done.opened {
                Some(fd) => Completion::descriptor(done.key, fd, false),
                None => Completion::last(done.key, done.result),
            });
        }
    }

    /// No more jobs come.
    pub(super) fn close(&self) {
        if self.own {
            self.threads.shut_down(false);
        }
    }
}
