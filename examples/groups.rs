//! A page is put together from three services, or not at all.
//!
//!     cargo run --example groups

use ringloop::{
    Cancelled, Deadline, Failure, GroupError, ReturnWhen, as_completed, create_task,
    get_running_loop, sleep, staggered_race, task_group, timeout, wait,
};
use std::io;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asks a service.
async fn fetch(service: &'static str) -> io::Result<String> {
    match service {
        "broken" => Err(io::Error::other("broken: no such thing")),
        "stuck" => {
            let slept = sleep(HOUR).await;
            println!("  stuck: stopped");
            slept?;
            Ok(String::new())
        }
        _ => {
            sleep(millis(1)).await?;
            Ok(service.to_uppercase())
        }
    }
}

// ANCHOR: group
/// All three, side by side. The first failure stops the others.
async fn page(services: [&'static str; 3]) -> Result<String, GroupError<io::Error>> {
    task_group(async |group| {
        let mut parts = Vec::new();
        for service in services {
            parts.push(group.create_task(fetch(service))?);
        }
        let mut page = String::new();
        for part in parts {
            page += &part.await?;
        }
        Ok(page)
    })
    .await
}
// ANCHOR_END: group

// ANCHOR: nested
/// A page with a side bar, which is a group of its own. Whatever fails anywhere, everything ends.
async fn whole() -> Result<String, GroupError<io::Error>> {
    task_group(async |group| {
        let main = group.create_task(fetch("main"))?;
        let side = page(["news", "broken", "stuck"]).await?;
        Ok(main.await? + &side)
    })
    .await
}
// ANCHOR_END: nested

async fn run() -> io::Result<()> {
    println!("{}", page(["head", "body", "foot"]).await?);

    // ANCHOR: failed
    match page(["head", "broken", "stuck"]).await {
        Ok(page) => println!("{page}"),
        Err(GroupError::Cancelled(error)) => return Err(error), // Somebody stopped us.
        Err(GroupError::Failed(group)) => {
            for failure in group {
                match failure {
                    Failure::Error(error) => println!("failed: {error}"),
                    other => println!("a bug: {other}"),
                }
            }
        }
    }
    // ANCHOR_END: failed
    if let Err(error) = whole().await {
        println!("failed: {error}");
    }

    // ANCHOR: timeout
    let late = timeout(millis(5), page(["head", "stuck", "foot"])).await;
    println!("in time: {}", late.is_ok());
    // ANCHOR_END: timeout

    // ANCHOR: deadline
    // More time as long as there is progress.
    let deadline = Deadline::after(HOUR);
    let pieces = deadline.run(async {
        for _ in 0..3 {
            sleep(millis(1)).await?;
            let next = get_running_loop().time() + 3_600_000_000_000;
            deadline.reschedule(Some(next)).map_err(io::Error::other)?;
        }
        Ok::<_, io::Error>(3)
    });
    println!("pieces: {}", pieces.await??);
    // ANCHOR_END: deadline

    // ANCHOR: race
    // The first mirror that answers; the next is asked when one fails, or takes too long.
    let mirrors = ["broken", "stuck", "mirror"].map(|mirror| move || fetch(mirror));
    let race = staggered_race(mirrors, Some(millis(5))).await?;
    if let Some((answer, at)) = race.winner {
        println!("{answer} was number {at}");
    }
    // ANCHOR_END: race

    // ANCHOR: several
    let nap = |time: u64| {
        create_task(async move {
            sleep(millis(time)).await?;
            Ok::<_, Cancelled>(time)
        })
    };
    let mut order = Vec::new();
    for next in as_completed([400, 1, 200].map(nap), None) {
        order.push(next.await.map_err(io::Error::other)??);
    }
    println!("in the order of their ends: {order:?}");

    let mut tasks = vec![nap(3_600_000), nap(1)];
    let done = wait(&mut tasks, None, ReturnWhen::FirstCompleted).await?;
    println!("done: {}, not yet: {}", done.len(), tasks.len());
    tasks.iter().for_each(|task| assert!(task.cancel()));
    wait(&mut tasks, None, ReturnWhen::AllCompleted).await?;
    // ANCHOR_END: several
    Ok(())
}

fn main() -> io::Result<()> {
    ringloop::run(run())?
}
