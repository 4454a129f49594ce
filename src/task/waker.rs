//! Wakers: a packed word, no memory.
//!
//! **Guarantees.** Clone and drop do nothing; a waker is Send + Sync and may outlive its task, its
//! loop and its thread. On the thread where its loop runs a wake is a comparison, the task's
//! scheduled bit and a push; elsewhere it goes through the static table ([`super::table`]).

use super::id::tag_of;
use super::running;
use super::table;
use super::tasks::Tasks;
use std::mem::ManuallyDrop;
use std::ptr::without_provenance;
use std::task::{RawWaker, RawWakerVTable, Waker};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);

/// The waker of a packed word.
#[inline]
pub(super) fn waker(bits: u64) -> ManuallyDrop<Waker> {
    let data = without_provenance(bits as usize);
    // SAFETY: the functions of the table never dereference the data, work on any thread and for
    // every word, so the contract of RawWaker holds.
    ManuallyDrop::new(unsafe { Waker::new(data, &VTABLE) })
}

/// The word of a waker of this floor.
#[inline]
pub(super) fn word_of(waker: &Waker) -> Option<u64> {
    std::ptr::eq(waker.vtable(), &VTABLE).then(|| waker.data().addr() as u64)
}

/// `waker.clone()`, without the calls when it is one of this floor.
#[inline]
pub(super) fn clone_waker(waker: &Waker) -> Waker {
    match word_of(waker) {
        Some(word) => ManuallyDrop::into_inner(self::waker(word)),
        None => waker.clone(),
    }
}

/// `drop(waker)`, without the call when it is one of this floor.
#[inline]
pub(super) fn drop_waker(waker: Waker) {
    if word_of(&waker).is_some() {
        std::mem::forget(waker);
    }
}

/// `waker.wake()`, without the calls when it is for a task of `tasks`, whose thread this is.
#[inline]
pub(super) fn wake_from(tasks: &Tasks, waker: Waker) {
    match word_of(&waker) {
        Some(word) if tag_of(word) == tasks.tag() => {
            std::mem::forget(waker);
            tasks.schedule(word);
        }
        _ => waker.wake(),
    }
}

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

fn drop(_: *const ()) {}

fn wake(data: *const ()) {
    let bits = data.addr() as u64;
    let local = running::with(|tasks| match tasks {
        Some(tasks) if tasks.tag() == tag_of(bits) => {
            tasks.schedule(bits);
            true
        }
        _ => false,
    });
    if !local {
        table::wake_remote(bits);
    }
}
