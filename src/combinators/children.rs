//! What a combinator waits for: tasks it was given, and tasks it made of futures.

use super::failure::Failure;
use crate::event_loop::create_task;
use crate::task::{JoinError, RawTask, Task};
use std::any::Any;
use std::future::Future;

/// A task with a value or a failure.
pub(super) enum Member<T, E> {
    /// The caller's own task.
    Given(Task<T>),
    /// Made of a future.
    Made(Task<Result<T, E>>),
}

/// Takes a value out of a variable whose type is only known by its name.
fn cast<A: 'static, B: 'static>(value: A) -> Result<B, A> {
    let mut value = Some(value);
    match (&mut value as &mut dyn Any).downcast_mut::<Option<B>>() {
        Some(cast) => Ok(cast.take().expect("just put there")),
        None => Err(value.expect("just put there")),
    }
}

/// The task itself, if the future is the handle of one.
pub(super) fn as_task<T: 'static, F: 'static>(future: F) -> Result<Task<T>, F> {
    cast(future)
}

impl<T: 'static, E: 'static> Member<T, E> {
    /// A task handle as it is, any other future as a new task of the running loop.
    ///
    /// # Panics
    /// When there is a future to make a task of, and no running loop.
    #[track_caller]
    pub(super) fn new<F: Future<Output = Result<T, E>> + 'static>(future: F) -> Self {
        match as_task(future) {
            Ok(task) => Self::Given(task),
            Err(future) => Self::Made(create_task(future)),
        }
    }

    /// Takes the result of one that has ended.
    pub(super) fn result(&mut self) -> Option<Result<T, Failure<E>>> {
        Some(match self {
            Self::Given(task) => task.result()?.map_err(collected),
            Self::Made(task) => match task.result()? {
                Ok(returned) => returned.map_err(Failure::Error),
                Err(error) => Err(collected(error)),
            },
        })
    }
}

impl<T, E> Member<T, E> {
    pub(super) fn raw(&self) -> &RawTask {
        match self {
            Self::Given(task) => task,
            Self::Made(task) => task,
        }
    }
}

/// A task's end as a value among others: a task that returns it is not cancelled by that.
pub(super) fn collected<E>(error: JoinError) -> Failure<E> {
    match Failure::from(error) {
        Failure::Cancelled(cancelled) => Failure::Cancelled(cancelled.detached()),
        failure => failure,
    }
}
