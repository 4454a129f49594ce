//! `.bare()`: a ringloop wait as a plain future, cancelled by nothing but a drop.
//!
//! **Guarantees.** While the inner future is polled no wait node is registered and no kept request
//! is taken, by swapping the current scope for one in which nothing registers.

use super::running;
use super::slot::BARE;
use super::tasks::Tasks;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A future whose waits are not cancelled by value; see [`bare`].
#[derive(Debug)]
pub struct Bare<F> {
    inner: F,
}

/// Makes a plain future of a ringloop wait, for traits of others (such as an `AsyncRead`) that
/// have no place for a cancellation. A task that is cancelled while it waits at bare futures only
/// has its body dropped. asyncio has no counterpart.
pub fn bare<F: Future>(inner: F) -> Bare<F> {
    Bare { inner }
}

/// Puts the scope back, also on a panic.
struct Restore {
    tasks: Rc<Tasks>,
    task: (u32, u32),
    scope: u32,
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(slot) = self.tasks.pending(self.task.0, self.task.1) {
            slot.scope().set(self.scope);
        }
    }
}

impl<F: Future> Future for Bare<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _restore = running::owned().and_then(|tasks| {
            let slot = tasks.current_slot()?;
            let task = (slot.index(), slot.generation());
            let scope = slot.scope().replace(BARE);
            Some(Restore { tasks, task, scope })
        });
        // SAFETY: `inner` is pinned with the whole and never moved out of it.
        unsafe { self.map_unchecked_mut(|this| &mut this.inner) }.poll(cx)
    }
}
