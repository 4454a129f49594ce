//! Wakers: a packed word, no memory.
//!
//! **Guarantees.** Clone and drop do nothing; a waker is Send + Sync and may outlive its task, its
//! loop and its thread. On the thread where its loop runs a wake is a comparison, the task's
//! scheduled bit and a push; elsewhere it goes through the static table ([`super::table`]).

use super::id::{tag_of, unpack};
use super::running;
use super::table;
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

/// Whether `waker` wakes exactly what `bits` names.
#[inline]
pub(super) fn is_waker_of(waker: &Waker, bits: u64) -> bool {
    waker.data().addr() as u64 == bits && std::ptr::eq(waker.vtable(), &VTABLE)
}

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

fn drop(_: *const ()) {}

fn wake(data: *const ()) {
    let bits = data.addr() as u64;
    let local = running::with(|tasks| match tasks {
        Some(tasks) if tasks.tag() == tag_of(bits) => {
            let (index, generation) = unpack(bits);
            tasks.schedule(index, generation);
            true
        }
        _ => false,
    });
    if !local {
        table::wake_remote(bits);
    }
}
