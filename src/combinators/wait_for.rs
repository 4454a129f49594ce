//! Waiting for one thing, for a while. asyncio: `wait_for`.

use super::children::as_task;
use crate::event_loop::{TimeoutError, timeout};
use crate::task::JoinError;
use std::any::Any;
use std::future::Future;
use std::time::Duration;

/// Waits for a future for at most a while; `None` is for ever. asyncio: `wait_for`.
///
/// As [`timeout`](timeout()), it runs the future in the calling task, and after the expiry waits
/// for its end, however long that takes. A task's handle passes the cancellation on to its task. What
/// is special is a limit of zero: a task that has ended gives its result, one that runs is cancelled
/// and waited for, and any other future is not even begun. Futures that borrow: take
/// [`timeout`](timeout()).
///
/// # Errors
/// [`TimeoutError`]. A cancellation from outside is in the future's own result.
///
/// # Panics
/// Its first poll panics outside a task.
///
/// # Examples
/// ```
/// use ringloop::{sleep, wait_for};
/// use std::time::Duration;
///
/// # ringloop::run(async {
/// let slow = wait_for(sleep(Duration::from_secs(3600)), Some(Duration::from_millis(1)));
/// assert!(slow.await.is_err());
/// # }).unwrap();
/// ```
pub async fn wait_for<F, T, E>(
    future: F,
    limit: Option<Duration>,
) -> Result<Result<T, E>, TimeoutError>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    let limit = match limit {
        None => return Ok(future.await),
        Some(limit) if !limit.is_zero() => return timeout(limit, future).await,
        Some(limit) => limit,
    };
    let Ok(task) = as_task::<T, F>(future) else {
        return Err(TimeoutError);
    };
    let ended = timeout(limit, task).await?;
    Ok(ended.map_err(into::<E>))
}

/// The error of a task's handle under the name by which the caller knows its type.
fn into<E: 'static>(error: JoinError) -> E {
    let mut error = Some(error);
    (&mut error as &mut dyn Any)
        .downcast_mut::<Option<E>>()
        .and_then(Option::take)
        .expect("awaiting a task gives its join error")
}
