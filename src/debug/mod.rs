//! Looking at a running program: which tasks there are, what each waits for, and who waits for it.
//!
//! ```text
//!   wait nodes, joiners ──▶ TaskGraph ──▶ table, tree      dump(), dump_on_signal()
//!                              └────────▶ CallGraph        capture_call_graph(), print_call_graph()
//! ```
//!
//! **Guarantees.** Looking changes nothing and wakes nobody. What is shown is what Rust can know: of a
//! task its name, its state, the type of its future, the awaits of this crate at which it is suspended
//! with their descriptor, and the tasks that wait for its end. The calls in between leave no trace in a
//! compiled future: write them into the task's name where they matter.
//!
//! Since when a task waits, and which group waits for which child, is written down only in debug mode
//! and while a [`Tracking`] or a [`DumpOnSignal`] lives; it costs a look at the clock in each iteration
//! of the loop.
//!
//! | asyncio | here |
//! |---|---|
//! | `capture_call_graph`, `format_call_graph`, `print_call_graph` | [`capture_call_graph`], [`CallGraph`]'s `Display`, [`print_call_graph`] |
//! | `python -m asyncio ps PID`, `pstree PID` | [`TaskGraph::table`], [`TaskGraph::tree`], [`dump_on_signal`] |

mod call_graph;
mod dump;
mod graph;
mod on_signal;
mod render;

pub use call_graph::{CallGraph, capture_call_graph, print_call_graph};
pub use dump::{dump, dump_of};
pub use graph::{TaskGraph, TaskNode, Tracking, Waiting, track};
pub use on_signal::{DumpOnSignal, PATIENCE, dump_on_signal};
