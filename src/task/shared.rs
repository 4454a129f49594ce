//! The part of a loop that any thread may read: who is current, which tasks are pending, names.
//!
//! **Guarantees.** Lives as long as anybody holds it; the chunks of the task arena live with it.
//! Of the chunks only [`Public`] is read here.

use super::arena::Chunks;
use super::current::{self, CurrentTask, Found};
use super::id::{LoopId, TaskId};
use super::public::Public;
use super::registry::ForeignTask;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The current task of a loop, as the loop knows it.
pub(super) type Current = current::Current<Arc<dyn ForeignTask>>;

pub(super) struct Shared {
    pub(super) loop_id: LoopId,
    pub(super) chunks: Arc<Chunks>,
    pub(super) current: CurrentTask<Arc<dyn ForeignTask>>,
    names: Mutex<HashMap<u64, Arc<str>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(loop_id: LoopId, chunks: Arc<Chunks>) -> Arc<Self> {
        Arc::new(Self {
            loop_id,
            chunks,
            current: CurrentTask::new(loop_id.tag()),
            names: Mutex::new(HashMap::new()),
        })
    }

    /// The current task.
    pub(super) fn current(&self) -> Option<Found<Arc<dyn ForeignTask>>> {
        self.current.find(|index| self.pending(index))
    }

    fn public(&self, index: u32) -> Option<&Public> {
        let slot = self.chunks.slot(index)?;
        // SAFETY: every slot of this arena begins with a `Public`, valid as zeroes; it is made
        // for being read on any thread; `chunks` keeps the memory.
        Some(unsafe { slot.cast().as_ref() })
    }

    /// The pending task in a slot.
    fn pending(&self, index: u32) -> Option<TaskId> {
        let (id, _) = self.public(index)?.pending()?;
        Some(id)
    }

    /// Flags of a task while it is pending, as far as this thread can know.
    pub(super) fn flags(&self, index: u32, id: TaskId) -> Option<u32> {
        self.public(index)?.flags_of(id)
    }

    /// Index and id of every pending task.
    pub(super) fn all(&self) -> Vec<(u32, TaskId)> {
        let mut all = Vec::new();
        self.chunks.for_each(|index, slot| {
            // SAFETY: as in `public`.
            let public = unsafe { slot.cast::<Public>().as_ref() };
            if let Some((id, _)) = public.pending() {
                all.push((index, id));
            }
        });
        all
    }

    pub(super) fn name(&self, id: TaskId) -> Option<Arc<str>> {
        lock(&self.names).get(&id.get()).cloned()
    }

    pub(super) fn set_name(&self, id: TaskId, name: Arc<str>) {
        lock(&self.names).insert(id.get(), name);
    }

    pub(super) fn remove_name(&self, id: TaskId) {
        lock(&self.names).remove(&id.get());
    }
}
