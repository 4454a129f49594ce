//! Running a program.

use super::builder::Builder;
use crate::event_loop::{AbstractEventLoop, EventLoopExt, RunError};
use std::future::Future;
use std::rc::Rc;

/// Runs `main` on a loop of its own and closes the loop. What still runs when `main` is done is
/// cancelled and waited for. asyncio: `asyncio.run`.
///
/// # Errors
/// [`RunError`]: the loop could not be made or run, or `main` was cancelled or panicked.
///
/// # Examples
/// ```
/// let answer = ringloop::run(async { 6 * 7 }).unwrap();
/// assert_eq!(answer, 42);
/// ```
pub fn run<F: Future + 'static>(main: F) -> Result<F::Output, RunError<F::Output>> {
    let event_loop = Builder::new().build().map_err(RunError::Loop)?;
    block_on(&event_loop, main)
}

/// Runs `main` on a loop you made, cancels what is left, and closes the loop.
///
/// # Errors
/// As [`run`].
pub fn block_on<F: Future + 'static>(
    event_loop: &Rc<dyn AbstractEventLoop>,
    main: F,
) -> Result<F::Output, RunError<F::Output>> {
    struct Close<'a>(&'a Rc<dyn AbstractEventLoop>);
    impl Drop for Close<'_> {
        fn drop(&mut self) {
            // It does not run any more, so nothing speaks against closing it.
            let _ = self.0.close();
        }
    }
    let _close = Close(event_loop);
    let result = event_loop.run_until_complete(main);
    // Refused: the loop may be running, with tasks that are not ours.
    let ran = !matches!(result, Err(RunError::Loop(_)));
    if ran
        && let Some(core) = event_loop.core()
        && core.cancel_all_tasks() > 0
    {
        // Cancelled tasks that go on for ever are the program's own doing, as in asyncio.
        let _ = core.run_until_idle(|| event_loop.run_forever());
    }
    result
}
