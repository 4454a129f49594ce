//! The part of a loop that any thread may read: who is current, which tasks are pending, names.
//!
//! **Guarantees.** Lives as long as anybody holds it; the chunks of the task arena live with it.
//! Of the chunks only [`Public`] is read here.

use super::arena::Chunks;
use super::id::{LoopId, TaskId, pack, unpack};
use super::registry::ForeignTask;
use super::slot::Public;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Set in the word of a current task of the arena, so that it is never 0.
const ARENA: u64 = 1 << 48;
/// The current task is foreign.
const FOREIGN: u64 = u64::MAX;

/// The current task of a loop.
#[derive(Clone)]
pub(super) enum Current {
    Nobody,
    Arena { index: u32, generation: u32 },
    Foreign(Arc<dyn ForeignTask>),
}

pub(super) struct Shared {
    pub(super) loop_id: LoopId,
    pub(super) chunks: Arc<Chunks>,
    current: AtomicU64,
    foreign: Mutex<Option<Arc<dyn ForeignTask>>>,
    names: Mutex<HashMap<u64, Arc<str>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands for a task of the arena while it is current: its word without the loop.
#[inline]
const fn current_word(word: u64) -> u64 {
    word & (ARENA - 1) | ARENA
}

impl Shared {
    pub(super) fn new(loop_id: LoopId, chunks: Arc<Chunks>) -> Arc<Self> {
        Arc::new(Self {
            loop_id,
            chunks,
            current: AtomicU64::new(0),
            foreign: Mutex::new(None),
            names: Mutex::new(HashMap::new()),
        })
    }

    /// Makes a task of the arena current. False, and nothing changed: somebody is current.
    #[inline]
    pub(super) fn enter(&self, word: u64) -> bool {
        let free = self.current.load(Ordering::Relaxed) == 0;
        if free {
            self.current.store(current_word(word), Ordering::Relaxed);
        }
        free
    }

    /// Ends what `enter` began. False, and nothing changed: another task, or none, is current.
    #[inline]
    pub(super) fn leave(&self, word: u64) -> bool {
        let matches = self.current.load(Ordering::Relaxed) == current_word(word);
        if matches {
            self.current.store(0, Ordering::Relaxed);
        }
        matches
    }

    /// The current task.
    pub(super) fn current(&self) -> Current {
        match self.current.load(Ordering::Acquire) {
            0 => Current::Nobody,
            FOREIGN => lock(&self.foreign)
                .clone()
                .map_or(Current::Nobody, Current::Foreign),
            word => {
                let (index, generation) = unpack(word);
                Current::Arena { index, generation }
            }
        }
    }

    /// Replaces the current task; only on the loop's own thread.
    pub(super) fn swap(&self, new: Current) -> Current {
        let (word, foreign) = match new {
            Current::Nobody => (0, None),
            Current::Arena { index, generation } => {
                (current_word(pack(0, index, generation)), None)
            }
            Current::Foreign(task) => (FOREIGN, Some(task)),
        };
        let old = self.current();
        let gone = std::mem::replace(&mut *lock(&self.foreign), foreign);
        self.current.store(word, Ordering::Release);
        drop(gone);
        old
    }

    /// For a forked child, which must not wait for locks that other threads of its parent held.
    pub(super) fn forget_current(&self) {
        self.current.store(0, Ordering::Relaxed);
    }

    fn public(&self, index: u32) -> Option<&Public> {
        let slot = self.chunks.slot(index)?;
        // SAFETY: every slot of this arena begins with a `Public`, valid as zeroes; its fields are
        // atomics; `chunks` keeps the memory.
        Some(unsafe { slot.cast().as_ref() })
    }

    /// The id of the pending task in a slot.
    pub(super) fn live(&self, index: u32) -> Option<TaskId> {
        TaskId::from_bits(self.public(index)?.live.load(Ordering::Acquire))
    }

    /// Flags of a slot while `id` is pending in it; see [`Public`].
    pub(super) fn flags(&self, index: u32, id: TaskId) -> Option<u32> {
        let public = self.public(index)?;
        let flags = public.flags.load(Ordering::Acquire);
        (public.live.load(Ordering::Acquire) == id.get()).then_some(flags)
    }

    /// Index and id of every pending task.
    pub(super) fn all(&self) -> Vec<(u32, TaskId)> {
        let mut all = Vec::new();
        self.chunks.for_each(|index, slot| {
            // SAFETY: as in `public`.
            let public = unsafe { slot.cast::<Public>().as_ref() };
            if let Some(id) = TaskId::from_bits(public.live.load(Ordering::Acquire)) {
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
