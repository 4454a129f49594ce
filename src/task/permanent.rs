//! Values that are made late and stay for ever.
//!
//! **Guarantees.** Whoever finds the value finds it whole, and may keep it: it is never replaced nor
//! freed. Looking costs one load. The model at the end of this file runs every interleaving
//! (`--cfg loom`).
//!
//! **Who may touch it.** Any thread looks; one at a time makes.

#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, Ordering};
use std::ptr::null_mut;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, Ordering};

/// See the module.
pub(super) struct Permanent<T: 'static>(AtomicPtr<T>);

impl<T> Permanent<T> {
    // The model checker's atomics are not made at compile time.
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// The value, if it was made.
    #[inline]
    pub(super) fn get(&self) -> Option<&'static T> {
        let value = self.0.load(Ordering::Acquire);
        // SAFETY: null, or from the leaked box of `get_or_make`, which nobody frees. Acquire: what
        // stands behind the pointer was written before it.
        unsafe { value.as_ref() }
    }

    /// The value, made now if it was not. By one thread at a time: what two make, one of them loses.
    pub(super) fn get_or_make(&self, make: impl FnOnce() -> T) -> &'static T {
        self.get().unwrap_or_else(|| {
            let value: &'static T = Box::leak(Box::new(make()));
            self.0
                .store(std::ptr::from_ref(value).cast_mut(), Ordering::Release);
            value
        })
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::Permanent;
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// Loom reports a read that is not ordered after the making.
    #[test]
    fn loom_a_value_is_found_whole_and_made_once() {
        loom::model(|| {
            let place = Arc::new((Permanent::new(), Mutex::new(())));
            let make = |place: &(Permanent<UnsafeCell<u32>>, Mutex<()>)| {
                let _one_at_a_time = place.1.lock().unwrap();
                std::ptr::from_ref(place.0.get_or_make(|| UnsafeCell::new(7))) as usize
            };
            let maker = {
                let place = place.clone();
                thread::spawn(move || make(&place))
            };
            let reader = {
                let place = place.clone();
                thread::spawn(move || {
                    if let Some(value) = place.0.get() {
                        // SAFETY: nobody writes any more; loom checks it.
                        assert_eq!(value.with(|value| unsafe { *value }), 7);
                    }
                })
            };
            let made = make(&place);
            assert_eq!(maker.join().unwrap(), made);
            reader.join().unwrap();
        });
    }
}
