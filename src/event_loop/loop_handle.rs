//! What other threads hold of a loop.

use super::core::Core;
use super::error::LoopError;
use super::handle::ThreadSafeHandle;
use crate::task::Remote;

/// A loop as other threads see it: callbacks may be queued from anywhere. Outlives the loop.
#[derive(Clone)]
pub struct LoopHandle(Remote);

impl LoopHandle {
    pub(super) fn new(remote: Remote) -> Self {
        Self(remote)
    }

    /// Queues a callback and wakes the loop. Calls from one thread run in their order; those from
    /// the loop's own thread keep their order with `call_soon`. asyncio: `call_soon_threadsafe`.
    ///
    /// # Errors
    /// [`LoopError::Closed`].
    pub fn call_soon_threadsafe(
        &self,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<ThreadSafeHandle, LoopError> {
        let handle = ThreadSafeHandle::new(Box::new(callback));
        let run = Core::run_thread_safe(handle.clone());
        self.0.call(Box::new(run)).map_err(|_| LoopError::Closed)?;
        Ok(handle)
    }
}
