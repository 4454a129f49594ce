//! Everything about one loop, as text.

use super::graph::TaskGraph;
use crate::event_loop::{AbstractEventLoop, try_get_running_loop};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// Writes to standard error what [`dump_of`] says of the loop that runs in this thread.
///
/// # Examples
/// ```
/// # ringloop::run(async {
/// ringloop::debug::dump();
/// # }).unwrap();
/// ```
pub fn dump() {
    let text = match try_get_running_loop() {
        Ok(event_loop) => dump_of(&*event_loop),
        Err(error) => format!("ringloop: {error}\n"),
    };
    write_out(&text);
}

/// In one piece, so that other threads do not write in between.
pub(super) fn write_out(text: &str) {
    // A closed standard error is nobody's business here.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// What a loop of this thread does and waits for: driver and counts, the operations in flight by
/// name, all tasks as a table and as a tree.
pub fn dump_of(event_loop: &dyn AbstractEventLoop) -> String {
    let mut text = String::new();
    let Some(core) = event_loop.core() else {
        return "ringloop: the loop is not built on BaseEventLoop\n".to_owned();
    };
    let stats = core.stats();
    let _ = writeln!(
        text,
        "ringloop: {:?} on {}, iteration {}: {} tasks, {} timers, {} operations in flight, {} of {} \
         receive buffers lent",
        core.tasks().loop_id(),
        core.driver_kind(),
        stats.iterations,
        stats.tasks,
        stats.timers - stats.cancelled_timers,
        stats.live_operations,
        stats.lent_buffers,
        stats.buffers,
    );
    let mut names = BTreeMap::new();
    for name in core.operations() {
        *names.entry(name).or_insert(0) += 1;
    }
    if !names.is_empty() {
        let counts: Vec<String> = names
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        let _ = writeln!(text, "operations: {}", counts.join(", "));
    }
    if !core.tasks().is_tracking() {
        text.push_str("ages and the children of groups are not written down: see debug::track\n");
    }
    let graph = TaskGraph::of(event_loop);
    let _ = write!(
        text,
        "tasks:\n{}tree:\n{}ringloop: end\n",
        graph.table(),
        graph.tree()
    );
    text
}
