//! Handles of callbacks and timers.

use std::cmp::Ordering;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::time::Duration;

use ringloop::EventLoopExt;
use ringloop::event_loop::TimerHandle;
use ringloop::task::{CallOnce, Callbacks};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::HOUR;
use uring_tests::watch::Watch;

/// Asserts that a text goes on with the place of that line of this file.
#[track_caller]
fn is_created_at(text: &str, short: &str, line: u32) {
    let start = format!("{short} created at {}:{line}:", file!());
    assert!(text.starts_with(&start), "{text} instead of {start}");
}

on_both_drivers! {
    fn hnd_01_cancel_is_idempotent_and_drops_the_callback_at_once(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let (in_soon, in_timer) = (Dropped(order.clone(), "soon"), Dropped(order.clone(), "timer"));
        let soon = l.call_soon(move || drop(in_soon)).unwrap();
        let timer = l.call_later(HOUR, move || drop(in_timer)).unwrap();
        assert!(!soon.cancelled() && soon.is_waiting());
        assert!(!timer.cancelled() && timer.is_waiting());
        for _ in 0..2 {
            soon.cancel();
            timer.cancel();
            assert!(soon.cancelled() && !soon.is_waiting());
            assert!(timer.cancelled() && !timer.is_waiting());
        }
        assert_eq!(order.take(), ["soon", "timer"]);
    }

    /// Too late, it is harmless, also for a newer callback in the same place of the arena.
    fn hnd_01_a_cancel_after_the_run_hits_nobody(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let old = l.call_soon(order.note(1)).unwrap();
        l.turn();
        let new = l.call_soon(order.note(2)).unwrap();
        assert!(!old.is_waiting() && !old.cancelled());
        old.cancel();
        assert!(new.is_waiting());
        l.turn();
        assert_eq!(order.take(), [1, 2]);
        // A handle that is dropped cancels nothing.
        drop(l.call_soon(order.note(3)).unwrap());
        l.turn();
        assert_eq!(order.take(), [3]);
    }

    /// The destructor of what was captured may do anything, and its panic is the canceller's.
    fn hnd_01_destructors_may_schedule(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        struct Schedules(Rc<dyn ringloop::AbstractEventLoop>, Order<&'static str>);
        impl Drop for Schedules {
            fn drop(&mut self) {
                self.0.call_soon(self.1.note("from a destructor")).unwrap();
            }
        }
        let captured = Schedules(l.event_loop(), order.clone());
        l.call_soon(move || drop(captured)).unwrap().cancel();
        l.turn();
        assert_eq!(order.take(), ["from a destructor"]);
    }

    fn hnd_02_a_failing_callback_is_reported_with_all_there_is(kind: DriverKind) {
        let l = Watch::new(kind);
        l.call_soon(|| panic!("number {}", 1)).unwrap();
        l.turn();
        let told = l.told().remove(0);
        let name = told.handle.clone().unwrap();
        assert!(name.starts_with("event_loop::handles::hnd_02_"), "{name}");
        assert_eq!(told.message, format!("Exception in callback {name}"));
        assert_eq!(told.exception.as_deref(), Some("number 1"));
        assert_eq!(told.task, None);
        // In debug mode with the place where it was scheduled, also through other methods.
        l.set_debug(true);
        let line = line!() + 1;
        l.call_soon(|| panic!("2")).unwrap();
        l.call_later(Duration::ZERO, || panic!("3")).unwrap();
        l.call_at(0, || panic!("4")).unwrap();
        l.call_soon_threadsafe(|| panic!("5")).unwrap();
        l.handle().call_soon_threadsafe(|| panic!("6")).unwrap();
        l.turns(2);
        let mut told = l.told();
        told.sort_by(|one, other| one.exception.cmp(&other.exception));
        assert_eq!(told.len(), 5);
        for (told, line) in told.iter().zip(line..) {
            let handle = told.handle.as_deref().unwrap();
            let name = told.message.strip_prefix("Exception in callback ").unwrap();
            is_created_at(handle, name, line);
        }
    }

    fn hnd_03_the_text_names_the_callback_and_shows_cancelled(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let soon = l.call_soon(|| ()).unwrap();
        let text = format!("{soon:?}");
        // The path of the function in which the closure stands is its place.
        let name = text.strip_prefix("<Handle ").unwrap().strip_suffix('>').unwrap();
        assert!(name.starts_with("event_loop::handles::hnd_03_"), "{text}");
        assert!(name.ends_with("{{closure}}"), "{text}");
        soon.cancel();
        assert_eq!(format!("{soon:?}"), format!("<Handle cancelled {name}>"));
        let timer = l.call_at(12, || ()).unwrap();
        assert!(format!("{timer:?}").starts_with("<TimerHandle when=12ns event_loop::handles::"));
        timer.cancel();
        assert!(format!("{timer:?}").starts_with("<TimerHandle cancelled when=12ns event_loop::"));
        let other = l.call_soon_threadsafe(|| ()).unwrap();
        assert!(format!("{other:?}").starts_with("<ThreadSafeHandle event_loop::handles::hnd_03_"));
        other.cancel();
        assert!(format!("{other:?}").starts_with("<ThreadSafeHandle cancelled event_loop::"));
    }

    fn hnd_04_in_debug_mode_the_text_has_the_place_also_after_cancel(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let line = line!() + 1;
        let soon = l.call_soon(|| ()).unwrap();
        let timer = l.call_at(12, || ()).unwrap();
        for cancelled in ["", " cancelled"] {
            l.set_debug(false);
            let (short, short_timer) = (format!("{soon:?}"), format!("{timer:?}"));
            assert!(!short.contains("created") && !short_timer.contains("created"));
            l.set_debug(true);
            let short = short.strip_suffix('>').unwrap();
            assert!(short.starts_with(&format!("<Handle{cancelled} ")));
            is_created_at(&format!("{soon:?}"), short, line);
            let short = short_timer.strip_suffix('>').unwrap();
            is_created_at(&format!("{timer:?}"), short, line + 1);
            soon.cancel();
            timer.cancel();
        }
    }

    /// Through the loop as programs hold it and through the concrete type alike.
    fn hnd_05_the_place_is_the_caller_of_the_scheduling_method(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.set_debug(true);
        let erased = l.event_loop();
        let line = line!() + 2;
        let texts = [
            format!("{:?}", erased.call_soon(|| ()).unwrap()),
            format!("{:?}", l.base.call_soon(|| ()).unwrap()),
            format!("{:?}", erased.call_later(Duration::ZERO, || ()).unwrap()),
            format!("{:?}", l.base.call_at(5, || ()).unwrap()),
        ];
        for (text, line) in texts.iter().zip(line..) {
            let (short, _) = text.split_once(" created").unwrap();
            is_created_at(text, short, line);
        }
    }

    fn hnd_06_when_and_hash_follow_the_deadline(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let hash = |timer: &TimerHandle| BuildHasherDefault::<DefaultHasher>::new().hash_one(timer);
        let now = l.time();
        let one = l.call_at(now + 7, || ()).unwrap();
        let same = l.call_later(Duration::from_nanos(7), || ()).unwrap();
        let other = l.call_at(now + 8, || ()).unwrap();
        assert_eq!((one.when(), same.when(), other.when()), (now + 7, now + 7, now + 8));
        assert_eq!(hash(&one), hash(&same));
        assert_ne!(hash(&one), hash(&other));
        let before = hash(&one);
        one.cancel();
        assert_eq!(hash(&one), before);
        assert_eq!(one.when(), now + 7);
    }

    fn hnd_07_order_goes_by_deadline_and_equality_by_everything(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let at = |when| l.call_at(when, || ()).unwrap();
        let (early, one, other, late) = (at(1), at(2), at(2), at(3));
        assert!(early < one && early <= one);
        assert!(late > one && late >= one);
        assert!(early != one);
        // Equal deadlines alone: neither smaller nor larger nor equal, which `partial_cmp` says.
        assert_eq!(one.partial_cmp(&other), None);
        assert!(one != other);
        // Fully equal.
        let same = &one;
        assert!(one == *same && one <= *same);
        assert_eq!(one.partial_cmp(same), Some(Ordering::Equal));
        one.cancel();
        assert!(one == *same);
        // Two handles of one timer, of which one was cancelled, and then the other.
        let callbacks = Rc::new(Callbacks::new());
        let key = callbacks.insert(&mut CallOnce::new(|| ()));
        let [one, twin] = [2, 2].map(|when| TimerHandle::of(&callbacks, key, when));
        assert!(one == twin);
        one.cancel();
        assert!(one != twin);
        assert_eq!(one.partial_cmp(&twin), None);
        twin.cancel();
        assert!(one == twin);
        // The first timers of two loops have the same place in their arenas.
        let elsewhere = Watch::by_hand(kind);
        let first = Watch::by_hand(kind);
        let (here, there) = (
            first.call_at(5, || ()).unwrap(),
            elsewhere.call_at(5, || ()).unwrap(),
        );
        assert!(here != there);
    }
}
