//! Task groups that are cancelled: from outside, from inside, and both.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use ringloop::{
    Cancelled, EventLoopExt, GroupError, JoinError, TimeoutError, sleep, task_group, timeout,
    yield_now,
};
use uring_tests::on_both_drivers;
use uring_tests::tasks::{HOUR, SECOND, me, now, seconds};
use uring_tests::watch::Watch;

use crate::common::{Group, counted, error, fail_after, failures, finish, was_cancelled};

/// Makes a child that, once it is cancelled, goes on for a while and then fails.
fn fail_late(group: &Group, secs: u64, what: &'static str) {
    let child = async move {
        drop(sleep(HOUR).await.unwrap_err());
        sleep(seconds(secs)).await?;
        Err::<(), _>(error(what))
    };
    group.create_task(child).unwrap();
}

on_both_drivers! {
    fn tgr_04_a_cancel_in_the_body_or_at_the_exit_cancels_the_children(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for in_body in [true, false] {
            let count = Rc::new(Cell::new(0));
            let children = [count.clone(), count.clone()];
            let mut task = l
                .create_task(async move {
                    let group = task_group(async move |group: Group| {
                        for child in children {
                            group.create_task(async move { Ok(counted(child).await?) })?;
                        }
                        if in_body {
                            sleep(HOUR).await?;
                        }
                        Ok(())
                    });
                    let ended = group.await;
                    assert!(matches!(ended, Err(GroupError::Cancelled(_))));
                    ended
                })
                .unwrap();
            l.turns(2);
            assert!(task.cancel_with("outside"));
            finish(&l, &task);
            assert_eq!(count.get(), 2, "in the body: {in_body}");
            let Some(Err(JoinError::Cancelled(cancelled))) = task.result() else {
                panic!("the task did not end cancelled");
            };
            assert_eq!(cancelled.message(), Some("outside"));
            assert_eq!(task.cancelling(), 1);
        }
    }

    /// However often it is cancelled, the group waits for its children.
    fn tgr_04_the_children_are_waited_for_however_often_it_is_cancelled(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let task = l
            .create_task(task_group(async |group: Group| {
                group.create_task(async {
                    drop(sleep(HOUR).await.unwrap_err());
                    sleep(seconds(5)).await?;
                    Ok(())
                })?;
                Ok(())
            }))
            .unwrap();
        l.turns(2);
        for _ in 0..3 {
            assert!(task.cancel());
            l.turns(3);
            assert!(!task.done());
        }
        l.seen.advance(5 * SECOND);
        finish(&l, &task);
        assert!(task.cancelled());
        assert_eq!(l.stats().timers, 0);
    }

    /// A cancellation that nobody asked for, and one of a task awaited in the body.
    fn tgr_04_a_body_that_ends_with_a_cancellation_of_its_own(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let count = Rc::new(Cell::new(0));
            let child = count.clone();
            let group = task_group::<(), io::Error, _>(async move |group| {
                group.create_task(async move { Ok(counted(child).await?) })?;
                yield_now().await?;
                Err(Cancelled::with_message("own").into())
            });
            let ended = group.await;
            let Err(GroupError::Cancelled(error)) = &ended else {
                panic!("{ended:?}");
            };
            let own = Cancelled::in_error(error).expect("the error carries it");
            assert_eq!(own.message(), Some("own"));
            assert_eq!(count.get(), 1);
            drop(ended);
            // Of a child that somebody else cancelled.
            let group = task_group::<(), io::Error, _>(async |group| {
                let child = group.create_task(async {
                    sleep(HOUR).await?;
                    Ok(())
                })?;
                child.cancel();
                Ok(child.await?)
            });
            assert!(was_cancelled(group.await));
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn tgr_05_failures_of_children_win_over_the_cancellation(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for in_body in [true, false] {
            let task = l
                .create_task(async move {
                    let group = task_group(async move |group: Group| {
                        fail_late(&group, 1, "child");
                        if in_body {
                            sleep(HOUR).await?;
                        }
                        Ok(())
                    });
                    failures(group.await)
                })
                .unwrap();
            l.turns(2);
            task.cancel();
            l.turns(3);
            l.seen.advance(SECOND);
            let state = task.local();
            let mut task = task;
            finish(&l, &task);
            // It returned without awaiting, and was asked to stop.
            assert!(task.cancelled(), "in the body: {in_body}");
            assert!(state.done());
            drop(task.result());
        }
    }

    /// A guard in the body fails while the group aborts.
    fn tgr_12_a_body_that_fails_during_the_abort_is_grouped_too(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            let group = task_group::<(), io::Error, _>(async |group| {
                fail_after(&group, 1, "child");
                let cancelled = sleep(HOUR).await.unwrap_err();
                drop(cancelled);
                Err(error("guard"))
            });
            assert_eq!(failures(group.await), ["child", "guard"]);
            assert_eq!(me().cancelling(), 0);
            sleep(seconds(1)).await.expect("not cancelled");
        });
    }

    fn tgr_13_the_level_of_cancelling_is_kept(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for fails in [true, false] {
            let task = l
                .create_task(async move {
                    drop(sleep(HOUR).await.unwrap_err());
                    assert_eq!(me().cancelling(), 1);
                    // In a task that was cancelled and cleans up, a group works as ever.
                    let group = task_group(async move |group: Group| {
                        if fails {
                            fail_after(&group, 1, "failed");
                        }
                        sleep(seconds(2)).await?;
                        Ok("done")
                    });
                    let ended = group.await;
                    if fails {
                        assert_eq!(failures(ended), ["failed"]);
                    } else {
                        assert_eq!(ended.unwrap(), "done");
                    }
                    assert_eq!(me().cancelling(), 1);
                    me().uncancel();
                    sleep(seconds(1)).await.expect("not cancelled");
                    now()
                })
                .unwrap();
            l.turn();
            task.cancel();
            l.run(task).unwrap();
        }
    }

    /// What a group asked of its own body does not reach an await after the group.
    fn tgr_13_an_abort_does_not_leak(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            for swallow in [true, false] {
                let group = task_group(async move |group: Group| {
                    fail_after(&group, 1, "failed");
                    let slept = sleep(HOUR).await;
                    if !swallow {
                        slept?;
                    }
                    Ok(())
                });
                assert_eq!(failures(group.await), ["failed"]);
                assert_eq!(me().cancelling(), 0);
                sleep(seconds(1)).await.expect("not cancelled");
            }
            // Asked in the very step in which the body returns by itself.
            let group = task_group(async |group: Group| {
                group.create_task(async { Err::<(), _>(error("failed")) })?;
                yield_now().await?;
                yield_now().await?;
                Ok(())
            });
            assert_eq!(failures(group.await), ["failed"]);
            sleep(seconds(1)).await.expect("not cancelled");
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn tgr_13_a_failure_with_a_cancel_from_outside_leaves_that_pending(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for in_body in [true, false] {
            let task = l
                .create_task(async move {
                    let group = task_group(async move |group: Group| {
                        fail_late(&group, 1, "child");
                        if in_body {
                            sleep(HOUR).await?;
                        }
                        Ok(())
                    });
                    assert_eq!(failures(group.await), ["child"]);
                    assert_eq!(me().cancelling(), 1);
                    let next = sleep(HOUR).await.expect_err("delivered by the next await");
                    assert_eq!(next.message(), Some("outside"));
                    drop(next);
                    sleep(seconds(1)).await.expect("delivered once");
                    assert_eq!(me().uncancel(), 0);
                })
                .unwrap();
            l.turns(2);
            task.cancel_with("outside");
            l.run(task).unwrap();
        }
    }

    /// A failure and a cancel from outside that find the body at the same time.
    fn tgr_13_a_failure_and_a_cancel_at_the_same_time(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        for cancel_first in [true, false] {
            let task = l
                .create_task(async {
                    let group = task_group::<(), io::Error, _>(async |group| {
                        fail_after(&group, 1, "child");
                        sleep(HOUR).await?;
                        Ok(())
                    });
                    assert_eq!(failures(group.await), ["child"]);
                    sleep(HOUR).await
                })
                .unwrap();
            l.turns(2);
            let parent = task.local();
            if cancel_first {
                // In the iteration in which the child wakes: it fails before it hears of it.
                l.call_at(l.time() + SECOND, move || assert!(parent.cancel())).unwrap();
            } else {
                let event_loop = l.event_loop();
                l.call_at(l.time() + SECOND, move || {
                    // Behind the child's end and the group's notice of it.
                    let again = event_loop.clone();
                    event_loop
                        .call_soon(move || {
                            again.call_soon(move || assert!(parent.cancel())).unwrap();
                        })
                        .unwrap();
                })
                .unwrap();
            }
            l.seen.advance(SECOND);
            finish(&l, &task);
            assert!(task.cancelled(), "cancel first: {cancel_first}");
            assert_eq!(task.cancelling(), 1);
        }
    }

    fn tmo_11_a_timeout_around_a_group(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            for in_body in [true, false] {
                let count = Rc::new(Cell::new(0));
                let child = count.clone();
                let group = task_group(async move |group: Group| {
                    group.create_task(async move { Ok(counted(child).await?) })?;
                    if in_body {
                        sleep(HOUR).await?;
                    }
                    Ok(())
                });
                assert_eq!(timeout(seconds(1), group).await.err(), Some(TimeoutError));
                assert_eq!(count.get(), 1);
                assert_eq!(me().cancelling(), 0);
            }
            // With a failure during the abort: that wins, and the timeout has its say later.
            let limited = timeout(seconds(1), async {
                let group = task_group(async |group: Group| {
                    fail_late(&group, 1, "child");
                    Ok(())
                });
                assert_eq!(failures(group.await), ["child"]);
                sleep(HOUR).await
            });
            assert_eq!(limited.await.err(), Some(TimeoutError));
            assert_eq!(now(), 4);
        });
    }

    fn tmo_11_a_timeout_inside_a_group(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        l.run(async {
            // In a child: no failure unless the child makes it one.
            let group = task_group(async |group: Group| {
                group.create_task(async {
                    let expired = timeout(seconds(1), sleep(HOUR)).await;
                    assert_eq!(expired.err(), Some(TimeoutError));
                    Ok(())
                })?;
                group.create_task(async {
                    timeout(seconds(2), sleep(HOUR)).await??;
                    Ok(())
                })?;
                sleep(HOUR).await?;
                Ok(())
            });
            assert_eq!(failures(group.await), ["timed out"]);
            // In the body, around which the group aborts.
            let group = task_group(async |group: Group| {
                fail_after(&group, 1, "child");
                timeout(seconds(9), sleep(HOUR)).await??;
                Ok(())
            });
            assert_eq!(failures(group.await), ["child"]);
            assert_eq!(now(), 3);
        });
    }
}
