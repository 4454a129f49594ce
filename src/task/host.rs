//! What tasks need of the loop they run on.
//!
//! A loop of any make drives tasks with four things: a [`ReadyQueue`](crate::ready::ReadyQueue), whose
//! task entries it gives to [`Tasks::step`](super::Tasks::step); an
//! [`Unpark`](crate::driver::Unpark), which ends its sleep; a [`TaskHost`]; and a call of
//! [`Tasks::drain_remote`](super::Tasks::drain_remote) in each iteration. The lifetime functions
//! ([`enter_task`](super::enter_task) and the others), wakers, cancellation and context variables
//! come with them.

use super::callbacks::CallBody;
use super::report::Report;

/// The loop as its tasks see it. A loop holds its [`Tasks`](super::Tasks), and these hold this, so
/// an implementation refers to its loop weakly.
///
/// # Examples
/// A loop of twenty lines.
/// ```
/// use ringloop::driver::Unpark;
/// use ringloop::ready::{Kind, ReadyEntry, ReadyQueue};
/// use ringloop::task::{CallBody, CallKey, Callbacks, Report, TaskHost, TaskOptions, Tasks};
/// use std::rc::Rc;
/// use std::sync::Arc;
///
/// struct Host(Rc<ReadyQueue>, Rc<Callbacks>);
/// impl TaskHost for Host {
///     fn call_soon(&self, callback: &mut dyn CallBody) {
///         let CallKey { index, generation } = self.1.insert(callback);
///         self.0.push(ReadyEntry::callback(index, generation));
///     }
///     fn call_exception_handler(&self, report: Report) {
///         eprintln!("{report:?}");
///     }
/// }
/// struct CurrentThread(std::thread::Thread);
/// impl Unpark for CurrentThread {
///     fn unpark(&self) {
///         self.0.unpark();
///     }
/// }
///
/// let ready = Rc::new(ReadyQueue::new());
/// let callbacks = Rc::new(Callbacks::new());
/// let unpark = Arc::new(CurrentThread(std::thread::current()));
/// let host = Rc::new(Host(ready.clone(), callbacks.clone()));
/// let tasks = Tasks::new(ready.clone(), unpark, host);
///
/// let mut task = tasks.create_task(async { 6 * 7 }, TaskOptions::default());
/// task.add_done_callback(|done| println!("{:?} ended", done.task()));
/// let running = tasks.enter().unwrap();
/// while let Some(ReadyEntry { index, generation, kind, .. }) = ready.pop() {
///     match kind {
///         Kind::Task => tasks.step(index, generation),
///         Kind::Callback => drop(callbacks.run(CallKey { index, generation })),
///         Kind::Bell | Kind::Completion => unreachable!("no timers and no driver here"),
///     }
/// }
/// drop(running);
/// assert_eq!(task.result().unwrap().unwrap(), 42);
/// tasks.close();
/// ```
pub trait TaskHost {
    /// Queues a callback for the next iteration, first in, first out. Drops it when the loop is
    /// closed. Called for the done callbacks of tasks.
    fn call_soon(&self, callback: &mut dyn CallBody);

    /// Hears what nobody else can be told.
    fn call_exception_handler(&self, report: Report);
}
