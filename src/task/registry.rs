//! Lifetime support: which tasks exist and which is current, open to task types of others.
//!
//! **Guarantees.** `all_tasks` and `current_task` may be called from any thread. Tasks of the
//! arena are found through their slots, which their own floor fills with plain stores; tasks of
//! foreign kinds stand in a locked table of weak references. A task that is done is never listed.
//!
//! The steps of arena tasks go through the same slot that [`enter_task`], [`leave_task`] and
//! [`swap_current_task`] write (`current.rs`), with the same checks.

use super::current::Found;
use super::id::{LoopId, TaskId};
use super::running;
use super::shared::{Current, Shared};
use super::slot::{CANCELLING, RUNNING};
use super::table;
use super::tasks::Tasks;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A task of a kind that this crate does not know. asyncio: any object with `get_loop()` and `done()`.
pub trait ForeignTask: Send + Sync {
    /// Its id, from [`TaskId::unique`].
    fn id(&self) -> TaskId;
    /// Its name.
    fn name(&self) -> String;
    /// The loop it belongs to, always the same.
    fn loop_id(&self) -> LoopId;
    /// Whether it has ended.
    fn done(&self) -> bool;
}

/// In which state a listing found a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Waiting, or queued for its next step.
    Pending,
    /// Its step is going on.
    Running,
    /// Pending, and asked to stop.
    Cancelling,
    /// Ended.
    Done,
}

/// A reference to a task, for any thread: it names, it does not own.
#[derive(Clone)]
pub struct TaskRef(Kind);

#[derive(Clone)]
enum Kind {
    Arena {
        shared: Arc<Shared>,
        index: u32,
        id: TaskId,
        /// The name when the reference was made; the task's own table forgets it.
        name: Option<Arc<str>>,
    },
    Foreign(Arc<dyn ForeignTask>),
}

impl TaskRef {
    pub(super) fn arena(shared: Arc<Shared>, index: u32, id: TaskId) -> Self {
        let name = shared.name(id);
        Self(Kind::Arena {
            shared,
            index,
            id,
            name,
        })
    }

    pub(super) fn index_in(&self, of: &Arc<Shared>) -> Option<u32> {
        match &self.0 {
            Kind::Arena { shared, index, .. } if Arc::ptr_eq(shared, of) => Some(*index),
            _ => None,
        }
    }

    /// A reference to a task of a foreign kind.
    pub fn foreign(task: Arc<dyn ForeignTask>) -> Self {
        Self(Kind::Foreign(task))
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        match &self.0 {
            Kind::Arena { id, .. } => *id,
            Kind::Foreign(task) => task.id(),
        }
    }

    /// The task's name.
    pub fn name(&self) -> String {
        match &self.0 {
            Kind::Arena {
                shared, id, name, ..
            } => shared
                .name(*id)
                .as_ref()
                .or(name.as_ref())
                .map_or_else(|| id.to_string(), |name| name.to_string()),
            Kind::Foreign(task) => task.name(),
        }
    }

    /// The loop the task belongs to.
    pub fn loop_id(&self) -> LoopId {
        match &self.0 {
            Kind::Arena { shared, .. } => shared.loop_id,
            Kind::Foreign(task) => task.loop_id(),
        }
    }

    /// Whether the task has ended.
    pub fn is_done(&self) -> bool {
        self.state() == TaskState::Done
    }

    /// The task's state; from another thread it may be old when it arrives.
    pub fn state(&self) -> TaskState {
        match &self.0 {
            Kind::Arena {
                shared, index, id, ..
            } => match shared.flags(*index, *id) {
                None => TaskState::Done,
                Some(flags) if flags & RUNNING != 0 => TaskState::Running,
                Some(flags) if flags & CANCELLING != 0 => TaskState::Cancelling,
                Some(_) => TaskState::Pending,
            },
            Kind::Foreign(task) if task.done() => TaskState::Done,
            Kind::Foreign(_) => TaskState::Pending,
        }
    }

    fn current(&self) -> Result<Current, RegistryError> {
        Ok(match &self.0 {
            Kind::Arena {
                shared, index, id, ..
            } => {
                let pending = running::with(|tasks| {
                    let tasks = tasks.filter(|tasks| Arc::ptr_eq(&tasks.shared, shared))?;
                    let slot = tasks.arena.get(*index)?;
                    (slot.is_live() && slot.id() == Some(*id)).then(|| Current::Arena {
                        index: *index,
                        generation: slot.generation(),
                    })
                });
                pending.ok_or_else(|| RegistryError::NotPending(self.clone()))?
            }
            Kind::Foreign(task) => Current::Foreign(task.clone()),
        })
    }
}

impl PartialEq for TaskRef {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for TaskRef {}

impl Hash for TaskRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state() {
            TaskState::Pending | TaskState::Running => "pending",
            TaskState::Cancelling => "cancelling",
            TaskState::Done => "done",
        };
        write!(f, "<Task {state} name='{}' {}>", self.name(), self.id())
    }
}

/// Why a call of the lifetime functions was refused. Nothing was changed.
#[derive(Clone, Debug)]
pub enum RegistryError {
    /// No loop was named and none runs on this thread.
    NoRunningLoop,
    /// The loop is not the one that runs on this thread.
    NotRunning(LoopId),
    /// Another task, or the same, is current.
    Entered {
        /// The task to enter.
        task: TaskRef,
        /// The current one.
        current: TaskRef,
    },
    /// Another task, or none, is current.
    NotEntered {
        /// The task to leave.
        task: TaskRef,
        /// The current one.
        current: Option<TaskRef>,
    },
    /// The task has ended, or belongs to another loop.
    NotPending(TaskRef),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRunningLoop => f.write_str("no running event loop"),
            Self::NotRunning(id) => write!(f, "loop {id:?} is not the running loop"),
            Self::Entered { task, current } => write!(
                f,
                "Cannot enter into task {task:?} while another task {current:?} is being executed."
            ),
            Self::NotEntered {
                task,
                current: Some(current),
            } => write!(
                f,
                "Invalid attempt to leave task {task:?} while task {current:?} is entered."
            ),
            Self::NotEntered {
                task,
                current: None,
            } => write!(
                f,
                "Invalid attempt to leave task {task:?} while no task is entered."
            ),
            Self::NotPending(task) => write!(f, "{task:?} is not a pending task of the loop"),
        }
    }
}

impl std::error::Error for RegistryError {}

/// The foreign tasks and their loops: a listing of one loop does not even borrow the tasks of others.
type Table = Vec<(LoopId, Weak<dyn ForeignTask>)>;

static FOREIGN: Mutex<Table> = Mutex::new(Vec::new());

fn foreign<R>(f: impl FnOnce(&mut Table) -> R) -> R {
    f(&mut FOREIGN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Makes a task of a foreign kind visible to [`all_tasks`]. Keeps no strong reference. Registering
/// again changes nothing. asyncio: `_register_task`.
pub fn register_task(task: &Arc<dyn ForeignTask>) {
    let (of, new) = (task.loop_id(), Arc::downgrade(task));
    foreign(|table| {
        table.retain(|(_, known)| known.strong_count() > 0);
        if !table.iter().any(|(_, known)| Weak::ptr_eq(known, &new)) {
            table.push((of, new));
        }
    });
}

/// Makes a task of a foreign kind invisible again; one that is not registered is ignored.
/// asyncio: `_unregister_task`.
pub fn unregister_task(task: &Arc<dyn ForeignTask>) {
    let gone = Arc::downgrade(task);
    foreign(|table| table.retain(|(_, known)| !Weak::ptr_eq(known, &gone)));
}

/// The loop, which must be the one running on this thread.
fn running_loop(id: LoopId) -> Result<Rc<Tasks>, RegistryError> {
    running::owned()
        .filter(|tasks| tasks.loop_id() == id)
        .ok_or(RegistryError::NotRunning(id))
}

fn current_of(shared: &Arc<Shared>) -> Option<TaskRef> {
    Some(match shared.current()? {
        Found::Arena { index, id } => TaskRef::arena(shared.clone(), index, id),
        Found::Foreign(task) => TaskRef::foreign(task),
    })
}

/// Makes `task` the current one of its loop, just before it is resumed. asyncio: `_enter_task`.
///
/// # Errors
/// [`RegistryError::NotRunning`]; [`RegistryError::Entered`] when a task is current, be it the
/// same; [`RegistryError::NotPending`] for a task of an arena that ended.
pub fn enter_task(loop_id: LoopId, task: &TaskRef) -> Result<(), RegistryError> {
    let tasks = running_loop(loop_id)?;
    let new = task.current()?;
    if let Some(current) = current_of(&tasks.shared) {
        return Err(RegistryError::Entered {
            task: task.clone(),
            current,
        });
    }
    tasks.swap_current(new);
    Ok(())
}

/// Ends what [`enter_task`] began, just after the task suspended or ended. asyncio: `_leave_task`.
///
/// # Errors
/// [`RegistryError::NotRunning`]; [`RegistryError::NotEntered`] when another task or none is current.
pub fn leave_task(loop_id: LoopId, task: &TaskRef) -> Result<(), RegistryError> {
    let tasks = running_loop(loop_id)?;
    let current = current_of(&tasks.shared);
    if current.as_ref() != Some(task) {
        return Err(RegistryError::NotEntered {
            task: task.clone(),
            current,
        });
    }
    tasks.swap_current(Current::Nobody);
    Ok(())
}

/// Replaces the current task of the loop and returns the one before; never complains about one.
/// asyncio: `_swap_current_task`.
///
/// # Errors
/// [`RegistryError::NotRunning`]; [`RegistryError::NotPending`] for a task of an arena that ended.
pub fn swap_current_task(
    loop_id: LoopId,
    task: Option<&TaskRef>,
) -> Result<Option<TaskRef>, RegistryError> {
    let tasks = running_loop(loop_id)?;
    let new = task.map_or(Ok(Current::Nobody), TaskRef::current)?;
    Ok(match tasks.swap_current(new) {
        Current::Nobody => None,
        Current::Arena { index, generation } => tasks.at(index, generation),
        Current::Foreign(task) => Some(TaskRef::foreign(task)),
    })
}

fn resolve(loop_id: Option<LoopId>) -> Result<LoopId, RegistryError> {
    loop_id
        .or_else(running::running_loop_id)
        .ok_or(RegistryError::NoRunningLoop)
}

/// The current task of a loop (`None`: of the loop running on this thread), from any thread.
/// `Ok(None)` in plain callbacks, while the loop does not run, and when it is gone.
/// asyncio: `current_task`.
///
/// # Errors
/// [`RegistryError::NoRunningLoop`].
pub fn current_task(loop_id: Option<LoopId>) -> Result<Option<TaskRef>, RegistryError> {
    let id = resolve(loop_id)?;
    Ok(table::shared(id).and_then(|shared| current_of(&shared)))
}

/// All pending tasks of a loop (`None`: of the loop running on this thread), from any thread, in
/// no order. Empty when the loop is gone. asyncio: `all_tasks`.
///
/// # Errors
/// [`RegistryError::NoRunningLoop`].
pub fn all_tasks(loop_id: Option<LoopId>) -> Result<Vec<TaskRef>, RegistryError> {
    let id = resolve(loop_id)?;
    let mut all = Vec::new();
    if let Some(shared) = table::shared(id) {
        for (index, task) in shared.all() {
            all.push(TaskRef::arena(shared.clone(), index, task));
        }
    }
    // The tasks are asked outside the lock: they run code of others.
    let known: Vec<_> = foreign(|table| {
        let own = table.iter().filter(|(of, _)| *of == id);
        own.filter_map(|(_, task)| task.upgrade()).collect()
    });
    for task in known {
        if !task.done() {
            all.push(TaskRef::foreign(task));
        }
    }
    Ok(all)
}
