//! Workers that share a queue of jobs, and stop one after the other when there are no more.
//!
//!     cargo run --example workers

use ringloop::sync::{Condition, Event, GetError, Lock, LockGuard, Queue, Semaphore};
use ringloop::{Cancelled, create_task, sleep};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// What the workers share. One thread runs them all, so an `Rc` does.
struct Shop {
    /// At most four jobs wait; who brings more waits too.
    jobs: Queue<u64>,
    /// What all jobs need, and there are two of.
    machines: Semaphore,
    /// What came out, and who looks at it while it is being written down.
    ledger: Lock<BTreeMap<u64, u64>>,
    /// How many jobs are done, and who waits for that.
    done: Condition<usize>,
    /// Work may begin.
    open: Event,
}

// ANCHOR: worker
async fn worker(shop: Rc<Shop>) -> Result<(), Cancelled> {
    shop.open.wait().await?;
    loop {
        let job = match shop.jobs.get().await {
            Ok(job) => job,
            Err(GetError::QueueShutDown) => return Ok(()),
            Err(GetError::Cancelled(cancelled)) => return Err(cancelled),
        };
        let result = {
            let _machine = shop.machines.acquire().await?;
            sleep(Duration::from_millis(1)).await?; // It is a slow machine.
            job * job
        }; // The machine is free again.
        shop.ledger.acquire().await?.insert(job, result);
        let mut done = shop.done.acquire().await?;
        *done += 1;
        shop.done.notify_all().expect("the lock is held");
        shop.jobs.task_done().expect("it was got");
    }
}
// ANCHOR_END: worker

async fn work() -> Result<(), io::Error> {
    let shop = Rc::new(Shop {
        jobs: Queue::new(4),
        machines: Semaphore::new(2),
        ledger: Lock::new(BTreeMap::new()),
        done: Condition::new(0),
        open: Event::new(),
    });
    let workers: Vec<_> = (0..3).map(|_| create_task(worker(shop.clone()))).collect();

    // ANCHOR: half
    let watched = shop.clone();
    let half = create_task(async move {
        let mut done = watched.done.acquire().await?;
        watched.done.wait_for(&mut done, |done| *done >= 5).await?;
        println!("half of it is done");
        Ok::<_, Cancelled>(())
    });
    // ANCHOR_END: half

    shop.open.set();
    for job in 1..=10 {
        shop.jobs.put(job).await?; // Waits while four are waiting.
    }
    shop.jobs.join().await?; // All of them are done.
    shop.jobs.shutdown(false); // The workers' next `get` says so.
    for worker in workers {
        worker.await??;
    }
    half.await??;

    let ledger = shop.ledger.acquire().await?;
    assert!(LockGuard::is_held(&ledger));
    println!(
        "{} jobs, {} in all",
        ledger.len(),
        ledger.values().sum::<u64>()
    );
    Ok(())
}

fn main() -> io::Result<()> {
    match ringloop::run(work()) {
        Ok(worked) => worked,
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}
