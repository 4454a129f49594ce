//! Done callbacks: order, removal, and what they may do.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use ringloop::event_loop::{CallbackId, CallbackOptions, ExceptionContext, Future, FutureLoop};
use ringloop::task::{CallBody, CallKey, Callbacks};
use ringloop::{Context, ContextVar, EventLoopExt, LoopError};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};

use crate::support::{lab, turn};

/// Registers a callback that writes down its name.
fn note(future: &Future<i32>, order: &Order<&'static str>, name: &'static str) -> CallbackId {
    let order = order.clone();
    future.add_done_callback(move |_| order.add(name))
}

on_both_drivers! {
    /// A task that awaits stands in the order where it began to.
    fn fut_10_callbacks_run_through_the_loop_in_order(kind: DriverKind) {
        let l = lab(kind);
        let ends: [fn(&Future<i32>); 3] = [
            |future| future.set_result(1).unwrap(),
            |future| future.set_exception("broken").unwrap(),
            |future| assert!(future.cancel()),
        ];
        for end in ends {
            let order = Order::default();
            let future = l.event_loop.create_future();
            note(&future, &order, "first");
            let (waiting, woken) = (future.wait(), order.clone());
            let task = l.event_loop.create_task(async move {
                drop(waiting.await);
                woken.add("task");
            });
            drop(task.unwrap());
            turn(&l);
            note(&future, &order, "second");
            let soon = order.clone();
            end(&future);
            assert_eq!(order.take(), [""; 0], "not inside the call that ends it");
            l.event_loop.call_soon(move || soon.add("queued after")).unwrap();
            turn(&l);
            assert_eq!(order.take(), ["first", "task", "second", "queued after"]);
            turn(&l);
            assert_eq!(order.take(), [""; 0], "once");
            drop(future.exception());
        }
        l.close();
    }

    fn fut_10_a_callback_is_given_its_future(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future();
        let seen = Order::default();
        let (see, same) = (seen.clone(), future.clone());
        future.add_done_callback(move |future| {
            assert!(*future == same);
            see.add(future.result().unwrap());
        });
        future.set_result(8).unwrap();
        turn(&l);
        assert_eq!(seen.take(), [8]);
        l.close();
    }

    fn fut_11_all_callbacks_of_an_id_are_removed_at_every_position(kind: DriverKind) {
        let l = lab(kind);
        let names = ["a", "b", "c", "d", "e"];
        // Each set of positions.
        for removed in 0..1_u32 << names.len() {
            let (order, id) = (Order::default(), CallbackId::new());
            let future = l.event_loop.create_future();
            let mut left = Vec::new();
            for (position, name) in names.into_iter().enumerate() {
                if removed & 1 << position == 0 {
                    note(&future, &order, name);
                    left.push(name);
                } else {
                    let order = order.clone();
                    let options = CallbackOptions::of(id);
                    let callback = move |_: &Future<i32>| order.add(name);
                    assert_eq!(future.add_done_callback_with(callback, options), id);
                }
            }
            assert_eq!(future.remove_done_callback(id), removed.count_ones() as usize);
            assert_eq!(future.remove_done_callback(id), 0);
            future.set_result(1).unwrap();
            turn(&l);
            assert_eq!(order.take(), left);
        }
        l.close();
    }

    /// And what it captured is dropped at once.
    fn fut_11_a_callback_is_removed_by_its_own_id(kind: DriverKind) {
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        note(&future, &order, "stays");
        let (held, ran) = (Dropped(order.clone(), "dropped"), order.clone());
        let id = future.add_done_callback(move |_| {
            ran.add("ran");
            drop(held);
        });
        assert_eq!(future.remove_done_callback(id), 1);
        assert_eq!(order.take(), ["dropped"]);
        assert_eq!(future.remove_done_callback(CallbackId::new()), 0);
        future.set_result(1).unwrap();
        // Too late for one that is queued.
        let id = note(&future, &order, "queued");
        assert_eq!(future.remove_done_callback(id), 0);
        turn(&l);
        assert_eq!(order.take(), ["stays", "queued"]);
        l.close();
    }

    fn fut_12_callbacks_may_add_and_remove_callbacks(kind: DriverKind) {
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        let other: Future<i32> = l.event_loop.create_future();
        let ids = Rc::new(RefCell::new(Vec::new()));
        let (inner, all, of_other) = (order.clone(), ids.clone(), other.clone());
        let first = future.add_done_callback(move |future| {
            inner.add("first");
            // All of them are queued already.
            for id in all.borrow().iter() {
                assert_eq!(future.remove_done_callback(*id), 0);
                of_other.remove_done_callback(*id);
            }
            note(future, &inner, "added");
        });
        ids.borrow_mut().push(first);
        ids.borrow_mut().push(note(&future, &order, "second"));
        let id = ids.borrow()[1];
        let removed = order.clone();
        other.add_done_callback_with(move |_| removed.add("removed"), CallbackOptions::of(id));
        future.set_result(1).unwrap();
        turn(&l);
        assert_eq!(order.take(), ["first", "second"]);
        other.set_result(1).unwrap();
        turn(&l);
        assert_eq!(order.take(), ["added"]);
        l.close();
    }

    /// A callback whose destructor removes the next one.
    fn fut_12_destructors_may_remove_callbacks(kind: DriverKind) {
        struct Removes(Future<i32>, Rc<RefCell<Option<CallbackId>>>, Order<usize>);
        impl Drop for Removes {
            fn drop(&mut self) {
                let id = self.1.take();
                self.2.add(id.map_or(9, |id| self.0.remove_done_callback(id)));
            }
        }
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        let next = Rc::new(RefCell::new(None));
        let removes = Removes(future.clone(), next.clone(), order.clone());
        let first = future.add_done_callback(move |_| drop(removes));
        let removes = Removes(future.clone(), Rc::default(), order.clone());
        let second = future.add_done_callback(move |_| drop(removes));
        *next.borrow_mut() = Some(second);
        assert_eq!(future.remove_done_callback(first), 1);
        assert_eq!(order.take(), [9, 1]);
        assert_eq!(future.remove_done_callback(second), 0);
        l.close();
    }

    fn fut_13_a_callback_added_after_the_end_is_scheduled(kind: DriverKind) {
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        future.set_result(1).unwrap();
        note(&future, &order, "late");
        assert_eq!(order.take(), [""; 0]);
        turn(&l);
        assert_eq!(order.take(), ["late"]);
        let cancelled = l.event_loop.create_future();
        cancelled.cancel();
        note(&cancelled, &order, "cancelled");
        turn(&l);
        assert_eq!(order.take(), ["cancelled"]);
        l.close();
    }

    /// In a copy of the context of its registration, or in the given one as it is.
    fn ctx_02_callbacks_run_in_their_own_context(kind: DriverKind) {
        static NAME: ContextVar<&str> = ContextVar::new("name");
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        let see = |order: &Order<_>| {
            let order = order.clone();
            move |_: &Future<i32>| {
                order.add(NAME.get());
                NAME.set("inside");
            }
        };
        let given = Context::new();
        given.run(|| NAME.set("given"));
        Context::new().run(|| {
            NAME.set("registered");
            future.add_done_callback(see(&order));
            let options = CallbackOptions::default().in_context(&given);
            future.add_done_callback_with(see(&order), options.clone());
            NAME.set("changed later");
            Context::new().run(|| future.set_result(1).unwrap());
            // Registered after the end, too.
            future.add_done_callback(see(&order));
            future.add_done_callback_with(see(&order), options);
            turn(&l);
            assert_eq!(NAME.get(), Some("changed later"));
        });
        let expected = ["registered", "given", "changed later", "inside"];
        assert_eq!(order.take(), expected.map(Some));
        l.close();
    }

    /// It is reported under its own name, and the others run.
    fn fut_10_a_panic_in_a_callback_is_reported(kind: DriverKind) {
        let l = lab(kind);
        let order = Order::default();
        let future = l.event_loop.create_future();
        future.add_done_callback(|_| panic!("broken"));
        let place = format!("{}:{}:", file!(), line!() - 1);
        note(&future, &order, "next");
        future.set_result(1).unwrap();
        l.event_loop.set_debug(true);
        turn(&l);
        l.event_loop.set_debug(false);
        assert_eq!(order.take(), ["next"]);
        // A slow machine reports slow callbacks in debug mode, too.
        let mut reports = l.reports();
        reports.retain(|report| report.exception.is_some());
        let report = reports.remove(0);
        let handle = report.handle.expect("what was called");
        assert!(handle.contains(&place), "{handle}, not {place}");
        assert!(report.message.starts_with("Exception in callback "), "{}", report.message);
        let name = "fut_10_a_panic_in_a_callback_is_reported";
        assert!(report.message.contains(name), "{}", report.message);
        assert_eq!(report.exception.unwrap().to_string(), "broken");
        l.close();
    }

    /// Callbacks of a closed loop never run; setting still works.
    fn callbacks_go_with_their_loop(kind: DriverKind) {
        let l = lab(kind);
        let (order, event_loop) = (Order::default(), l.event_loop.clone());
        let (queued, waits) = (event_loop.create_future(), event_loop.create_future());
        for (future, name) in [(&queued, "queued"), (&waits, "waits")] {
            let held = Dropped(order.clone(), name);
            future.add_done_callback(move |_: &Future<i32>| {
                drop(held);
                never_runs();
            });
        }
        queued.set_result(1).unwrap();
        event_loop.close().unwrap();
        assert_eq!(order.take(), ["queued"]);
        waits.set_result(2).unwrap();
        assert_eq!(order.take(), ["waits"]);
        let late = Dropped(order.clone(), "late");
        waits.add_done_callback(move |_| drop(late));
        assert_eq!(order.take(), ["late"]);
        assert_eq!(waits.result().unwrap(), 2);
        drop(event_loop);
        l.close();
    }
}

fn never_runs() {
    unreachable!("a callback of a closed loop ran");
}

/// A loop of a stranger's own making, which looks into the futures while they call it.
#[derive(Default)]
struct Evil {
    callbacks: Callbacks,
    queue: RefCell<VecDeque<CallKey>>,
    inside: RefCell<Option<Rc<dyn Fn()>>>,
    reports: RefCell<Vec<String>>,
}

impl Evil {
    fn run(&self) {
        while let Some(key) = { self.queue.borrow_mut().pop_front() } {
            self.callbacks.run(key).expect("no callback panics");
        }
    }
}

impl FutureLoop for Evil {
    fn call_soon(&self, callback: &mut dyn CallBody) -> Result<(), LoopError> {
        let inside = self.inside.borrow().clone();
        if let Some(inside) = inside {
            inside();
        }
        let key = self.callbacks.insert(callback);
        self.queue.borrow_mut().push_back(key);
        Ok(())
    }

    fn call_exception_handler(&self, context: ExceptionContext) {
        self.reports.borrow_mut().push(context.to_string());
    }

    fn get_debug(&self) -> bool {
        true
    }
}

// Not on both drivers: there is no driver.
#[test]
fn fut_12_a_loop_may_change_the_callbacks_while_they_are_scheduled() {
    let evil = Rc::new(Evil::default());
    let order = Order::default();
    let future: Future<i32> = Future::new(evil.clone());
    let ids: Vec<_> = ["a", "b", "c"]
        .map(|name| note(&future, &order, name))
        .into();
    let (inner, added) = (future.clone(), order.clone());
    *evil.inside.borrow_mut() = Some(Rc::new(move || {
        for id in &ids {
            assert_eq!(inner.remove_done_callback(*id), 0);
        }
        assert!(inner.done() && !inner.cancel());
        added.add("scheduled");
    }));
    future.set_result(1).unwrap();
    assert_eq!(order.take(), ["scheduled"; 3]);
    evil.run();
    assert_eq!(order.take(), ["a", "b", "c"]);
    *evil.inside.borrow_mut() = None;
}

/// All that a future needs is there on a loop that has nothing of ours.
// Not on both drivers: there is no driver.
#[test]
fn a_future_works_on_a_loop_that_is_not_ours() {
    let evil = Rc::new(Evil::default());
    let future: Future<i32> = Future::new(evil.clone());
    assert_eq!(future.get_loop().loop_id(), None);
    let text = format!("{future:?}");
    assert!(text.starts_with("<Future pending created at "), "{text}");
    future.set_exception("nobody's").unwrap();
    drop(future);
    let report = evil.reports.take().remove(0);
    assert!(
        report.starts_with("Future exception was never retrieved"),
        "{report}"
    );
    assert!(
        report.contains("nobody's") && report.contains(file!()),
        "{report}"
    );
}
