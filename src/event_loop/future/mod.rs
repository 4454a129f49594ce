//! The loop's own future. asyncio: `Future`.
//!
//! **Guarantees.** A future leaves `Pending` once, and belongs to one loop for life. Callbacks never
//! run inside the call that ends it: they go through the loop's `call_soon`, in the order in which
//! they were registered, an awaiting task being one more of them in that order. Waking allocates
//! nothing. A wait that is dropped and a callback that is removed leave nothing behind. No code of
//! others (wakers, callbacks, destructors, the loop) runs while the state is borrowed; a value is
//! borrowed, and nothing else, while its own `Clone` or `Debug` reads it.
//!
//! ```text
//!              set_result ──────▶ Finished (and taken, sooner or later)
//!   Pending ── set_exception ───▶ Failed
//!              cancel ──────────▶ Cancelled
//! ```
//!
//! | file | what |
//! |---|---|
//! | `host.rs` | [`FutureLoop`]: what a future needs of its loop |
//! | `state.rs` | setting, reading, cancelling, copying |
//! | `waiters.rs` | who waits, in order |
//! | `callbacks.rs` | callbacks, and telling who waits |
//! | `wait.rs` | awaiting |
//! | `report.rs` | texts, and the report of an error that nobody read |
//! | `error.rs` | the errors |
//! | `wrap.rs` | futures of other kinds |

mod callbacks;
mod error;
mod host;
mod report;
mod state;
mod wait;
mod waiters;
mod wrap;

pub use callbacks::{CallbackId, CallbackOptions};
pub use error::{FutureError, InvalidStateError, SharedError};
pub use host::FutureLoop;
pub(super) use host::OuterLoop;
pub use wait::FutureWait;
pub(super) use waiters::Waiters;
pub use wrap::{WrapFuture, wrap_future};

use super::error::LoopError;
use super::running::try_get_running_loop;
use state::Inner;
use std::panic::Location;
use std::rc::Rc;

/// A value or an error that will be set once; clones name the same future. asyncio: `Future`.
///
/// Made by [`create_future`](super::EventLoopExt::create_future). It is not `Send`: to set one from
/// another thread, call [`LoopHandle::call_soon_threadsafe`](super::LoopHandle::call_soon_threadsafe),
/// or let that thread have a [`ConcurrentFuture`](super::ConcurrentFuture).
///
/// Where asyncio shares one result object, a value is either cloned, by whoever awaits the future or
/// asks for its [`result`](Self::result), as often as they like; or it is taken, once, by
/// [`take`](Self::take) or [`take_result`](Self::take_result), which need no `Clone`.
///
/// # Cancellation
/// Cancelling a task (or a scope of it) that awaits a future cancels the future, with the message,
/// when the task comes to hear of it; everybody else who awaits it is cancelled then. Dropping a wait
/// leaves the future as it is.
///
/// # Examples
/// ```
/// use ringloop::{EventLoopExt, get_running_loop};
/// # ringloop::run(async {
/// let event_loop = get_running_loop();
/// let future = event_loop.create_future::<String>();
/// let setter = future.clone();
/// event_loop.call_soon(move || setter.set_result("hello".into()).unwrap()).unwrap();
/// assert_eq!(future.wait().await.unwrap(), "hello");
/// assert_eq!(future.await.unwrap(), "hello");
/// # }).unwrap();
/// ```
pub struct Future<T>(Rc<Inner<T>>);

impl<T> Clone for Future<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The same future.
impl<T> PartialEq for Future<T> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Future<T> {}

impl<T> Future<T> {
    /// A pending future of a loop, which may be of any kind: see [`FutureLoop`]. asyncio:
    /// `Future(loop=loop)`.
    #[track_caller]
    pub fn new(event_loop: Rc<dyn FutureLoop>) -> Self {
        Self(Rc::new(Inner::new(event_loop, Location::caller())))
    }

    /// A pending future of the loop that runs in this thread. asyncio: `Future()`.
    ///
    /// # Errors
    /// [`LoopError::NoRunningLoop`]; [`LoopError::NotImplemented`] when the loop has no futures.
    #[track_caller]
    pub fn of_running_loop() -> Result<Self, LoopError> {
        Ok(Self::new(try_get_running_loop()?.future_loop()?))
    }

    /// The loop it belongs to, as futures know it. asyncio: `get_loop()`.
    pub fn get_loop(&self) -> &Rc<dyn FutureLoop> {
        &self.0.event_loop
    }
}
