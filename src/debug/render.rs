//! A [`TaskGraph`] as text: a table, a line for each task, and a tree, from who waits to what is waited
//! for.
//!
//! **Guarantees.** Each task of the graph stands in the table once and in the tree at least once, and
//! its own line there is written in full once; circles end with a mark. Names are written on one line,
//! whatever is in them.

use super::graph::{TaskGraph, TaskNode};
use crate::task::{TaskId, TaskState, WaitsFor};
use std::fmt::{self, Write};

/// The name on one line; the id where it has none.
fn name_of(task: &TaskNode) -> String {
    if task.name.is_empty() {
        return task.id.to_string();
    }
    let mut name = String::with_capacity(task.name.len());
    for c in task.name.chars() {
        if c.is_control() {
            name.extend(c.escape_default());
        } else {
            name.push(c);
        }
    }
    name
}

/// Name and, where that says something else, id.
fn label(task: &TaskNode) -> String {
    let (name, id) = (name_of(task), task.id.to_string());
    if name == id {
        id
    } else {
        format!("{name} ({id})")
    }
}

fn state(task: &TaskNode) -> &'static str {
    match task.state {
        TaskState::Pending if task.waits.is_empty() => "ready, or at a foreign await",
        TaskState::Pending => "waiting",
        TaskState::Running => "running",
        TaskState::Cancelling => "cancelling",
        TaskState::Done => "done",
    }
}

/// The type of the body without what this crate wraps around it, and what every `async` block and
/// function adds.
fn body(task: &TaskNode) -> &'static str {
    let Some(mut name) = task.body else {
        return "a foreign task";
    };
    if name.contains("main_task::MainTask") {
        return "the main future";
    }
    while name.starts_with("ringloop::")
        && let Some((_, inner)) = name.split_once('<')
    {
        let mut depth = 0;
        let end = inner.find(|c| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            depth < 0 || (depth == 0 && c == ',')
        });
        name = &inner[..end.unwrap_or(inner.len())];
    }
    while let Some(rest) = name.strip_suffix("::{{closure}}") {
        name = rest;
    }
    name
}

impl TaskGraph {
    fn waits(&self, task: &TaskNode) -> String {
        let mut text = String::new();
        for wait in &task.waits {
            if !text.is_empty() {
                text.push_str(", ");
            }
            let _ = write!(text, "{wait}");
            if let WaitsFor::Task(id) = wait.what
                && self.find(id).is_none()
            {
                text.push_str(" (not in this loop)");
            }
        }
        text
    }

    fn names(&self, ids: &[TaskId], between: &str) -> String {
        let name = |id: &TaskId| self.find(*id).map_or_else(|| id.to_string(), name_of);
        ids.iter().map(name).collect::<Vec<_>>().join(between)
    }

    /// A line for each task: id, name, state, what it waits for, who waits for it, its future's type.
    pub fn table(&self) -> impl fmt::Display {
        let mut rows =
            vec![["id", "name", "state", "waits for", "awaited by", "future"].map(String::from)];
        for task in &self.tasks {
            rows.push([
                task.id.to_string(),
                name_of(task),
                state(task).to_owned(),
                self.waits(task),
                self.names(&task.awaited_by, ", "),
                body(task).to_owned(),
            ]);
        }
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Below each task the tasks it waits for; tasks that nobody waits for stand at the left. Circles
    /// are reported below the tree.
    pub fn tree(&self) -> impl fmt::Display {
        let edges = self.edges();
        let mut tree = Tree {
            graph: self,
            awaited: vec![false; edges.len()],
            shown: vec![false; edges.len()],
            path: Vec::new(),
            text: String::new(),
            edges,
        };
        tree.write();
        for cycle in self.cycles() {
            let (names, first) = (self.names(&cycle, " -> "), self.names(&cycle[..1], ""));
            let _ = writeln!(tree.text, "cycle: {names} -> {first}");
        }
        tree.text
    }
}

struct Tree<'a> {
    graph: &'a TaskGraph,
    edges: Vec<Vec<usize>>,
    awaited: Vec<bool>,
    shown: Vec<bool>,
    /// The tasks above the one being written.
    path: Vec<usize>,
    text: String,
}

/// Deeper levels are not written; chains of that length are rather a mistake of the program.
const MAX_DEPTH: usize = 200;

impl Tree<'_> {
    fn write(&mut self) {
        for (from, to) in self.edges.iter().enumerate() {
            for &to in to {
                self.awaited[to] |= from != to;
            }
        }
        let roots: Vec<usize> = (0..self.edges.len())
            .filter(|&at| !self.awaited[at])
            .collect();
        for at in roots {
            self.task(at, "", "");
        }
        // What is left stands in circles that nobody outside waits for.
        for at in 0..self.edges.len() {
            if !self.shown[at] {
                self.task(at, "", "");
            }
        }
    }

    fn task(&mut self, at: usize, first: &str, rest: &str) {
        let task = &self.graph.tasks[at];
        let _ = write!(self.text, "{first}{}", label(task));
        if self.path.contains(&at) {
            self.text.push_str(": cycle\n");
            return;
        }
        if self.shown[at] {
            self.text.push_str(": see above\n");
            return;
        }
        self.shown[at] = true;
        let (state, body) = (state(task), body(task));
        let _ = write!(self.text, " [{state}] {body}");
        let waits = self.graph.waits(task);
        if !waits.is_empty() {
            let _ = write!(self.text, ": {waits}");
        }
        self.text.push('\n');
        if self.path.len() >= MAX_DEPTH {
            let _ = writeln!(self.text, "{rest}...");
            return;
        }
        self.path.push(at);
        let below = self.edges[at].clone();
        for (number, &child) in below.iter().enumerate() {
            let last = number + 1 == below.len();
            let (first, next) = if last {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            };
            self.task(child, &format!("{rest}{first}"), &format!("{rest}{next}"));
        }
        self.path.pop();
    }
}
