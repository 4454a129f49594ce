use std::pin::pin;
use std::rc::Rc;

use ringloop::sync::Event;
use ringloop::{Cancelled, Task};
use uring_tests::on_both_drivers;
use uring_tests::order::Order;

use crate::support::{Turned, cancelled, ended, poll_once};

fn waiter(
    l: &Turned,
    event: &Rc<Event>,
    log: &Order<u32>,
    name: u32,
) -> Task<Result<(), Cancelled>> {
    let (event, log) = (event.clone(), log.clone());
    l.spawn(async move {
        event.wait().await?;
        log.add(name);
        Ok(())
    })
}

fn shows(event: &Event, set: bool, waiters: usize) {
    let text = format!("Event {{ set: {set}, waiters: {waiters} }}");
    assert_eq!(format!("{event:?}"), text);
}

on_both_drivers! {
    fn evt_01_set_wakes_all_in_order(kind: DriverKind) {
        let l = Turned::new(kind);
        let (event, log) = (Rc::new(Event::new()), Order::default());
        assert!(!event.is_set());
        let mut tasks: Vec<_> = (1..=3).map(|name| waiter(&l, &event, &log, name)).collect();
        l.turns(2);
        assert_eq!(log.take(), [0; 0]);
        event.set();
        assert!(event.is_set());
        l.turn();
        assert_eq!(log.take(), [1, 2, 3]);
        tasks.iter_mut().for_each(|task| ended(task).unwrap());
        // Again changes nothing.
        event.set();
        shows(&event, true, 0);
    }

    fn evt_01_waiting_for_a_set_event_returns_before_earlier_waiters_run(kind: DriverKind) {
        let l = Turned::new(kind);
        let (event, log) = (Rc::new(Event::default()), Order::default());
        let early = waiter(&l, &event, &log, 1);
        l.turn();
        let (inner, note) = (event.clone(), log.clone());
        let late = l.spawn(async move {
            inner.set();
            assert!(poll_once(pin!(inner.wait())).is_ready());
            inner.wait().await.unwrap();
            note.add(2);
        });
        l.turns(2);
        assert_eq!(log.take(), [2, 1]);
        drop((early, late));
    }

    fn evt_02_a_cancelled_waiter_is_removed(kind: DriverKind) {
        let l = Turned::new(kind);
        let (event, log) = (Rc::new(Event::new()), Order::default());
        let mut tasks: Vec<_> = (1..=4).map(|name| waiter(&l, &event, &log, name)).collect();
        l.turn();
        tasks[1].cancel();
        tasks[2].abort();
        l.turn();
        shows(&event, false, 2);
        cancelled(&mut tasks[1]);
        cancelled(&mut tasks[2]);
        event.set();
        // Set, and cancelled before it runs: the cancellation wins.
        tasks[3].cancel();
        l.turn();
        cancelled(&mut tasks[3]);
        assert_eq!(log.take(), [1]);
        shows(&event, true, 0);
    }

    /// At once, not when its future is dropped.
    fn evt_02_a_cancelled_wait_is_removed_though_its_future_lives(kind: DriverKind) {
        let l = Turned::new(kind);
        let event = Rc::new(Event::new());
        let inner = event.clone();
        let mut task = l.spawn(async move {
            let mut wait = pin!(inner.wait());
            let cancelled = wait.as_mut().await.expect_err("cancelled");
            shows(&inner, false, 0);
            drop(cancelled);
        });
        l.turn();
        task.cancel();
        l.turn();
        ended(&mut task);
    }

    fn evt_03_cleared_it_is_waited_for_again(kind: DriverKind) {
        let l = Turned::new(kind);
        let (event, log) = (Rc::new(Event::new()), Order::default());
        event.set();
        event.clear();
        assert!(!event.is_set());
        let mut task = waiter(&l, &event, &log, 1);
        l.turns(3);
        assert_eq!(log.take(), [0; 0]);
        event.set();
        l.turn();
        ended(&mut task).unwrap();
    }

    fn evt_03_set_and_cleared_before_they_ran_they_still_return(kind: DriverKind) {
        let l = Turned::new(kind);
        let (event, log) = (Rc::new(Event::new()), Order::default());
        let mut tasks: Vec<_> = (1..=3).map(|name| waiter(&l, &event, &log, name)).collect();
        l.turn();
        event.set();
        event.clear();
        // Who comes now waits for the next one.
        let mut late = waiter(&l, &event, &log, 4);
        l.turns(3);
        assert_eq!(log.take(), [1, 2, 3]);
        tasks.iter_mut().for_each(|task| ended(task).unwrap());
        shows(&event, false, 1);
        event.set();
        l.turn();
        ended(&mut late).unwrap();
    }

    fn evt_04_the_text_shows_state_and_waiters(kind: DriverKind) {
        let l = Turned::new(kind);
        let (event, log) = (Rc::new(Event::new()), Order::default());
        shows(&event, false, 0);
        let tasks = [waiter(&l, &event, &log, 1), waiter(&l, &event, &log, 2)];
        l.turn();
        shows(&event, false, 2);
        event.set();
        shows(&event, true, 0);
        l.turn();
        drop(tasks);
    }
}
