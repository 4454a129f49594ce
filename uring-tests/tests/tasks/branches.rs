//! Branches of one task, made by combinators of another crate: what happens in one of them stays
//! there, and what happens to the task reaches them all.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{join, pin_mut, select};
use ringloop::{
    Cancelled, EventLoopExt, create_task, get_running_loop, sleep, task_group, timeout, yield_now,
};
use uring_tests::lab::lab;
use uring_tests::on_both_drivers;
use uring_tests::tasks::{HOUR, me};

const SOON: Duration = Duration::from_nanos(1);

/// Waits several times and is never cancelled.
async fn undisturbed(mark: &Cell<bool>) -> &'static str {
    for _ in 0..3 {
        sleep(Duration::from_millis(1))
            .await
            .expect("nobody asked this branch to stop");
        yield_now().await.expect("nobody asked this branch to stop");
    }
    let done = get_running_loop().create_future();
    let set = done.clone();
    get_running_loop()
        .call_soon(move || set.set_result(()).unwrap())
        .unwrap();
    done.wait().await.expect("nobody asked this branch to stop");
    mark.set(true);
    "whole"
}

/// Waits until it is cancelled, and cleans up with awaits.
async fn stopped() -> Cancelled {
    let cancelled = sleep(HOUR).await.expect_err("it is told to stop");
    yield_now()
        .await
        .expect("a request is delivered once to each await");
    cancelled
}

on_both_drivers! {
    fn a_timeout_in_one_branch_of_join_leaves_the_others_alone(kind: DriverKind) {
        lab(kind, |_| async move {
            let mark = Cell::new(false);
            let (late, whole, nested) = join!(
                timeout(SOON, stopped()),
                undisturbed(&mark),
                timeout(HOUR, async {
                    // One inside: the outer one and its other awaits do not hear of it.
                    let inner = timeout(SOON, sleep(HOUR)).await;
                    yield_now().await.unwrap();
                    inner.is_err()
                }),
            );
            assert!(late.is_err());
            assert_eq!((whole, nested), ("whole", Ok(true)));
            assert_eq!(me().cancelling(), 0);
            yield_now().await.unwrap();
        });
    }

    fn a_timeout_in_one_branch_of_select_leaves_the_other_alone(kind: DriverKind) {
        lab(kind, |_| async move {
            let mark = Cell::new(false);
            let short = timeout(SOON, stopped()).fuse();
            let long = undisturbed(&mark).fuse();
            pin_mut!(short, long);
            select! {
                late = short => assert!(late.is_err()),
                _ = long => panic!("it takes several milliseconds"),
            }
            assert!(!mark.get());
            // What was not chosen goes on from where it was.
            assert_eq!(long.await, "whole");
        });
    }

    fn timeouts_in_futures_unordered_end_their_own_only(kind: DriverKind) {
        lab(kind, |_| async move {
            let marks: Vec<Cell<bool>> = (0..10).map(|_| Cell::new(false)).collect();
            let mut all: FuturesUnordered<LocalBoxFuture<'_, (usize, bool)>> = marks
                .iter()
                .enumerate()
                .map(|(number, mark)| async move {
                    let limit = if number % 2 == 0 { SOON } else { HOUR };
                    (number, timeout(limit, undisturbed_or_late(mark)).await.is_ok())
                }.boxed_local())
                .collect();
            let mut ended = Vec::new();
            while let Some((number, whole)) = all.next().await {
                assert_eq!(whole, number % 2 == 1);
                ended.push(number);
            }
            assert_eq!(ended.len(), 10);
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn a_group_in_one_branch_leaves_the_others_alone(kind: DriverKind) {
        lab(kind, |_| async move {
            let mark = Cell::new(false);
            let failing = task_group::<(), std::io::Error, _>(async |group| {
                group.create_task(async { Err::<(), _>(std::io::ErrorKind::NotFound.into()) })?;
                sleep(HOUR).await?;
                Ok(())
            });
            let (failed, whole) = join!(failing, undisturbed(&mark));
            assert!(failed.is_err());
            assert_eq!(whole, "whole");
            assert_eq!(me().cancelling(), 0);
        });
    }

    fn a_request_to_the_task_reaches_every_branch(kind: DriverKind) {
        lab(kind, |l| async move {
            let branches = Rc::new(Cell::new(0));
            let heard = branches.clone();
            let task = create_task(async move {
                let branch = || async {
                    let cancelled = stopped().await;
                    assert_eq!(cancelled.message(), Some("all of you"));
                    heard.set(heard.get() + 1);
                };
                let unordered: FuturesUnordered<_> = (0..4).map(|_| branch()).collect();
                let in_timeout = async {
                    // A request from outside is no expiry.
                    assert_eq!(timeout(HOUR, branch()).await, Ok(()));
                };
                join!(branch(), in_timeout, unordered.collect::<Vec<()>>());
                me().uncancel();
                "cleaned up"
            });
            l.turns(2).await;
            task.cancel_with("all of you");
            assert_eq!(task.await.unwrap(), "cleaned up");
            assert_eq!(branches.get(), 6);
        });
    }

    fn a_branch_of_another_crate_is_dropped_by_the_second_request(kind: DriverKind) {
        lab(kind, |l| async move {
            let task = create_task(async {
                let ours = async { drop(sleep(HOUR).await) };
                join!(ours, std::future::pending::<()>());
            });
            l.turns(1).await;
            task.cancel();
            l.turns(2).await;
            assert!(!task.done(), "the first reached the branch that can hear");
            task.cancel();
            l.turns(2).await;
            assert!(task.cancelled());
        });
    }
}

/// As `undisturbed`, but its first wait may end it.
async fn undisturbed_or_late(mark: &Cell<bool>) -> Result<(), Cancelled> {
    sleep(Duration::from_millis(1)).await?;
    undisturbed(mark).await;
    Ok(())
}
