//! The panic that leaves the loop: asyncio's "base errors".
//!
//! asyncio re-raises `KeyboardInterrupt` and `SystemExit` out of every catch-all. Here a panic
//! whose payload is a [`LoopExit`] does that: a task's step and a callback let it through after
//! putting their own state in order.

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;

/// The payload of a panic that escapes every catch-all of the loop and ends its run.
/// asyncio: a base error, such as `SystemExit`.
pub struct LoopExit(pub Box<dyn Any + Send>);

impl fmt::Debug for LoopExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoopExit")
    }
}

/// Leaves the loop with `value`: unwinds out of the task or callback that calls it and out of the
/// run of the loop, without the message of a panic. Callbacks not yet run stay queued.
/// asyncio: `raise SystemExit(value)`.
///
/// # Panics
/// Always; that is how it leaves.
pub fn exit_loop(value: impl Any + Send) -> ! {
    resume_unwind(Box::new(LoopExit(Box::new(value))))
}

/// Whether a panic's payload is a [`LoopExit`].
pub fn is_loop_exit(payload: &(dyn Any + Send)) -> bool {
    payload.is::<LoopExit>()
}
