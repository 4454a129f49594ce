//! The graph of a loop's tasks: nodes, and edges from who waits to what is waited for.
//!
//! **Guarantees.** Tasks stand in the order in which they were made. An edge may lead to a task that is
//! not in the graph (of another loop, or ended meanwhile), to its own beginning, and in circles:
//! whoever walks the graph has to expect that.

use crate::event_loop::{AbstractEventLoop, Core, LoopError, try_get_running_loop};
use crate::task::{ListedTask, LoopId, TaskId, TaskState, WaitsFor, all_tasks};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// One pending await of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it waits for.
    pub what: WaitsFor,
    /// For how long, if that is known; see the [module](super).
    pub age: Option<Duration>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            WaitsFor::Sleep => f.write_str("sleep")?,
            WaitsFor::Task(id) => write!(f, "{id}")?,
            WaitsFor::Io { name, fd } if fd >= 0 => write!(f, "{name} on descriptor {fd}")?,
            WaitsFor::Io { name, .. } => f.write_str(name)?,
            WaitsFor::Other(what) => f.write_str(what)?,
        }
        match self.age {
            Some(age) => write!(f, " for {}.{:03} s", age.as_secs(), age.subsec_millis()),
            None => Ok(()),
        }
    }
}

/// One pending task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskNode {
    /// Its id.
    pub id: TaskId,
    /// Its name; may be empty.
    pub name: String,
    /// Its state.
    pub state: TaskState,
    /// The type of its future; `None` for tasks of foreign kinds.
    pub body: Option<&'static str>,
    /// What it waits for, oldest first; empty when it runs, is queued, or waits only at futures of
    /// other crates.
    pub waits: Vec<Waiting>,
    /// Who waits for its end, without duplicates.
    pub awaited_by: Vec<TaskId>,
}

/// The tasks of a loop; see the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskGraph {
    /// The tasks.
    pub tasks: Vec<TaskNode>,
}

fn node(listed: ListedTask, now: u64) -> TaskNode {
    let waits = listed.waits.iter().map(|wait| Waiting {
        what: wait.what,
        age: wait
            .since
            .map(|since| Duration::from_nanos(now.saturating_sub(since))),
    });
    TaskNode {
        id: listed.task.id(),
        name: listed.task.name(),
        state: listed.task.state(),
        body: Some(listed.body),
        waits: waits.collect(),
        awaited_by: listed.awaited_by,
    }
}

impl TaskGraph {
    /// The tasks of the loop that runs in this thread.
    ///
    /// # Errors
    /// [`LoopError::NoRunningLoop`].
    pub fn capture() -> Result<Self, LoopError> {
        let event_loop = try_get_running_loop()?;
        Ok(Self::of(&*event_loop))
    }

    /// The tasks of a loop of this thread, running or not. Empty for a loop that is not built on
    /// [`BaseEventLoop`](crate::BaseEventLoop).
    pub fn of(event_loop: &dyn AbstractEventLoop) -> Self {
        event_loop.core().map_or_else(Self::default, Self::of_core)
    }

    fn of_core(core: &Rc<Core>) -> Self {
        let listing = core.tasks().listing();
        // Asked only when somebody waits since a known time.
        let timed = |task: &ListedTask| task.waits.iter().any(|wait| wait.since.is_some());
        let now = if listing.iter().any(timed) {
            core.now()
        } else {
            0
        };
        let mut tasks: Vec<TaskNode> = listing.into_iter().map(|task| node(task, now)).collect();
        let known: HashSet<TaskId> = tasks.iter().map(|task| task.id).collect();
        let foreign = all_tasks(Some(core.tasks().loop_id())).unwrap_or_default();
        for task in foreign.iter().filter(|task| !known.contains(&task.id())) {
            tasks.push(TaskNode {
                id: task.id(),
                name: task.name(),
                state: task.state(),
                body: None,
                waits: Vec::new(),
                awaited_by: Vec::new(),
            });
        }
        let mut graph = Self { tasks };
        graph.complete();
        graph
    }

    /// Adds the edges that follow from what tasks wait for, and removes duplicates and edges from
    /// tasks that are gone.
    fn complete(&mut self) {
        let mut index = HashMap::new();
        for (at, task) in self.tasks.iter().enumerate() {
            index.insert(task.id, at);
        }
        for at in 0..self.tasks.len() {
            let id = self.tasks[at].id;
            for wait in self.tasks[at].waits.clone() {
                if let WaitsFor::Task(awaited) = wait.what
                    && let Some(&awaited) = index.get(&awaited)
                {
                    self.tasks[awaited].awaited_by.push(id);
                }
            }
        }
        for task in &mut self.tasks {
            task.awaited_by.sort_unstable();
            task.awaited_by.dedup();
            task.awaited_by.retain(|id| index.contains_key(id));
        }
    }

    /// The node of a task.
    pub fn find(&self, id: TaskId) -> Option<&TaskNode> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// For each task in the order of the graph, which of its tasks it waits for.
    pub(super) fn edges(&self) -> Vec<Vec<usize>> {
        let index: HashMap<TaskId, usize> = self
            .tasks
            .iter()
            .enumerate()
            .map(|(at, task)| (task.id, at))
            .collect();
        let mut edges = vec![Vec::new(); self.tasks.len()];
        for (awaited, task) in self.tasks.iter().enumerate() {
            for id in &task.awaited_by {
                if let Some(&awaiting) = index.get(id)
                    && !edges[awaiting].contains(&awaited)
                {
                    edges[awaiting].push(awaited);
                }
            }
        }
        edges
    }

    /// Tasks that wait for each other in a circle: such tasks go on only when one of them is cancelled.
    /// One circle for each edge that closes one, in the order of waiting, beginning with the oldest
    /// task in it; a task that waits for itself is a circle of one. The graph may have more.
    pub fn cycles(&self) -> Vec<Vec<TaskId>> {
        let edges = self.edges();
        let mut found: Vec<Vec<usize>> = Vec::new();
        let mut done = vec![false; edges.len()];
        for root in 0..edges.len() {
            if done[root] {
                continue;
            }
            // Depth first; the path holds the tasks on it and how many of their edges were followed.
            let mut path = vec![(root, 0)];
            while let Some((at, next)) = path.last_mut() {
                let at = *at;
                let Some(&to) = edges[at].get(*next) else {
                    done[at] = true;
                    path.pop();
                    continue;
                };
                *next += 1;
                if let Some(start) = path.iter().position(|(on, _)| *on == to) {
                    let mut cycle: Vec<usize> = path[start..].iter().map(|(on, _)| *on).collect();
                    let oldest = (0..cycle.len()).min_by_key(|&i| cycle[i]).unwrap_or(0);
                    cycle.rotate_left(oldest);
                    if !found.contains(&cycle) {
                        found.push(cycle);
                    }
                } else if !done[to] {
                    path.push((to, 0));
                }
            }
        }
        let id = |at: &usize| self.tasks[*at].id;
        found
            .iter()
            .map(|cycle| cycle.iter().map(id).collect())
            .collect()
    }
}

/// While it lives, ages and groups are written down; see [`track`].
pub struct Tracking(Rc<Core>);

/// Has the loop that runs in this thread write down since when tasks wait and which groups wait for
/// which children, as debug mode does, until what this returns is dropped.
///
/// # Errors
/// [`LoopError::NoRunningLoop`]; [`LoopError::NotImplemented`] for a loop that is not built on
/// [`BaseEventLoop`](crate::BaseEventLoop).
pub fn track() -> Result<Tracking, LoopError> {
    let event_loop = try_get_running_loop()?;
    let core = event_loop.core().ok_or(LoopError::NotImplemented("core"))?;
    core.track();
    Ok(Tracking(core.clone()))
}

impl Tracking {
    pub(super) fn loop_id(&self) -> LoopId {
        self.0.tasks().loop_id()
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.0.untrack();
    }
}

impl fmt::Debug for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracking")
            .field(&self.0.tasks().loop_id())
            .finish()
    }
}
