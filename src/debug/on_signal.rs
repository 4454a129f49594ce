//! A dump when a signal comes.
//!
//! ```text
//!   signal ─▶ handler: eventfd ─▶ thread "ringloop-dump" ─▶ call_soon_threadsafe: dump()
//!                                        │ no answer within PATIENCE
//!                                        └──▶ what can be seen from outside: the current task,
//!                                             what its thread does, the names of all tasks
//! ```
//!
//! **Guarantees.** A loop that turns writes its own dump. One that does not, because a task computes or
//! blocks, is looked at from another thread, which only reads what any thread may read.

use super::dump::{dump, write_out};
use super::graph::{Tracking, track};
use crate::event_loop::{LoopHandle, try_get_running_loop};
use crate::sys::fork::Origin;
use crate::sys::signals::Catch;
use crate::task::{LoopId, all_tasks, current_task};
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a loop may take to answer a signal before it is looked at from outside.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long the thread that waits for such an answer keeps a loop waiting which drops the guard instead.
const OVER_CHECK: Duration = Duration::from_millis(10);

/// The most tasks that are named when a loop is looked at from outside.
const MOST_NAMES: usize = 200;

/// See [`dump_on_signal`].
#[derive(Debug)]
pub struct DumpOnSignal {
    catch: Arc<Catch>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// A forked child has no such thread.
    origin: Origin,
    _tracking: Tracking,
}

/// Has a signal write a dump of the loop that runs in this thread to standard error, until what this
/// returns is dropped; then the signal means again what it meant before. `SIGUSR1` and `SIGQUIT` are
/// common choices.
///
/// A loop that does not answer within [`PATIENCE`] is looked at from outside: the task that keeps it, and
/// whether its thread computes or blocks in the kernel.
///
/// # Errors
/// `EBUSY`: the signal is caught already in this process; `EINVAL`: there is no such signal, or it can
/// not be caught; no running loop; no descriptor or thread is to be had.
///
/// # Examples
/// ```
/// # ringloop::run(async {
/// let _dumps = ringloop::debug::dump_on_signal(libc::SIGUSR1)?;
/// // Serve. `kill -USR1 PID` shows what every task waits for.
/// # std::io::Result::Ok(()) }).unwrap().unwrap();
/// ```
pub fn dump_on_signal(signal: i32) -> io::Result<DumpOnSignal> {
    let event_loop = try_get_running_loop()?;
    let tracking = track()?;
    let watched = Watched {
        handle: event_loop.handle()?,
        id: tracking.loop_id(),
        thread: nix::unistd::gettid().as_raw(),
    };
    let catch = Arc::new(Catch::new(signal, 0)?);
    let over = Arc::new(AtomicBool::new(false));
    let (caught, ended) = (catch.clone(), over.clone());
    let thread = std::thread::Builder::new()
        .name("ringloop-dump".to_owned())
        .spawn(move || {
            loop {
                caught.wait();
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                watched.dump(&ended);
            }
        })?;
    Ok(DumpOnSignal {
        catch,
        over,
        thread: Some(thread),
        origin: Origin::here(),
        _tracking: tracking,
    })
}

impl Drop for DumpOnSignal {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.catch.wake();
        if let Some(thread) = self.thread.take()
            && self.origin.is_here()
        {
            // It panics only where standard error does.
            let _ = thread.join();
        }
    }
}

/// A loop as the thread sees it.
struct Watched {
    handle: LoopHandle,
    id: LoopId,
    thread: i32,
}

impl Watched {
    fn dump(&self, over: &AtomicBool) {
        let (answer, answered) = channel();
        let asked = self.handle.call_soon_threadsafe(move || {
            dump();
            // The thread may have given up.
            let _ = answer.send(());
        });
        if asked.is_err() {
            return write_out("ringloop: the loop is closed\n");
        }
        if is_late(&answered, over) {
            write_out(&self.seen_from_outside());
        }
    }

    fn seen_from_outside(&self) -> String {
        let mut text = format!(
            "ringloop: {:?} has not answered for {} s; its thread {} {}\n",
            self.id,
            PATIENCE.as_secs(),
            self.thread,
            thread_state(self.thread),
        );
        let current = current_task(Some(self.id)).ok().flatten();
        let _ = match current {
            Some(task) => writeln!(text, "current task: {task:?}"),
            None => writeln!(text, "current task: none; a callback, or between two steps"),
        };
        let tasks = all_tasks(Some(self.id)).unwrap_or_default();
        let _ = writeln!(text, "{} tasks:", tasks.len());
        for task in tasks.iter().take(MOST_NAMES) {
            let _ = writeln!(text, "  {task:?}");
        }
        if tasks.len() > MOST_NAMES {
            text.push_str("  ...\n");
        }
        text
    }
}

/// Whether the answer takes longer than [`PATIENCE`]; not once nobody wants it any more: the loop may be
/// waiting for this thread.
fn is_late(answered: &Receiver<()>, over: &AtomicBool) -> bool {
    let end = Instant::now() + PATIENCE;
    while answered.recv_timeout(OVER_CHECK) == Err(RecvTimeoutError::Timeout) {
        if over.load(Ordering::SeqCst) {
            return false;
        }
        if Instant::now() >= end {
            return true;
        }
    }
    false
}

/// What a thread of this process does, as far as /proc tells.
fn thread_state(thread: i32) -> &'static str {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    // The name, in parentheses, may hold anything; the state is the letter behind it.
    let state = stat.ok().and_then(|stat| {
        let (_, rest) = stat.rsplit_once(')')?;
        rest.trim_start().chars().next()
    });
    match state {
        Some('R') => "computes",
        Some('S') => "sleeps in a system call",
        Some('D') => "sleeps in the kernel and cannot be disturbed (a disk, a network file system)",
        Some('T' | 't') => "is stopped",
        _ => "is in a state that /proc does not tell",
    }
}
