//! What other threads hold of a loop.

use super::error::LoopError;
use super::running::try_get_running_loop;
use super::thread_safe_handle::ThreadSafeHandle;
use crate::task::{ContextSnapshot, LoopId, Remote, running_loop_id};

/// A loop as other threads see it: callbacks may be queued from anywhere. Outlives the loop.
#[derive(Clone, Debug)]
pub struct LoopHandle(Remote);

/// For a loop of your own: what sends to its [`Tasks`](crate::task::Tasks) sends to it.
impl From<Remote> for LoopHandle {
    fn from(remote: Remote) -> Self {
        Self(remote)
    }
}

impl LoopHandle {
    /// Which loop it is.
    pub fn loop_id(&self) -> LoopId {
        self.0.loop_id()
    }

    /// Queues a callback and wakes the loop. Calls from one thread run in their order, and before
    /// what the loop queues after it could know of them. The callback runs in a copy of the calling
    /// thread's context. asyncio: `call_soon_threadsafe`.
    ///
    /// # Errors
    /// [`LoopError::Closed`].
    #[track_caller]
    pub fn call_soon_threadsafe(
        &self,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<ThreadSafeHandle, LoopError> {
        self.schedule(ThreadSafeHandle::new(callback))
    }

    /// As [`call_soon_threadsafe`](Self::call_soon_threadsafe), in a context of its own with the
    /// values of `context` instead of the caller's.
    ///
    /// # Errors
    /// [`LoopError::Closed`].
    #[track_caller]
    pub fn call_soon_threadsafe_in(
        &self,
        context: &ContextSnapshot,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<ThreadSafeHandle, LoopError> {
        self.schedule(ThreadSafeHandle::in_context(context.clone(), callback))
    }

    fn schedule(&self, handle: ThreadSafeHandle) -> Result<ThreadSafeHandle, LoopError> {
        if running_loop_id() == Some(self.0.loop_id()) {
            try_get_running_loop()?.call_soon_threadsafe_dyn(handle.clone())?;
        } else {
            let call = Box::new(handle.clone().into_call());
            self.0.call(call).map_err(|_| LoopError::Closed)?;
        }
        Ok(handle)
    }
}
