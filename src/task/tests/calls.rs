//! The arena of callbacks.

use super::*;
use std::cell::Cell;

fn insert<F: FnOnce() + 'static>(callbacks: &Callbacks, f: F) -> CallKey {
    callbacks.insert(&mut CallOnce::new(f))
}

#[test]
fn a_callback_runs_once_and_its_key_is_stale_then() {
    let callbacks = Callbacks::new();
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    let key = insert(&callbacks, move || seen.set(seen.get() + 1));
    assert!(callbacks.is_waiting(key));
    assert_eq!(callbacks.len(), 1);
    assert!(callbacks.run(key).unwrap());
    assert!(!callbacks.run(key).unwrap());
    assert!(!callbacks.cancel(key) && !callbacks.is_waiting(key));
    assert_eq!((count.get(), Rc::strong_count(&count)), (1, 1));
    assert!(callbacks.is_empty());
    let next = insert(&callbacks, || {});
    assert_eq!(next.index, key.index, "the slot is used again");
    assert!(!callbacks.run(key).unwrap(), "under another generation");
    assert!(callbacks.cancel(next));
}

#[test]
fn hnd_01_cancel_drops_the_closure_at_once() {
    let callbacks = Callbacks::new();
    let held = Rc::new(());
    let captured = held.clone();
    let key = insert(&callbacks, move || drop(captured));
    assert!(callbacks.cancel(key));
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(!callbacks.cancel(key));
    assert!(!callbacks.run(key).unwrap());
}

#[test]
fn a_panic_is_returned_and_the_slot_is_free() {
    let callbacks = Callbacks::new();
    let key = insert(&callbacks, || panic!("boom"));
    let name = callbacks.name(key).unwrap();
    let panicked = callbacks.run(key).unwrap_err();
    assert_eq!(panic_message(&*panicked.payload), "boom");
    assert_eq!(panicked.name, name);
    assert!(callbacks.name(key).is_none());
    let next = insert(&callbacks, || exit_loop(1));
    assert_eq!(next.index, key.index);
    assert!(is_loop_exit(&*callbacks.run(next).unwrap_err().payload));
}

#[test]
fn a_callback_may_cancel_itself_and_insert_others() {
    let callbacks = Rc::new(Callbacks::new());
    let own: Rc<Cell<Option<CallKey>>> = Rc::default();
    let (all, me) = (callbacks.clone(), own.clone());
    let key = insert(&callbacks, move || {
        assert!(!all.cancel(me.get().unwrap()), "it runs");
        me.set(Some(insert(&all, || {})));
    });
    own.set(Some(key));
    assert!(callbacks.run(key).unwrap());
    let next = own.get().unwrap();
    assert!(callbacks.is_waiting(next) && callbacks.run(next).unwrap());
}

#[test]
fn clear_drops_everything_and_returns_panics() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("bad drop");
        }
    }
    let callbacks = Callbacks::new();
    let held = Rc::new([0_u8; 1000]);
    for _ in 0..200 {
        let captured = held.clone();
        insert(&callbacks, move || drop(captured));
    }
    let big = [0_u8; 8000];
    insert(&callbacks, move || assert_eq!(big[0], 0));
    let bad = Bad;
    insert(&callbacks, move || drop(bad));
    let panics = callbacks.clear();
    assert_eq!(panics.len(), 1);
    assert_eq!((Rc::strong_count(&held), callbacks.len()), (1, 0));
}
