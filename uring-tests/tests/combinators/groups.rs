//! Task groups: children, failures, what is refused.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::rc::Rc;

use futures_util::future::join;
use ringloop::task::{TaskOptions, bare, exit_loop};
use ringloop::{
    Cancelled, ContextVar, EventLoopExt, Failure, GroupError, Refused, copy_context, sleep,
    task_group, timeout, yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::{HOUR, exited, me, now, panic_of, seconds, ticks};
use uring_tests::watch::Watch;

use crate::common::{Group, counted, error, fail_after, failures};

/// A child of `group` that has a child, and so on.
fn recurse(group: Group, depth: u32, ended: Order<u32>) -> Result<(), Refused> {
    let inner = group.clone();
    group.create_task(async move {
        yield_now().await?;
        if depth > 0 {
            recurse(inner, depth - 1, ended.clone())?;
        }
        ended.add(depth);
        Ok(())
    })?;
    Ok(())
}

on_both_drivers! {
    fn tgr_01_children_finish_and_give_their_values(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group(async |group| {
                let one = group.create_task(async {
                    sleep(seconds(1)).await?;
                    Ok(42)
                })?;
                let two = group.create_task(async {
                    sleep(seconds(2)).await?;
                    Ok("eleven")
                })?;
                Ok::<_, Cancelled>((one, two))
            });
            let (mut one, mut two) = group.await.unwrap();
            assert_eq!(now(), 2, "all have ended");
            assert_eq!(one.result().unwrap().unwrap(), 42);
            assert!(one.result().is_none(), "taken");
            assert_eq!(two.result().unwrap().unwrap(), "eleven");
            // Awaited inside, in the group's body.
            let sum = task_group(async |group| {
                let one = group.create_task(async { Ok(1) })?;
                let two = group.create_task(async { Ok(2) })?;
                Ok::<_, Cancelled>(one.await? + two.await?)
            });
            assert_eq!(sum.await.unwrap(), 3);
        });
    }

    fn tgr_01_children_may_be_made_late_and_by_children(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let ended = Order::default();
            let note = ended.clone();
            let group = task_group(async move |group: Group| {
                sleep(seconds(1)).await?;
                // The last ones are made when the body is over.
                recurse(group, 5, note)?;
                Ok(())
            });
            group.await.unwrap();
            assert_eq!(ended.take(), [5, 4, 3, 2, 1, 0]);
        });
    }

    /// A group that serves for long does not grow.
    fn tgr_01_finished_children_are_forgotten(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group(async |group: Group| {
                for _ in 0..10 {
                    group.create_task(async { Ok(()) })?;
                    group.create_task(async { sleep(seconds(1)).await.map_err(io::Error::from) })?;
                    assert!(format!("{group:?}").contains("tasks: 2"), "{group:?}");
                    sleep(seconds(2)).await?;
                    assert!(format!("{group:?}").contains("tasks: 0"), "{group:?}");
                }
                Ok(())
            });
            group.await.unwrap();
        });
    }

    fn tgr_02_a_cancelled_child_is_no_failure(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group(async |group: Group| {
                let slow = group.create_task(async {
                    sleep(HOUR).await?;
                    Ok(())
                })?;
                let quick = group.create_task(async {
                    sleep(seconds(1)).await?;
                    Ok(7)
                })?;
                yield_now().await?;
                assert!(slow.cancel_with("enough"));
                // A child that was not even begun.
                assert!(group.create_task(async { Ok(()) })?.cancel());
                Ok((slow, quick))
            });
            let (mut slow, mut quick) = group.await.unwrap();
            assert!(slow.cancelled());
            assert_eq!(slow.result().unwrap().unwrap_err().message(), Some("enough"));
            assert_eq!(quick.result().unwrap().unwrap(), 7);
            assert_eq!(now(), 1);
        });
    }

    fn tgr_03_the_first_failure_cancels_siblings_and_the_body(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let count = Rc::new(Cell::new(0));
            let (sibling, body) = (count.clone(), count.clone());
            let group = task_group(async move |group: Group| {
                group.create_task(async move { Ok(counted(sibling).await?) })?;
                fail_after(&group, 1, "first");
                fail_after(&group, 1, "second");
                fail_after(&group, 2, "too late to fail");
                counted(body).await?;
                unreachable!("the body was cancelled");
                #[allow(unreachable_code)]
                Ok(())
            });
            assert_eq!(failures(group.await), ["first", "second"]);
            assert_eq!(count.get(), 2, "sibling and body");
            assert_eq!(now(), 1);
            assert_eq!(me().cancelling(), 0);
            sleep(seconds(1)).await.expect("nothing is left of it");
        });
    }

    fn tgr_03_a_panic_is_a_failure(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group(async |group: Group| {
                group.create_task::<(), _>(async { panic!("a child") })?;
                sleep(HOUR).await?;
                Ok(())
            });
            assert_eq!(failures(group.await), ["panicked: a child"]);
            let group = task_group::<(), io::Error, _>(async |group| {
                group.create_task(async { Err::<(), _>(error("an error")) })?;
                yield_now().await?;
                panic!("the body")
            });
            assert_eq!(failures(group.await), ["an error", "panicked: the body"]);
            // Whoever wants to unwinds on.
            let group = task_group::<(), io::Error, _>(async |_| panic!("on"));
            let Err(GroupError::Failed(group)) = group.await else {
                panic!("it did not fail");
            };
            let Some(Failure::Panicked(panic)) = group.into_iter().next() else {
                panic!("it did not panic");
            };
            let payload = panic.into_payload();
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"on"));
        });
    }

    /// A group in one branch of a join stops that branch alone.
    fn tgr_03_a_group_in_a_branch_leaves_the_others_alone(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group(async |group: Group| {
                fail_after(&group, 1, "failed");
                sleep(HOUR).await?;
                Ok(())
            });
            let (group, other) = join(group, sleep(seconds(5))).await;
            assert_eq!(failures(group), ["failed"]);
            other.expect("not cancelled");
            assert_eq!(now(), 5);
        });
    }

    /// A body that waits for nothing that could be told is dropped.
    fn tgr_03_a_body_at_foreign_futures_is_dropped(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            for inert in [false, true] {
                let order = Order::default();
                let held = Dropped(order.clone(), "dropped");
                let group = task_group::<(), _, _>(async move |group: Group| {
                    let _held = held;
                    fail_after(&group, 1, "failed");
                    pending().await
                });
                // Inside `.bare()` nothing can be told either.
                let ended = if inert { bare(group).await } else { group.await };
                assert_eq!(failures(ended), ["failed"]);
                assert_eq!(order.take(), ["dropped"]);
            }
            assert_eq!(now(), 2);
        });
    }

    fn tgr_05_failures_during_the_abort_are_collected(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group(async |group: Group| {
                group.create_task(async {
                    drop(sleep(HOUR).await.unwrap_err());
                    sleep(seconds(3)).await?;
                    Err::<(), _>(error("clean-up"))
                })?;
                fail_after(&group, 1, "first");
                Ok(())
            });
            assert_eq!(failures(group.await), ["first", "clean-up"]);
            assert_eq!(now(), 4, "the clean-up was waited for");
        });
    }

    fn tgr_06_a_failing_body_cancels_children_and_is_grouped(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let count = Rc::new(Cell::new(0));
            let child = count.clone();
            let group = task_group::<(), io::Error, _>(async move |group| {
                group.create_task(async move { Ok(counted(child).await?) })?;
                yield_now().await?;
                Err(error("body"))
            });
            assert_eq!(failures(group.await), ["body"]);
            assert_eq!(count.get(), 1);
            // The body's failure comes last, whenever it happened.
            let group = task_group::<(), io::Error, _>(async |group| {
                group.create_task(async {
                    drop(sleep(HOUR).await.unwrap_err());
                    Err::<(), _>(error("child"))
                })?;
                yield_now().await?;
                Err(error("body"))
            });
            assert_eq!(failures(group.await), ["child", "body"]);
            assert_eq!(now(), 0);
        });
    }

    fn tgr_07_a_failure_goes_inwards_and_outwards(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            // Outwards: the inner group is one failure of the outer one.
            let count = Rc::new(Cell::new(0));
            let sibling = count.clone();
            let outer = task_group(async move |outer: Group| {
                outer.create_task(async move { Ok(counted(sibling).await?) })?;
                task_group(async |inner: Group| {
                    fail_after(&inner, 1, "one");
                    fail_after(&inner, 1, "two");
                    sleep(HOUR).await?;
                    Ok(())
                })
                .await?;
                unreachable!("the inner group failed");
                #[allow(unreachable_code)]
                Ok(())
            });
            let nested = "unhandled errors in a TaskGroup (2 sub-exceptions): one; two";
            assert_eq!(failures(outer.await), [nested]);
            assert_eq!(count.get(), 1);
            // Inwards: the outer one's failure cancels the inner body and the inner children.
            let count = Rc::new(Cell::new(0));
            let (child, body) = (count.clone(), count.clone());
            let outer = task_group(async move |outer: Group| {
                fail_after(&outer, 1, "outer");
                task_group(async move |inner: Group| {
                    inner.create_task(async move { Ok(counted(child).await?) })?;
                    counted(body).await?;
                    Ok(())
                })
                .await?;
                Ok(())
            });
            assert_eq!(failures(outer.await), ["outer"]);
            assert_eq!(count.get(), 2);
            // While the inner one waits for its children.
            let count = Rc::new(Cell::new(0));
            let child = count.clone();
            let outer = task_group(async move |outer: Group| {
                fail_after(&outer, 1, "outer");
                task_group(async move |inner: Group| {
                    inner.create_task(async move { Ok(counted(child).await?) })?;
                    Ok(())
                })
                .await?;
                Ok(())
            });
            assert_eq!(failures(outer.await), ["outer"]);
            assert_eq!(count.get(), 1);
            assert_eq!(now(), 3);
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn tgr_07_both_groups_fail(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let outer = task_group(async |outer: Group| {
                fail_after(&outer, 1, "outer");
                task_group(async |inner: Group| {
                    inner.create_task(async {
                        drop(sleep(HOUR).await.unwrap_err());
                        Err::<(), _>(error("inner"))
                    })?;
                    Ok(())
                })
                .await?;
                Ok(())
            });
            let nested = "unhandled errors in a TaskGroup (1 sub-exception): inner";
            assert_eq!(failures(outer.await), ["outer", nested]);
            // The outer one's request is not lost with the failure it gave way to.
            let outer = task_group(async |outer: Group| {
                fail_after(&outer, 1, "outer");
                let inner = task_group(async |inner: Group| {
                    inner.create_task(async {
                        drop(sleep(HOUR).await.unwrap_err());
                        Err::<(), _>(error("inner"))
                    })?;
                    Ok(())
                });
                assert_eq!(failures(inner.await), ["inner"]);
                sleep(HOUR).await?;
                unreachable!("delivered by the next await");
                #[allow(unreachable_code)]
                Ok(())
            });
            assert_eq!(failures(outer.await), ["outer"]);
            assert_eq!(now(), 2);
        });
    }

    fn tgr_08_a_loop_exit_comes_out_bare(kind: DriverKind) {
        for from_child in [true, false] {
            let l = Watch::by_hand(kind);
            let count = Rc::new(Cell::new(0));
            let sibling = count.clone();
            let task = l
                .create_task(task_group::<(), io::Error, _>(async move |group| {
                    group.create_task(async move { Ok(counted(sibling).await?) })?;
                    yield_now().await?;
                    if from_child {
                        group.create_task::<(), _>(async { exit_loop("bare") })?;
                        sleep(HOUR).await?;
                    }
                    exit_loop("bare")
                }))
                .unwrap();
            assert_eq!(exited::<&str, _>(|| l.run_forever()), "bare");
            if from_child {
                // Run on, the group ends its other children and leaves the loop once more.
                exited::<(), _>(|| l.run_forever());
            }
            assert_eq!(count.get(), 1, "the sibling was cancelled");
            assert!(task.done());
        }
    }

    fn tgr_09_names_of_children(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group(async |group: Group| {
                let options = TaskOptions::named("yolo");
                let named = group.create_task_with(async { Ok(()) }, options)?;
                assert_eq!(named.get_name(), "yolo");
                let unnamed = group.create_task(async { Ok(()) })?;
                assert!(unnamed.get_name().starts_with("Task-"));
                Ok(())
            });
            group.await.unwrap();
        });
    }

    fn tgr_09_contexts_of_children(kind: DriverKind) {
        static VAR: ContextVar<i32> = ContextVar::new("var");
        let l = Watch::by_hand(kind);
        l.run(async {
            VAR.set(1);
            let context = copy_context();
            let group = task_group(async |group: Group| {
                VAR.set(2);
                let inherits = group.create_task(async {
                    let seen = VAR.get();
                    VAR.set(3);
                    Ok(seen)
                })?;
                assert_eq!(inherits.await?, Some(2));
                assert_eq!(VAR.get(), Some(2), "the child's change is its own");
                let options = TaskOptions::default().context(context.clone());
                let given = group.create_task_with(
                    async {
                        let seen = VAR.get();
                        VAR.set(4);
                        Ok(seen)
                    },
                    options,
                )?;
                assert_eq!(given.await?, Some(1));
                Ok(())
            });
            group.await.unwrap();
            assert_eq!(context.run(|| VAR.get()), Some(4));
        });
    }

    fn tgr_10_no_child_after_a_failure_or_the_end(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let order = Order::default();
            let late = |group: &Group| {
                let held = Dropped(order.clone(), "dropped");
                let refused = group.create_task(async move {
                    let _held = held;
                    Ok(())
                });
                assert_eq!(order.take(), ["dropped"]);
                refused.err()
            };
            let kept = task_group(async |group: Group| Ok(group)).await.unwrap();
            assert_eq!(late(&kept), Some(Refused::Finished));
            let group = task_group(async |group: Group| {
                fail_after(&group, 1, "failed");
                drop(sleep(HOUR).await.unwrap_err());
                // The body goes on, but cannot make children.
                assert_eq!(late(&group), Some(Refused::ShuttingDown));
                sleep(seconds(1)).await?;
                assert_eq!(late(&group), Some(Refused::ShuttingDown));
                Ok("went on")
            });
            assert_eq!(failures(group.await), ["failed"]);
            assert_eq!(now(), 2);
            // Refused is an error that ends a body, whatever errors it knows.
            let group = task_group(async |group: Group| {
                fail_after(&group, 0, "failed");
                drop(sleep(HOUR).await.unwrap_err());
                group.create_task(async { Ok(()) })?;
                Ok(())
            });
            assert_eq!(failures(group.await), ["failed", "TaskGroup is shutting down"]);
        });
    }

    fn tgr_11_outside_a_task_it_is_an_error(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let told = Order::default();
        let note = told.clone();
        l.call_soon(move || {
            let mut group = Box::pin(task_group(async |_: Group| Ok(())));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            note.add(panic_of(move || drop(group.as_mut().poll(&mut cx))));
        })
        .unwrap();
        l.turn();
        assert_eq!(told.take(), ["TaskGroup cannot determine the parent task"]);
    }

    fn tgr_14_a_child_made_while_a_sibling_fails_is_cancelled(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let ran = Rc::new(Cell::new(false));
            let second = ran.clone();
            let group = task_group(async move |group: Group| {
                let inner = group.clone();
                group.create_task(async move {
                    inner.create_task(async { Err::<(), _>(error("third")) })?;
                    let mut cancelled = false;
                    for _ in 0..2 {
                        cancelled |= yield_now().await.is_err();
                    }
                    second.set(cancelled);
                    Ok(())
                })?;
                Ok(())
            });
            assert_eq!(failures(group.await), ["third"]);
            assert!(ran.get());
        });
    }

    /// As many iterations as in asyncio.
    fn tgr_01_an_immediate_child_costs_three_iterations(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let core = l.core().clone();
        l.run(async move {
            let empty = task_group(async |_: Group| Ok(()));
            assert_eq!(ticks(&core, empty).await, 0);
            let one = task_group(async |group: Group| {
                group.create_task(async { Ok(()) })?;
                Ok(())
            });
            assert_eq!(ticks(&core, one).await, 3);
            let many = task_group(async |group: Group| {
                for _ in 0..10 {
                    group.create_task(async { Ok(()) })?;
                }
                Ok(())
            });
            assert_eq!(ticks(&core, many).await, 3);
        });
    }

    /// The children of a group that was dropped clean up alone; what fails then is reported.
    fn tgr_03_a_dropped_group_cancels_its_children(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let count = Rc::new(Cell::new(0));
        let child = count.clone();
        l.run(async move {
            let group = task_group(async move |group: Group| {
                group.create_task(async move { Ok(counted(child).await?) })?;
                group.create_task(async move {
                    drop(sleep(HOUR).await.unwrap_err());
                    Err::<(), _>(error("nobody waits"))
                })?;
                // Dropped here, by a body that is dropped.
                pending::<()>().await;
                Ok(())
            });
            assert!(timeout(seconds(1), bare(group)).await.is_err());
            sleep(seconds(1)).await.unwrap();
        });
        assert_eq!(count.get(), 1);
        let messages = l.messages();
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("has errored out but its parent task"), "{messages:?}");
    }
}
