//! The graph of one task: what it waits for, and who waits for it. asyncio: `capture_call_graph`.

use super::graph::{TaskGraph, TaskNode};
use crate::event_loop::LoopError;
use crate::task::{TaskId, current_task};
use std::collections::HashSet;
use std::fmt;
use std::io;

/// One task with those who wait for it, and so on up. asyncio: `FutureCallGraph`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallGraph {
    /// The task: its future, and the awaits at which it is suspended.
    pub task: TaskNode,
    /// Who waits for it. Each task is shown with those once, so where it comes up again, as in a circle
    /// it does, and from a depth of 500 on, this is empty.
    pub awaited_by: Vec<CallGraph>,
}

/// The graph of a task of the loop that runs in this thread; `None` names the current one. `Ok(None)`
/// outside any task, and when the task named has ended or belongs to another loop.
///
/// # Errors
/// [`LoopError::NoRunningLoop`].
///
/// # Examples
/// ```
/// use ringloop::debug::capture_call_graph;
/// use ringloop::{EventLoopExt, get_running_loop};
///
/// # ringloop::run(async {
/// let child = get_running_loop().create_task(async {
///     let graph = capture_call_graph(None).unwrap().unwrap();
///     assert_eq!(graph.awaited_by.len(), 1);
///     println!("{graph}");
/// });
/// child.unwrap().await.unwrap();
/// # }).unwrap();
/// ```
pub fn capture_call_graph(task: Option<TaskId>) -> Result<Option<CallGraph>, LoopError> {
    let graph = TaskGraph::capture()?;
    let current = || current_task(None).ok().flatten().map(|task| task.id());
    let id = task.or_else(current);
    Ok(id.and_then(|id| graph.call_graph(id)))
}

/// Writes the graph of a task; see [`capture_call_graph`]. Where there is none, nothing is written.
///
/// # Errors
/// No running loop, or those of `out`.
pub fn print_call_graph(task: Option<TaskId>, out: &mut dyn io::Write) -> io::Result<()> {
    match capture_call_graph(task)? {
        Some(graph) => write!(out, "{graph}"),
        None => Ok(()),
    }
}

/// Longer chains are cut: rather a mistake of the program than something to be read.
const MAX_DEPTH: usize = 500;

impl TaskGraph {
    /// The graph of one of the tasks.
    pub fn call_graph(&self, id: TaskId) -> Option<CallGraph> {
        self.above(id, 0, &mut HashSet::new())
    }

    fn above(&self, id: TaskId, depth: usize, shown: &mut HashSet<TaskId>) -> Option<CallGraph> {
        let task = self.find(id)?.clone();
        let mut awaited_by = Vec::new();
        if shown.insert(id) && depth < MAX_DEPTH {
            for &by in &task.awaited_by {
                awaited_by.extend(self.above(by, depth + 1, shown));
            }
        }
        Some(CallGraph { task, awaited_by })
    }
}

impl CallGraph {
    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        let TaskNode { id, name, body, .. } = &self.task;
        let body = body.unwrap_or("a foreign task");
        writeln!(f, "{:indent$}* {id} {name:?} of {body}", "")?;
        for wait in &self.task.waits {
            writeln!(f, "{:indent$}  + waits for {wait}", "")?;
        }
        if !self.awaited_by.is_empty() {
            writeln!(f, "{:indent$}  + awaited by:", "")?;
        }
        self.awaited_by
            .iter()
            .try_for_each(|graph| graph.write(f, indent + 4))
    }
}

impl fmt::Display for CallGraph {
    /// A line for the task, for each of its waits, and for those who wait for it. asyncio:
    /// `format_call_graph`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
