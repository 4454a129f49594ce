//! Tasks: arenas, wakers, wait nodes, cancel scopes, the current task. No I/O, no clock.
//!
//! One [`Tasks`] per loop. It shares the loop's ready queue: a woken task is an entry there, and
//! the loop calls [`Tasks::step`] for it.
//!
//! ```text
//!   create_task ─▶ arena slot ─▶ ready queue ─▶ step ─▶ body polled ─▶ leaf future ─▶ Wait (node)
//!                                    ▲                                     │ its waker
//!                                    ├──────────── local wake ◀────────────┤
//!        other threads ─▶ inbox ─────┘ (drained by the loop)  ◀────────────┘
//! ```
//!
//! # What it promises
//!
//! * **Memory.** A warm spawn takes nothing from the heap: the future is written into a slot of its
//!   size class, its output replaces it there, and the slot is used again. Slots never move.
//! * **Wakers** are packed words. They may be used on any thread and outlive everything. A step is
//!   queued once, however often a task is woken.
//! * **Panics** end their task alone. They are given to whoever awaits the task, else reported.
//! * **Cancellation** is a value that awaits return (D4). `cancel.rs` has the rules; a request is
//!   delivered once to each wait, kept when there is none yet, and never lost.
//! * **Closing** drops every body with its task current and needs no thread-local.
//!
//! # The life of a task
//!
//! ```text
//!            create_task          step
//!   (free) ─────────────▶ queued ──────▶ running ──pending──▶ suspended
//!      ▲                     ▲              │                    │
//!      │                     └────── wake ──┼────────────────────┘
//!      │                                    ▼
//!      └──── result taken, or handle ──── done: finished | cancelled | panicked
//!            dropped
//! ```
//!
//! # Who may touch what
//!
//! * `arena.rs` hands out memory, `slot.rs` is the header in it, `body.rs` what stands behind; `place.rs`
//!   boxes what is too large for that.
//! * Only `step.rs` polls or drops a body, under the `RUNNING` flag.
//! * `nodes.rs`, `scope.rs`, `requests.rs`, `cancel.rs`: cancellation; nobody else marks.
//! * `inbox.rs` and `table.rs` are all that other threads write; `shared.rs` all that they read, by the
//!   rules of `public.rs` and `current.rs`.
//! * `running.rs` holds the one thread-local.
//!
//! * `context.rs` holds what is current of the context variables, `context_var.rs` reads it.
//! * `host.rs` is what a loop does for its tasks, `done.rs` calls back when one ended.

mod arena;
mod bare;
mod bell;
mod body;
mod call_all;
mod callbacks;
mod cancel;
mod cancelled;
mod context;
mod context_var;
mod current;
mod done;
mod handle;
mod held;
mod host;
mod id;
mod inbox;
mod join;
mod listing;
mod loop_exit;
mod nodes;
mod noted;
mod permanent;
mod place;
mod public;
mod registry;
mod report;
mod requests;
mod running;
mod scope;
mod shared;
mod slot;
mod step;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
mod turn;
mod wait;
mod waker;

pub use bare::{Bare, bare};
pub use bell::Bell;
pub(crate) use bell::PlainBell;
pub use body::{FutureBody, TaskBody, TaskVTable};
pub(crate) use call_all::call_all;
pub use callbacks::{CallBody, CallKey, CallOnce, CallPanic, CallVTable, Callbacks};
pub use cancelled::Cancelled;
pub use context::{Context, ContextSnapshot, copy_context};
pub use context_var::{ContextVar, Token, TokenError};
pub use done::{DoneCallbackId, DoneTask, Ended};
pub use handle::{LocalTask, RawTask, Task, current};
pub use held::{cancellations_held, current_cancelling, give_back};
pub use host::TaskHost;
pub use id::{LoopId, TaskId};
pub use join::JoinError;
pub use listing::{ListedTask, ListedWait};
pub use loop_exit::{LoopExit, exit_loop, is_loop_exit};
pub use registry::{
    ForeignTask, RegistryError, TaskRef, TaskState, all_tasks, current_task, enter_task,
    leave_task, register_task, swap_current_task, unregister_task,
};
pub use report::{Report, panic_message};
pub(crate) use running::create_task_directly;
pub use running::{AlreadyRunning, Entered, running_loop_id};
pub use scope::{Canceller, Scope, ScopeGuard};
pub use table::{Closed, MAX_LOOPS, Remote, RemoteCall};
pub use tasks::{TaskOptions, Tasks};
pub use turn::Turn;
pub use wait::{Wait, WaitsFor};
