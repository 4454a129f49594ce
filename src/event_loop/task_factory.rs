//! Making tasks: the free function, and factories that make them otherwise.

use super::abstract_event_loop::AbstractEventLoop;
use super::error::LoopError;
use super::ext::EventLoopExt;
use super::running::get_running_loop;
use crate::task::{RawTask, Task, TaskBody, TaskOptions, create_task_directly};
use std::future::Future;
use std::rc::Rc;

/// Makes the tasks of a loop: gets the outermost loop, the body and all options, and usually passes
/// them on to [`AbstractEventLoop::new_task_dyn`] after a change. asyncio: a task factory.
pub type TaskFactory = Rc<
    dyn Fn(&dyn AbstractEventLoop, &mut dyn TaskBody, TaskOptions) -> Result<RawTask, LoopError>,
>;

/// Makes a task of the running loop. asyncio: `asyncio.create_task`.
///
/// # Panics
/// Outside a running loop.
///
/// # Examples
/// ```
/// # ringloop::run(async {
/// let task = ringloop::create_task(async { 6 * 7 });
/// assert_eq!(task.await.unwrap(), 42);
/// # }).unwrap();
/// ```
#[track_caller]
pub fn create_task<F: Future + 'static>(future: F) -> Task<F::Output> {
    match create_task_directly(future) {
        Ok(task) => task,
        Err(future) => create_task_with(future, TaskOptions::default()),
    }
}

/// As [`create_task`], with a name, a context or an eager start.
///
/// # Panics
/// Outside a running loop, and with the loop exit of an eager first step.
///
/// # Examples
/// ```
/// use ringloop::task::{TaskOptions, current};
///
/// # ringloop::run(async {
/// let name = async { current().unwrap().as_ref().name() };
/// let task = ringloop::create_task_with(name, TaskOptions::named("worker").eager_start(true));
/// assert!(task.done(), "it ended in its first step");
/// assert_eq!(task.await.unwrap(), "worker");
/// # }).unwrap();
/// ```
#[track_caller]
pub fn create_task_with<F: Future + 'static>(future: F, options: TaskOptions) -> Task<F::Output> {
    get_running_loop()
        .create_task_with(future, options)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A factory that starts tasks eagerly; tasks whose options say otherwise are not.
/// asyncio: `eager_task_factory`.
///
/// # Examples
/// ```
/// use ringloop::event_loop::eager_task_factory;
/// use ringloop::{AbstractEventLoop, get_running_loop};
///
/// # ringloop::run(async {
/// get_running_loop().set_task_factory(Some(eager_task_factory()));
/// assert!(ringloop::create_task(async {}).done());
/// # }).unwrap();
/// ```
pub fn eager_task_factory() -> TaskFactory {
    create_eager_task_factory(Rc::new(|event_loop, body, options| {
        event_loop.new_task_dyn(body, options)
    }))
}

/// As [`eager_task_factory`], on top of a factory of your own. asyncio: `create_eager_task_factory`.
pub fn create_eager_task_factory(make: TaskFactory) -> TaskFactory {
    Rc::new(move |event_loop, body, mut options| {
        options.eager_start.get_or_insert(true);
        make(event_loop, body, options)
    })
}
