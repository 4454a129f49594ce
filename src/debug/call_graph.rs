//! The graph of one task: what it waits for, and who waits for it. asyncio: `capture_call_graph`.

use super::graph::{TaskGraph, TaskNode};
use crate::event_loop::LoopError;
use crate::task::{TaskId, current_task};
use std::fmt;
use std::io;

/// One task with those who wait for it, and so on up. asyncio: `FutureCallGraph`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallGraph {
    /// The task: its future, and the awaits at which it is suspended.
    pub task: TaskNode,
    /// Who waits for it. Empty also where a circle comes back to a task further down.
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

impl TaskGraph {
    /// The graph of one of the tasks.
    pub fn call_graph(&self, id: TaskId) -> Option<CallGraph> {
        self.above(id, &mut Vec::new())
    }

    fn above(&self, id: TaskId, below: &mut Vec<TaskId>) -> Option<CallGraph> {
        let task = self.find(id)?.clone();
        below.push(id);
        let awaited_by = task
            .awaited_by
            .iter()
            .filter_map(|&by| {
                if below.contains(&by) {
                    let task = self.find(by)?.clone();
                    let awaited_by = Vec::new();
                    return Some(CallGraph { task, awaited_by });
                }
                self.above(by, below)
            })
            .collect();
        below.pop();
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
