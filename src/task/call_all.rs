//! Telling many, whatever one of them does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Calls `tell` with each, whatever one of them does; the first panic goes on at the end. For what
/// runs code of others, such as wakers, where each has to be told.
pub(crate) fn call_all<E>(all: impl IntoIterator<Item = E>, mut tell: impl FnMut(E)) {
    let mut panic: Option<Box<dyn Any + Send>> = None;
    for one in all {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| tell(one))) {
            panic.get_or_insert(payload);
        }
    }
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
}
