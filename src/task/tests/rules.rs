//! The rules of `cancel.rs` that have no row in the contract.

use super::can::waiting;
use super::*;
use std::cell::Cell;
use std::future::pending;
use std::io;

#[test]
fn the_output_decides_not_the_delivery() {
    let l = Loop::new();
    // Swallowed: the value stays.
    let (mut task, _leaf) = {
        let leaf = Leaf::<()>::new();
        let far = leaf.clone();
        let task = l.spawn(async move { far.wait().await.is_err() });
        l.run();
        (task, leaf)
    };
    task.cancel();
    l.run();
    assert!(task.result().unwrap().unwrap());
    // Carried in an error of another type.
    let leaf = Leaf::<()>::new();
    let mut task = l.spawn(async move { leaf.wait().await.map_err(io::Error::from) });
    l.run();
    task.cancel_with("carried");
    l.run();
    assert_eq!(message_of(task.result()).as_deref(), Some("carried"));
}

#[test]
fn foreign_awaits_are_dropped_and_join_of_both_hears_first() {
    let l = Loop::new();
    let mut task: Task<()> = l.spawn(pending());
    l.run();
    task.cancel_with("foreign");
    l.run();
    assert_eq!(message_of(task.result()).as_deref(), Some("foreign"));
    // Of both kinds: the first request reaches the ringloop part, the second one drops the body.
    let (own, heard) = (Leaf::<()>::new(), Rc::new(Cell::new(false)));
    let flag = heard.clone();
    let mut task: Task<()> = l.spawn(async move {
        let mut own = Box::pin(async move {
            flag.set(own.wait().await.is_err());
            pending::<()>().await;
        });
        let mut other = Box::pin(pending::<()>());
        poll_fn(|cx| {
            let _ = own.as_mut().poll(cx).is_ready() | other.as_mut().poll(cx).is_ready();
            Poll::<()>::Pending
        })
        .await;
    });
    l.run();
    task.cancel();
    l.run();
    assert!(heard.get() && !task.done());
    task.cancel();
    l.run();
    assert!(task.cancelled());
    assert_eq!(message_of(task.result()), None);
}

#[test]
fn every_pending_wait_of_a_task_hears_once() {
    let l = Loop::new();
    let heard = Rc::new(Cell::new(0));
    let count = heard.clone();
    let mut task = l.spawn(async move {
        let leaves: Vec<Leaf<()>> = (0..5).map(|_| Leaf::new()).collect();
        let mut waits: Vec<_> = leaves.iter().map(|leaf| Box::pin(leaf.wait())).collect();
        poll_fn(|cx| {
            waits.retain_mut(|wait| match wait.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    count.set(count.get() + usize::from(result.is_err()));
                    false
                }
                Poll::Pending => true,
            });
            if waits.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    });
    l.run();
    assert_eq!(task.local().waits_for().len(), 5);
    task.cancel();
    l.run();
    assert_eq!(heard.get(), 5);
    task.result().unwrap().unwrap();
}

#[test]
fn a_mark_that_nobody_read_is_not_lost() {
    let l = Loop::new();
    let never = Leaf::<()>::new();
    let done = Leaf::<()>::new();
    let (far, other) = (never.clone(), done.clone());
    let mut task = l.spawn(async move {
        {
            let mut waits = Box::pin(far.wait());
            let mut other = Box::pin(other.foreign());
            // Looks at the foreign part first, and leaves the marked wait unread.
            poll_fn(|cx| match other.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => waits.as_mut().poll(cx).map(drop),
            })
            .await;
        }
        pause().await
    });
    l.run();
    done.set(());
    task.cancel_with("still there");
    l.run();
    assert_eq!(message_of(task.result()).as_deref(), Some("still there"));
}

#[test]
fn abort_drops_the_body_without_polling() {
    let l = Loop::new();
    let (mut task, leaf) = waiting(&l);
    task.abort();
    l.run();
    assert_eq!(message_of(task.result()), None);
    assert_eq!(task.cancelling(), 0);
    leaf.set(());
    l.run();
    // From inside: at the next step.
    let mut task = l.spawn(async {
        current().unwrap().abort();
        foreign_pause().await;
        unreachable!("not polled again");
        #[allow(unreachable_code)]
        ()
    });
    l.run();
    assert!(message_of(task.result()).is_none());
}

#[test]
fn bare_waits_are_cancelled_by_drop_only() {
    let l = Loop::new();
    let leaf = Leaf::<()>::new();
    let far = leaf.clone();
    let mut task = l.spawn(async move {
        bare(far.wait()).await.unwrap();
        pause().await
    });
    l.run();
    assert!(task.local().waits_for().is_empty());
    task.cancel();
    l.run();
    assert_eq!(message_of(task.result()), None);
    // Kept, and taken by the first wait that is not bare.
    let far = leaf.clone();
    let mut task = l.spawn(async move {
        current().unwrap().cancel_with("kept");
        let mut polled = false;
        let mut wait = Box::pin(bare(far.wait()));
        poll_fn(|cx| {
            assert!(wait.as_mut().poll(cx).is_pending());
            polled = true;
            Poll::Ready(())
        })
        .await;
        assert!(polled);
        pause().await
    });
    l.run();
    assert_eq!(message_of(task.result()).as_deref(), Some("kept"));
}

#[test]
fn a_wait_outside_any_task_registers_nothing() {
    let leaf = Leaf::<()>::new();
    let mut wait = Box::pin(leaf.wait());
    let mut cx = std::task::Context::from_waker(Waker::noop());
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    leaf.set(());
    assert!(wait.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn a_wait_may_outlive_its_task_and_move_to_another() {
    let l = Loop::new();
    let leaf = Leaf::<()>::new();
    let far = leaf.clone();
    let wait = Rc::new(RefCell::new(Box::pin(async move { far.wait().await })));
    let moved = wait.clone();
    drop(l.spawn(poll_fn(move |cx| {
        assert!(moved.borrow_mut().as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })));
    l.run();
    let moved = wait.clone();
    let mut task = l.spawn(poll_fn(move |cx| moved.borrow_mut().as_mut().poll(cx)));
    l.run();
    assert_eq!(task.local().waits_for(), [WaitsFor::Other("leaf")]);
    task.cancel();
    l.run();
    assert_eq!(message_of(task.result()), None);
    drop(wait);
}
