//! `call_soon`, `call_later`, `call_at`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringloop::{AbstractEventLoop, EventLoopExt, LoopError};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;
use uring_tests::watch::Watch;

/// Takes what may not leave its thread to another one.
struct Smuggled<T>(T);

// SAFETY: the test that uses it waits for the other thread before it touches the value again, so
// there is never more than one thread that does.
unsafe impl<T> Send for Smuggled<T> {}

impl<T> Smuggled<T> {
    fn open(&self) -> &T {
        &self.0
    }
}

/// Schedules on another thread while this one waits; what the loop answered.
fn from_elsewhere(l: &Rc<dyn AbstractEventLoop>) -> [Option<LoopError>; 3] {
    let smuggled = Smuggled(l);
    std::thread::scope(|scope| {
        let schedule = move || {
            let l = smuggled.open();
            [
                l.call_soon(|| ()).err(),
                l.call_at(0, || ()).err(),
                l.create_task(async {}).err(),
            ]
        };
        scope.spawn(schedule).join().unwrap()
    })
}

on_both_drivers! {
    fn sch_01_callbacks_run_in_order_with_what_they_captured(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        for number in 0..100 {
            l.call_soon(order.note(number)).unwrap();
        }
        l.turn();
        assert_eq!(order.take(), (0..100).collect::<Vec<_>>());
    }

    /// On the real clock: early is wrong, late is not.
    fn sch_02_timers_never_fire_before_their_deadline(kind: DriverKind) {
        let l = Watch::new(kind);
        let order = Order::default();
        let mut timers = Vec::new();
        for micros in [3000, 1, 500, 0, 2000, 40] {
            let (fired, clock, number) = (order.clone(), l.event_loop(), timers.len());
            let when = l.time() + micros * 1000;
            let note = move || fired.add((number, clock.time()));
            timers.push(if micros == 2000 {
                let timer = l.call_later(Duration::from_micros(micros), note).unwrap();
                assert!(timer.when() >= when);
                timer
            } else {
                let timer = l.call_at(when, note).unwrap();
                assert_eq!(timer.when(), when);
                timer
            });
        }
        let me = l.event_loop();
        l.call_later(Duration::from_millis(4), move || me.stop()).unwrap();
        l.run_forever().unwrap();
        let fired = order.take().into_iter();
        let fired: Vec<_> = fired.map(|(number, at)| (timers[number].when(), at)).collect();
        assert_eq!(fired.len(), 6);
        for (when, at) in &fired {
            // The clock's resolution is 1 ns.
            assert!(at + 1 >= *when, "{} ns early", when - at);
        }
        assert!(fired.is_sorted_by_key(|(when, _)| *when));
    }

    /// The edge itself, by a clock that stands still.
    fn sch_02_a_deadline_within_the_resolution_is_due(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        l.call_at(l.time(), order.note("now")).unwrap();
        l.call_at(l.time() + 1, order.note("not yet")).unwrap();
        l.turn();
        assert_eq!(order.take(), ["now"]);
        l.seen.advance(1);
        l.turn();
        assert_eq!(order.take(), ["not yet"]);
    }

    fn sch_03_past_deadlines_run_in_their_order_and_never_inline(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        let now = l.time();
        for ago in [1, 3, 2, 3] {
            l.call_at(now - ago, order.note(ago)).unwrap();
        }
        l.call_later(Duration::ZERO, order.note(0)).unwrap();
        assert!(order.take().is_empty());
        l.turn();
        assert_eq!(order.take(), [3, 3, 2, 1, 0]);
    }

    /// Ties go by creation, which asyncio leaves open.
    fn sch_03_equal_deadlines_run_in_the_order_of_creation(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let order = Order::default();
        let when = l.time() + 5;
        for number in 0..50 {
            l.call_at(when, order.note(number)).unwrap();
        }
        l.seen.advance(5);
        l.turn();
        assert_eq!(order.take(), (0..50).collect::<Vec<_>>());
    }

    fn sch_11_debug_mode_refuses_other_threads(kind: DriverKind) {
        let l = Watch::new(kind);
        let me = l.event_loop();
        let answers = Rc::new(Cell::new(None));
        let keep = answers.clone();
        let ask = move || {
            me.set_debug(true);
            let refused = from_elsewhere(&me);
            me.set_debug(false);
            keep.set(Some((refused, from_elsewhere(&me))));
        };
        // A loop that does not run belongs to nobody: no check.
        l.set_debug(true);
        assert_eq!(from_elsewhere(&l.event_loop()), [None; 3]);
        l.call_soon(ask).unwrap();
        l.turns(2);
        let (refused, unchecked) = answers.take().expect("asked");
        assert_eq!(refused, [Some(LoopError::WrongThread); 3]);
        assert_eq!(unchecked, [None; 3]);
        let text = LoopError::WrongThread.to_string();
        assert!(text.starts_with("Non-thread-safe operation invoked"), "{text}");
    }
}
