//! The CAN rows of the contract.

use super::*;
use std::cell::Cell;
use std::io;

/// A task waiting at a leaf, and the leaf.
pub(super) fn waiting(l: &Loop) -> (Task<Result<(), Cancelled>>, Leaf<()>) {
    let leaf = Leaf::new();
    let far = leaf.clone();
    let task = l.spawn(async move { far.wait().await });
    l.run();
    (task, leaf)
}

#[test]
fn can_01_cancel_of_a_waiting_task() {
    let l = Loop::new();
    let (mut task, _leaf) = waiting(&l);
    assert!(task.cancel());
    assert!(!task.cancelled() && !task.done());
    l.run();
    assert!(task.cancelled() && task.done());
    assert!(!task.cancel());
    assert_eq!(message_of(task.result()), None);
}

#[test]
fn can_02_cancel_at_a_yield() {
    let l = Loop::new();
    let mut task = l.spawn(async {
        pause().await?;
        unreachable!("cancelled at the yield");
        #[allow(unreachable_code)]
        Ok::<(), Cancelled>(())
    });
    l.turn();
    task.cancel();
    l.run();
    assert_eq!(message_of(task.result()), None);
    // A yield of another crate registers nothing: the request is kept for the next await.
    let mut task = l.spawn(async {
        foreign_pause().await;
        pause().await
    });
    l.turn();
    task.cancel_with("later");
    l.run();
    assert_eq!(message_of(task.result()).as_deref(), Some("later"));
}

#[test]
fn can_02_cancel_at_a_yield_that_registers_nothing() {
    let l = Loop::new();
    let passed = Rc::new(Cell::new(0));
    let count = passed.clone();
    let mut task = l.spawn(async move {
        pass().await?;
        count.set(1);
        let cancelled = pass().await.expect_err("cancelled at the yield");
        pass().await.expect("delivered once");
        current().unwrap().cancel();
        drop(pass().await.expect_err("cancelled before the yield"));
        count.set(2);
        Err::<(), _>(cancelled)
    });
    l.turn();
    l.turn();
    assert_eq!((passed.get(), task.local().waits_for().len()), (1, 0));
    task.cancel_with("at the yield");
    l.run();
    assert_eq!(passed.get(), 2);
    assert_eq!(message_of(task.result()).as_deref(), Some("at the yield"));
    // Withdrawn: the yield ends as always.
    let mut task = l.spawn(pass());
    l.turn();
    task.cancel();
    task.uncancel();
    l.run();
    task.result().unwrap().unwrap().unwrap();
}

#[test]
fn a_task_that_only_yields_at_foreign_futures_is_dropped() {
    let l = Loop::new();
    let turns = Rc::new(Cell::new(0));
    let count = turns.clone();
    let mut task: Task<()> = l.spawn(async move {
        loop {
            count.set(count.get() + 1);
            foreign_pause().await;
        }
    });
    l.turn();
    task.cancel();
    l.run();
    assert_eq!(turns.get(), 2, "it was polled once more, then dropped");
    assert_eq!(message_of(task.result()), None);
}

#[test]
fn can_03_a_cancelled_inner_task_cancels_the_awaiter() {
    let l = Loop::new();
    let (inner, _leaf) = waiting(&l);
    let id = inner.local();
    let mut outer = l.spawn(async move { inner.await.map(|_| ()) });
    l.run();
    id.cancel_with("third party");
    l.run();
    assert_eq!(outer.cancelling(), 0);
    assert!(outer.cancelled());
    assert_eq!(message_of(outer.result()).as_deref(), Some("third party"));
}

#[test]
fn can_03_cancelling_both_is_fine() {
    let l = Loop::new();
    let (inner, _leaf) = waiting(&l);
    let id = inner.local();
    let mut outer = l.spawn(async move { inner.await.map(|_| ()) });
    l.run();
    id.cancel();
    outer.cancel();
    l.run();
    assert!(outer.cancelled() && id.done());
    assert_eq!(outer.cancelling(), 1);
    assert_eq!(message_of(outer.result()), None);
}

#[test]
fn can_04_catching_and_ignoring() {
    let l = Loop::new();
    let leaf = Leaf::new();
    let far = leaf.clone();
    let mut task = l.spawn(async move {
        assert!(far.wait().await.is_err());
        far.wait().await.unwrap()
    });
    l.run();
    assert!(task.cancel());
    l.run();
    assert!(!task.done(), "it waits again, and is asked no more");
    leaf.set(5);
    l.run();
    assert!(!task.cancelled());
    assert_eq!(task.result().unwrap().unwrap(), 5);
    assert_eq!(task.cancelling(), 1);
}

#[test]
fn can_05_self_cancellation_is_delivered_at_the_next_suspension() {
    let l = Loop::new();
    let ready = Leaf::new();
    ready.set(());
    let mut task = l.spawn(async move {
        assert!(current().unwrap().cancel());
        ready.wait().await.expect("this await does not suspend");
        assert!(pause().await.is_err());
        pause().await.expect("delivered once");
        "cleaned up"
    });
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), "cleaned up");
}

#[test]
fn can_06_cancel_during_the_last_step_wins_over_the_value() {
    let l = Loop::new();
    let dropped = Rc::new(());
    let value = dropped.clone();
    let mut task = l.spawn(async move {
        current().unwrap().cancel_with("at the end");
        value
    });
    l.run();
    assert!(task.cancelled());
    assert_eq!(Rc::strong_count(&dropped), 1, "the value is dropped");
    assert_eq!(message_of(task.result()).as_deref(), Some("at the end"));
}

#[test]
fn can_07_cancelled_while_about_to_await_another_task() {
    let l = Loop::new();
    let (inner, _leaf) = waiting(&l);
    let id = inner.local();
    let mut outer = l.spawn(async move {
        current().unwrap().cancel_with("both");
        inner.await.map(|_| ())
    });
    l.run();
    assert!(id.done());
    assert!(outer.cancelled());
    assert_eq!(message_of(outer.result()).as_deref(), Some("both"));
}

#[test]
fn can_08_cancel_goes_to_the_awaited_task_first() {
    let l = Loop::new();
    let leaf = Leaf::new();
    let far = leaf.clone();
    let inner = l.spawn(async move {
        let cancelled = far.wait().await.unwrap_err();
        assert_eq!(cancelled.message(), Some("pass it on"));
        far.wait().await.unwrap();
        // The inner task refused, and gives a value.
        drop(cancelled);
        9
    });
    let id = inner.local();
    let mut outer = l.spawn(async move {
        let value = inner.await.unwrap();
        pause().await.expect("the request was the inner task's");
        value
    });
    l.run();
    outer.cancel_with("pass it on");
    assert_eq!((outer.cancelling(), id.cancelling()), (1, 1));
    l.run();
    assert!(!outer.done(), "the outer hears when the inner ended");
    outer.cancel();
    assert_eq!((outer.cancelling(), id.cancelling()), (2, 2));
    id.uncancel();
    id.uncancel();
    leaf.set(());
    l.run();
    assert_eq!(outer.result().unwrap().unwrap(), 9);
}

#[test]
fn a_long_chain_and_a_circle_of_joins_are_cancelled() {
    let l = Loop::new();
    let (first, _leaf) = waiting(&l);
    let mut last = l.spawn(async move { first.await.map(|_| ()) });
    for _ in 0..20_000 {
        last = l.spawn(async move { last.await.map(|_| ()) });
    }
    l.run();
    last.cancel_with("all of them");
    l.run();
    assert_eq!(message_of(last.result()).as_deref(), Some("all of them"));
    drop(last);
    assert!(l.tasks.is_empty());

    let handle: Leaf<Task<()>> = Leaf::new();
    let far = handle.clone();
    let first = l.spawn(async move {
        let second = far.wait().await.unwrap();
        let _ = second.await;
    });
    let id = first.local();
    let second = l.spawn(async move {
        let _ = first.await;
    });
    handle.set(second);
    l.run();
    assert!(id.cancel());
    assert_eq!(id.cancelling(), 1);
}

#[test]
fn can_09_cancel_before_the_first_step() {
    let l = Loop::new();
    let held = Rc::new(());
    let body = held.clone();
    let mut task: Task<()> = l.spawn(async move {
        let _body = body;
        unreachable!("the body is never polled");
    });
    task.cancel_with("before");
    assert_eq!(Rc::strong_count(&held), 2, "dropped at its first step");
    l.run();
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(message_of(task.result()).as_deref(), Some("before"));
}

#[test]
fn can_10_messages_reach_the_reader() {
    let l = Loop::new();
    let (mut task, _leaf) = waiting(&l);
    task.cancel_with(String::from("words"));
    l.run();
    assert_eq!(message_of(task.result()).as_deref(), Some("words"));
    let (mut task, _leaf) = waiting(&l);
    task.cancel();
    l.run();
    assert_eq!(message_of(task.result()), None);
}

#[test]
fn can_11_a_cancellation_can_be_found_in_what_it_caused() {
    let l = Loop::new();
    let leaf = Leaf::<()>::new();
    let mut task = l.spawn(async move {
        let inner: io::Error = leaf.wait().await.unwrap_err().into();
        assert_eq!(inner.kind(), io::ErrorKind::Other);
        Err::<(), _>(io::Error::other(inner))
    });
    let id = task.id();
    l.run();
    task.cancel_with("deep");
    l.run();
    assert_eq!(message_of(task.result()).as_deref(), Some("deep"));
    let error = io::Error::other(io::Error::from(Cancelled::with_message("x")));
    assert_eq!(Cancelled::in_error(&error).unwrap().message(), Some("x"));
    assert!(Cancelled::in_error(&io::Error::other("no")).is_none());
    let error = JoinError::from(Cancelled::with_message("joined"));
    assert_eq!(
        Cancelled::in_error(&error).unwrap().message(),
        Some("joined")
    );
    assert_eq!(id.get().to_string(), id.to_string().replace("Task-", ""));
}

#[test]
fn can_12_cancelling_counts_every_request_and_shows() {
    let l = Loop::new();
    let (task, _leaf) = waiting(&l);
    let of = task.as_ref();
    assert_eq!((task.cancelling(), of.state()), (0, TaskState::Pending));
    task.cancel();
    task.cancel();
    assert_eq!((task.cancelling(), of.state()), (2, TaskState::Cancelling));
    assert!(format!("{task:?}").starts_with("<Task cancelling name='Task-"));
    l.run();
    assert_eq!((task.cancelling(), of.state()), (2, TaskState::Done));
}

#[test]
fn can_13_uncancel_and_a_second_cancel() {
    let l = Loop::new();
    let leaf = Leaf::<()>::new();
    let mut task = l.spawn(async move {
        assert!(leaf.wait().await.is_err());
        assert_eq!(current().unwrap().uncancel(), 0);
        assert_eq!(current().unwrap().uncancel(), 0);
        assert!(leaf.wait().await.is_err());
        assert_eq!(current().unwrap().cancelling(), 1);
    });
    l.run();
    task.cancel();
    l.run();
    assert_eq!(task.cancelling(), 0);
    task.cancel();
    l.run();
    task.result().unwrap().unwrap();
    assert_eq!(task.uncancel(), 0);
    assert!(!task.cancelled());
}

#[test]
fn can_15_uncancel_to_zero_withdraws_what_is_undelivered() {
    let l = Loop::new();
    // The result is there, the task not yet woken.
    let (mut task, leaf) = waiting(&l);
    leaf.set(());
    task.cancel();
    assert_eq!(task.uncancel(), 0);
    l.run();
    task.result().unwrap().unwrap().unwrap();
    // Kept, by the running task itself.
    let mut task = l.spawn(async {
        let me = current().unwrap();
        me.cancel();
        me.cancel();
        assert_eq!(me.uncancel(), 1);
        assert_eq!(me.uncancel(), 0);
        pause().await.unwrap();
    });
    l.run();
    task.result().unwrap().unwrap();
    // Before the first step.
    let mut task = l.spawn(async { 1 });
    task.cancel();
    task.uncancel();
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), 1);
    // About to be dropped, at a foreign await.
    let leaf = Leaf::new();
    let far = leaf.clone();
    let mut task = l.spawn(async move { far.foreign().await });
    l.run();
    task.cancel();
    task.uncancel();
    l.run();
    leaf.set(2);
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), 2);
}

#[test]
fn can_17_cancel_wins_over_a_result_that_is_there() {
    let l = Loop::new();
    let (mut task, leaf) = waiting(&l);
    leaf.set(());
    assert!(task.cancel());
    l.run();
    assert_eq!(message_of(task.result()), None);
    assert!(leaf.has_value(), "the result is not lost");
    // The same at a join: of a value and of a panic.
    let inner = l.spawn(async {
        foreign_pause().await;
        1
    });
    let mut outer = l.spawn(inner);
    l.turn();
    l.turn();
    assert!(outer.cancel());
    l.run();
    assert_eq!(message_of(outer.result()), None);
    let inner: Task<()> = l.spawn(async {
        foreign_pause().await;
        panic!("lost in favour of the cancellation")
    });
    let mut outer = l.spawn(inner);
    l.turn();
    l.turn();
    outer.cancel();
    l.run();
    assert_eq!(message_of(outer.result()), None);
    assert_eq!(l.told().len(), 1, "the panic is reported");
}

#[test]
fn can_18_of_two_cancels_the_first_message_is_delivered_once() {
    let l = Loop::new();
    let leaf = Leaf::<()>::new();
    let delivered = Rc::new(Cell::new(0));
    let count = delivered.clone();
    let mut task = l.spawn(async move {
        let cancelled = leaf.wait().await.unwrap_err();
        count.set(count.get() + 1);
        pause().await.unwrap();
        Err::<(), _>(cancelled)
    });
    l.run();
    task.cancel_with("first");
    task.cancel_with("second");
    assert_eq!(task.cancelling(), 2);
    l.run();
    assert_eq!(delivered.get(), 1);
    assert_eq!(message_of(task.result()).as_deref(), Some("first"));
}

#[test]
fn can_19_unprompted_cancellation_and_panics() {
    let l = Loop::new();
    let mut task = l.spawn(async { Err::<(), _>(Cancelled::with_message("own")) });
    l.run();
    assert!(task.cancelled());
    assert_eq!(task.cancelling(), 0);
    assert_eq!(message_of(task.result()).as_deref(), Some("own"));
    // A panic is kept although a request is pending.
    let mut task: Task<()> = l.spawn(async {
        current().unwrap().cancel();
        panic!("stronger");
    });
    l.run();
    assert!(!task.cancelled());
    assert!(task.result().unwrap().unwrap_err().is_panic());
}
