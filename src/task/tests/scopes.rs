//! Cancel scopes, through a timeout without a clock.

use super::*;
use std::cell::Cell;
use std::future::pending;
use std::pin::Pin;

/// What `timeout` will be: its timer is `expire`.
struct Timeout<F> {
    scope: Scope,
    body: Option<Pin<Box<F>>>,
}

#[derive(Debug, PartialEq)]
struct Elapsed;

impl<F: Future> Timeout<F> {
    fn new(body: F, canceller: &RefCell<Option<Canceller>>) -> Self {
        let scope = Scope::open();
        *canceller.borrow_mut() = Some(scope.canceller());
        Self {
            scope,
            body: Some(Box::pin(body)),
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.scope.must_drop() {
            let polled = {
                let _inside = this.scope.enter(cx);
                this.body.as_mut().unwrap().as_mut().poll(cx)
            };
            if let Poll::Ready(output) = polled {
                if this.scope.cancelled_inside() {
                    return Poll::Ready(Err(Elapsed));
                }
                return Poll::Ready(Ok(output));
            }
        }
        if this.scope.must_drop() {
            this.body = None;
            return Poll::Ready(Err(Elapsed));
        }
        Poll::Pending
    }
}

type Expiry = Rc<RefCell<Option<Canceller>>>;

fn expire(expiry: &Expiry) {
    let canceller = expiry.borrow().clone().unwrap();
    canceller.cancel(None);
}

#[test]
fn an_expiry_ends_the_body_and_only_it() {
    let l = Loop::new();
    let (expiry, inner, outer) = (Expiry::default(), Leaf::<()>::new(), Leaf::<()>::new());
    let (place, near, far) = (expiry.clone(), inner.clone(), outer.clone());
    let mut task = l.spawn(async move {
        let result = Timeout::new(async move { near.wait().await }, &place).await;
        assert_eq!(result.map(|_| ()), Err(Elapsed));
        far.wait().await
    });
    l.run();
    expire(&expiry);
    l.run();
    assert_eq!(task.cancelling(), 0);
    assert!(!task.done());
    expire(&expiry);
    l.run();
    assert!(!task.done(), "the scope is closed");
    outer.set(());
    l.run();
    task.result().unwrap().unwrap().unwrap();
}

#[test]
fn a_sibling_branch_is_not_cancelled() {
    let l = Loop::new();
    let (expiry, other) = (Expiry::default(), Leaf::<()>::new());
    let (place, far) = (expiry.clone(), other.clone());
    let mut task = l.spawn(async move {
        let mut limited = Box::pin(Timeout::new(
            async { Leaf::<()>::new().wait().await },
            &place,
        ));
        let mut free = Box::pin(async move { far.wait().await });
        let mut results = (None, None);
        poll_fn(|cx| {
            if results.0.is_none()
                && let Poll::Ready(result) = limited.as_mut().poll(cx)
            {
                results.0 = Some(result.map(|_| ()));
            }
            if results.1.is_none()
                && let Poll::Ready(result) = free.as_mut().poll(cx)
            {
                results.1 = Some(result.is_ok());
            }
            match results {
                (Some(_), Some(_)) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
        results
    });
    l.run();
    assert_eq!(task.local().waits_for().len(), 2);
    expire(&expiry);
    l.run();
    assert_eq!(task.local().waits_for().len(), 1);
    other.set(());
    l.run();
    assert_eq!(
        task.result().unwrap().unwrap(),
        (Some(Err(Elapsed)), Some(true))
    );
}

#[test]
fn a_cancel_of_the_task_passes_through_and_wins_over_an_expiry() {
    for expire_first in [true, false] {
        let l = Loop::new();
        let expiry = Expiry::default();
        let place = expiry.clone();
        let mut task = l.spawn(async move {
            let inner = Leaf::<()>::new();
            let result = Timeout::new(async { inner.wait().await }, &place).await;
            result.expect("the request was the task's, not the timeout's")
        });
        l.run();
        if expire_first {
            expire(&expiry);
        }
        task.cancel_with("outside");
        if !expire_first {
            expire(&expiry);
        }
        l.run();
        assert_eq!(message_of(task.result()).as_deref(), Some("outside"));
    }
}

#[test]
fn an_expiry_under_a_withdrawn_cancel_is_not_lost() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let place = expiry.clone();
    let mut task = l.spawn(async move {
        let inner = Leaf::<()>::new();
        Timeout::new(async { inner.wait().await }, &place)
            .await
            .map(drop)
    });
    l.run();
    expire(&expiry);
    task.cancel();
    task.uncancel();
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
}

#[test]
fn nested_scopes_convert_only_their_own() {
    for outer_expires in [true, false] {
        let l = Loop::new();
        let (inner, outer) = (Expiry::default(), Expiry::default());
        let (near, far) = (inner.clone(), outer.clone());
        let mut task = l.spawn(async move {
            let body = async {
                let leaf = Leaf::<()>::new();
                Timeout::new(async { leaf.wait().await }, &near)
                    .await
                    .map(|result| result.is_err())
            };
            Timeout::new(body, &far).await
        });
        l.run();
        expire(if outer_expires { &outer } else { &inner });
        l.run();
        let result = task.result().unwrap().unwrap();
        if outer_expires {
            // The inner one let the outer's cancellation pass; its body swallowed it.
            assert_eq!(result, Ok(Ok(true)));
        } else {
            assert_eq!(result, Ok(Err(Elapsed)));
        }
    }
}

#[test]
fn both_expired_the_outer_one_takes_it() {
    let l = Loop::new();
    let (inner, outer) = (Expiry::default(), Expiry::default());
    let (near, far) = (inner.clone(), outer.clone());
    let mut task = l.spawn(async move {
        let body = async {
            let leaf = Leaf::<()>::new();
            Timeout::new(async { leaf.wait().await }, &near).await
        };
        Timeout::new(body, &far).await.map(drop)
    });
    l.run();
    expire(&inner);
    expire(&outer);
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
}

#[test]
fn a_body_of_foreign_awaits_is_dropped_by_its_combinator() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let (place, held) = (expiry.clone(), Rc::new(()));
    let body = held.clone();
    let mut task = l.spawn(async move {
        let result = Timeout::new(
            async move {
                let _body = body;
                pending::<()>().await;
            },
            &place,
        )
        .await;
        pause().await.expect("only the scope was cancelled");
        result
    });
    l.run();
    expire(&expiry);
    assert_eq!(Rc::strong_count(&held), 2);
    l.run();
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
}

#[test]
fn an_expiry_of_a_body_that_was_just_woken_is_kept_for_its_next_await() {
    let l = Loop::new();
    let (expiry, leaf) = (Expiry::default(), Leaf::<u8>::new());
    let (place, far) = (expiry.clone(), leaf.clone());
    let reached = Rc::new(Cell::new(0));
    let value = reached.clone();
    let mut task = l.spawn(async move {
        let body = async {
            value.set(far.foreign().await);
            pause().await
        };
        Timeout::new(body, &place).await.map(drop)
    });
    l.run();
    {
        let _entered = l.tasks.enter().unwrap();
        leaf.set(7);
        expire(&expiry);
    }
    l.run();
    assert_eq!(reached.get(), 7);
    assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
}

#[test]
fn a_body_without_awaits_overruns_and_finishes() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let place = expiry.clone();
    let mut task = l.spawn(async move {
        let expiry = place.clone();
        let result = Timeout::new(
            async move {
                expire(&expiry);
                "done"
            },
            &place,
        )
        .await;
        pause().await.expect("the scope's request went with it");
        result
    });
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), Ok("done"));
}

#[test]
fn a_body_that_cancels_its_own_scope_hears_at_its_next_await() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let place = expiry.clone();
    let mut task = l.spawn(async move {
        let expiry = place.clone();
        Timeout::new(
            async move {
                expire(&expiry);
                pause().await
            },
            &place,
        )
        .await
        .map(drop)
    });
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
}

#[test]
fn a_swallowed_expiry_is_no_error() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let place = expiry.clone();
    let mut task = l.spawn(async move {
        let body = async {
            let leaf = Leaf::<()>::new();
            let swallowed = leaf.wait().await.is_err();
            pause().await.expect("delivered once");
            swallowed
        };
        Timeout::new(body, &place).await
    });
    l.run();
    expire(&expiry);
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), Ok(true));
}

#[test]
fn a_value_that_escapes_its_scope_counts_for_the_task() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let place = expiry.clone();
    let mut task = l.spawn(async move {
        let kept = RefCell::new(None);
        let body = async {
            let leaf = Leaf::<()>::new();
            *kept.borrow_mut() = leaf.wait().await.err();
        };
        let result = Timeout::new(body, &place).await;
        assert_eq!(result, Err(Elapsed), "it is alive");
        Err::<(), _>(kept.take().unwrap())
    });
    l.run();
    expire(&expiry);
    l.run();
    assert!(task.cancelled());
    assert_eq!(message_of(task.result()), None);
}

#[test]
fn a_join_inside_a_scope_forwards_its_expiry() {
    let l = Loop::new();
    let (expiry, leaf) = (Expiry::default(), Leaf::<()>::new());
    let (place, far) = (expiry.clone(), leaf.clone());
    let inner = l.spawn(async move { far.wait().await });
    let id = inner.local();
    let mut task = l.spawn(async move { Timeout::new(inner, &place).await.map(drop) });
    l.run();
    expire(&expiry);
    assert_eq!(id.cancelling(), 1);
    l.run();
    assert!(id.done());
    assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
    assert_eq!(task.cancelling(), 0);
}

#[test]
fn a_combinator_polled_by_its_own_waker_is_woken() {
    // As FuturesUnordered: the child is polled only when its own waker fired.
    struct Flag(std::sync::atomic::AtomicBool, Waker);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
            self.1.wake_by_ref();
        }
    }
    for foreign in [true, false] {
        let l = Loop::new();
        let expiry = Expiry::default();
        let place = expiry.clone();
        let mut task = l.spawn(async move {
            let mut child = Box::pin(Timeout::new(
                async move {
                    let leaf = Leaf::<()>::new();
                    if foreign {
                        leaf.foreign().await;
                    }
                    leaf.wait().await
                },
                &place,
            ));
            let mut flag: Option<Arc<Flag>> = None;
            poll_fn(|cx| {
                let new = Arc::new(Flag(true.into(), cx.waker().clone()));
                let flag = flag.get_or_insert(new);
                if !flag.0.swap(false, Ordering::SeqCst) {
                    return Poll::Pending;
                }
                let waker = Waker::from(flag.clone());
                child
                    .as_mut()
                    .poll(&mut std::task::Context::from_waker(&waker))
            })
            .await
            .map(drop)
        });
        l.run();
        expire(&expiry);
        l.run();
        assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
    }
}

#[test]
fn scopes_are_used_again_and_closed_out_of_order() {
    let l = Loop::new();
    let leaf = Leaf::<()>::new();
    let far = leaf.clone();
    let mut task = l.spawn(async move {
        for _ in 0..100 {
            drop(Scope::open());
        }
        let outer = Scope::open();
        let (inner, mut wait) = poll_fn(|cx| {
            let _in_outer = outer.enter(cx);
            let inner = Scope::open();
            let mut wait = Box::pin(far.wait());
            {
                let _in_inner = inner.enter(cx);
                assert!(wait.as_mut().poll(cx).is_pending());
            }
            Poll::Ready((inner, wait))
        })
        .await;
        let canceller = inner.canceller();
        drop(outer);
        canceller.cancel(Some("inner".into()));
        drop(inner);
        canceller.cancel(Some("closed".into()));
        poll_fn(|cx| wait.as_mut().poll(cx)).await
    });
    l.run();
    assert!(!task.done(), "the scope's mark went with it");
    leaf.set(());
    l.run();
    task.result().unwrap().unwrap().unwrap();
}

#[test]
fn a_scope_outside_any_task_does_nothing() {
    let scope = Scope::open();
    let cx = std::task::Context::from_waker(Waker::noop());
    drop(scope.enter(&cx));
    scope.cancel(None);
    assert!(!scope.must_drop() && !scope.cancelled_inside());
}

type Limited = Pin<Box<dyn Future<Output = Result<(), Elapsed>>>>;

#[test]
fn a_scope_may_outlive_its_task_and_move_to_another() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let shared: Rc<RefCell<Option<Limited>>> = Rc::default();
    let (place, moved) = (expiry.clone(), shared.clone());
    drop(l.spawn(poll_fn(move |cx| {
        let place = place.clone();
        let mut limited: Limited = Box::pin(async move {
            Timeout::new(async { Leaf::<()>::new().wait().await }, &place)
                .await
                .map(drop)
        });
        assert!(limited.as_mut().poll(cx).is_pending());
        *moved.borrow_mut() = Some(limited);
        Poll::Ready(())
    })));
    l.run();
    expire(&expiry);
    let moved = shared.take().unwrap();
    let mut task = l.spawn(moved);
    l.run();
    assert!(!task.done());
    expire(&expiry);
    l.run();
    assert_eq!(task.result().unwrap().unwrap(), Err(Elapsed));
}

#[test]
fn a_request_kept_for_a_scope_dies_with_its_task() {
    // Of one type, so that the second task gets the slot of the first.
    type Body = Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>;
    let l = Loop::new();
    let held: Rc<RefCell<Vec<Scope>>> = Rc::default();
    let keep = held.clone();
    let first: Body = Box::pin(async move {
        let scope = Scope::open();
        let canceller = scope.canceller();
        poll_fn(|cx| {
            let _inside = scope.enter(cx);
            canceller.cancel(None);
            // No await suspends in there, so nobody takes the request.
            Poll::Ready(())
        })
        .await;
        keep.borrow_mut().push(scope);
        Ok(())
    });
    let first = l.spawn(first);
    let slot = first.as_ref().index_in(&l.tasks.shared);
    l.run();
    drop(first);
    // The next task in the same slot was asked nothing.
    let second: Body = Box::pin(async { pause().await });
    let mut second = l.spawn(second);
    assert_eq!(second.as_ref().index_in(&l.tasks.shared), slot);
    l.run();
    second.result().unwrap().unwrap().unwrap();
    held.borrow_mut().clear();
}

#[test]
fn an_expiry_moves_with_its_combinator() {
    let l = Loop::new();
    let expiry = Expiry::default();
    let shared: Rc<RefCell<Option<Limited>>> = Rc::default();
    let (place, moved) = (expiry.clone(), shared.clone());
    let first = l.spawn(poll_fn(move |cx| {
        let place = place.clone();
        let mut limited: Limited = Box::pin(async move {
            Timeout::new(async { Leaf::<()>::new().wait().await }, &place)
                .await
                .map(drop)
        });
        assert!(limited.as_mut().poll(cx).is_pending());
        *moved.borrow_mut() = Some(limited);
        Poll::<()>::Pending
    }));
    l.run();
    expire(&expiry);
    let mut second = l.spawn(shared.take().unwrap());
    // Not polled where it was asked; it goes with the combinator.
    first.abort();
    l.run();
    assert_eq!(second.result().unwrap().unwrap(), Err(Elapsed));
}
