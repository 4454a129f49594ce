//! Running a program.

use super::life::Runner;
use crate::event_loop::{AbstractEventLoop, RunError};
use std::future::Future;
use std::rc::Rc;

/// Runs `main` on a loop of its own and closes the loop. What still runs when `main` is done is
/// cancelled and waited for. asyncio: `asyncio.run`. What SIGINT does meanwhile, and how the loop is
/// closed, says [`Runner`].
///
/// # Errors
/// [`RunError`]: the loop could not be made or run, or `main` was cancelled, interrupted or panicked.
///
/// # Examples
/// ```
/// let answer = ringloop::run(async { 6 * 7 }).unwrap();
/// assert_eq!(answer, 42);
/// ```
pub fn run<F: Future + 'static>(main: F) -> Result<F::Output, RunError<F::Output>> {
    Runner::new().run(main)
}

/// Runs `main` on a loop you made, cancels what is left, and closes the loop.
///
/// # Errors
/// As [`run`].
pub fn block_on<F: Future + 'static>(
    event_loop: &Rc<dyn AbstractEventLoop>,
    main: F,
) -> Result<F::Output, RunError<F::Output>> {
    Runner::of(event_loop.clone()).run(main)
}
