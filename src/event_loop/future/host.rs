//! What a future needs of its loop.

use crate::event_loop::abstract_event_loop::AbstractEventLoop;
use crate::event_loop::error::LoopError;
use crate::event_loop::exception::{ExceptionContext, default_exception_handler};
use crate::task::{CallBody, LoopId};
use std::rc::Weak;

/// The part of a loop that its futures use: an extension API, so that a loop of any make can reuse
/// [`Future`](super::Future). asyncio: `call_soon`, `get_debug` and `call_exception_handler` of the
/// loop given to `Future(loop=…)`.
///
/// A loop that is an [`AbstractEventLoop`] gives one of these out by
/// [`future_loop`](AbstractEventLoop::future_loop); on a loop with a base that is done already. A
/// future holds its `Rc` for as long as it lives: a loop whose callbacks hold futures and that is
/// handed to them itself, not behind a `Weak`, must empty its queue to be freed.
///
/// # Examples
/// The smallest loop there is, and a future of it:
/// ```
/// use ringloop::LoopError;
/// use ringloop::event_loop::{ExceptionContext, Future, FutureLoop};
/// use ringloop::task::{CallBody, CallKey, Callbacks};
/// use std::cell::{Cell, RefCell};
/// use std::collections::VecDeque;
/// use std::rc::Rc;
///
/// #[derive(Default)]
/// struct TinyLoop {
///     callbacks: Callbacks,
///     queue: RefCell<VecDeque<CallKey>>,
/// }
///
/// impl TinyLoop {
///     fn run(&self) {
///         while let Some(key) = { self.queue.borrow_mut().pop_front() } {
///             self.callbacks.run(key).expect("no callback panics here");
///         }
///     }
/// }
///
/// impl FutureLoop for TinyLoop {
///     fn call_soon(&self, callback: &mut dyn CallBody) -> Result<(), LoopError> {
///         let key = self.callbacks.insert(callback);
///         self.queue.borrow_mut().push_back(key);
///         Ok(())
///     }
///
///     fn call_exception_handler(&self, context: ExceptionContext) {
///         eprintln!("the tiny loop hears: {context}");
///     }
/// }
///
/// let tiny = Rc::new(TinyLoop::default());
/// let future = Future::<u32>::new(tiny.clone());
/// let seen = Rc::new(Cell::new(0));
/// let see = seen.clone();
/// future.add_done_callback(move |future| see.set(future.result().unwrap()));
/// future.set_result(7).unwrap();
/// assert_eq!(seen.get(), 0, "callbacks wait for the loop");
/// tiny.run();
/// assert_eq!(seen.get(), 7);
/// ```
pub trait FutureLoop {
    /// Queues a callback, to run once and not inside this call. It may be written into a
    /// [`Callbacks`](crate::task::Callbacks) and run from there.
    ///
    /// # Errors
    /// Closed. The callback is dropped then.
    fn call_soon(&self, callback: &mut dyn CallBody) -> Result<(), LoopError>;

    /// Takes reports: an error that nobody read, when the future's last handle is dropped. It should
    /// not panic. By default it is written to standard error.
    fn call_exception_handler(&self, context: ExceptionContext) {
        default_exception_handler(&context);
    }

    /// Whether texts show where a future was made. By default not.
    fn get_debug(&self) -> bool {
        false
    }

    /// The id of the loop's [`Tasks`](crate::task::Tasks), where it has them: tasks of other loops
    /// that await its pending futures get [`FutureError::DifferentLoop`](super::FutureError). By
    /// default `None`: whoever has a waker may await.
    fn loop_id(&self) -> Option<LoopId> {
        None
    }
}

/// The loop that the program sees, as its futures hold it: they do not keep it alive.
pub(in crate::event_loop) struct OuterLoop {
    pub(in crate::event_loop) outer: Weak<dyn AbstractEventLoop>,
    pub(in crate::event_loop) id: LoopId,
}

impl FutureLoop for OuterLoop {
    fn call_soon(&self, callback: &mut dyn CallBody) -> Result<(), LoopError> {
        let outer = self.outer.upgrade().ok_or(LoopError::Closed)?;
        outer.call_soon_dyn(callback).map(drop)
    }

    fn call_exception_handler(&self, context: ExceptionContext) {
        match self.outer.upgrade() {
            Some(outer) => outer.call_exception_handler(context),
            None => default_exception_handler(&context),
        }
    }

    fn get_debug(&self) -> bool {
        self.outer.upgrade().is_some_and(|outer| outer.get_debug())
    }

    fn loop_id(&self) -> Option<LoopId> {
        Some(self.id)
    }
}
