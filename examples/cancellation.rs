//! Tasks that are asked to stop: one cleans up, one goes on, one must not hear of it.
//!
//!     cargo run --example cancellation

use ringloop::task::current;
use ringloop::{
    Cancelled, JoinError, Task, create_task, gather, shield, sleep, timeout, yield_now,
};
use std::io;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

// ANCHOR: clean_up
/// Copies for an hour, and leaves nothing half done.
async fn copy() -> Result<(), Cancelled> {
    println!("copy: begun");
    if let Err(cancelled) = sleep(HOUR).await {
        // Asked to stop. Cleaning up may wait for what it needs.
        sleep(Duration::from_millis(1)).await?;
        println!("copy: what was half done is removed");
        return Err(cancelled);
    }
    Ok(())
}
// ANCHOR_END: clean_up

// ANCHOR: go_on
/// Has something more important to do than to stop.
async fn save() -> &'static str {
    if let Err(cancelled) = sleep(HOUR).await {
        drop(cancelled);
        // Whoever asked shall see that the request was heard and declined.
        if let Some(me) = current() {
            me.uncancel();
        }
    }
    "saved"
}
// ANCHOR_END: go_on

// ANCHOR: forward
/// Waits for another task. A request to this one goes on to that.
async fn relay(inner: Task<&'static str>) -> Result<String, JoinError> {
    Ok(format!("{}, relayed", inner.await?))
}
// ANCHOR_END: forward

async fn run() -> Result<(), io::Error> {
    // ANCHOR: cancel
    let task = create_task(copy());
    yield_now().await?; // It begins.
    task.cancel_with("the server stops");
    match task.await {
        Err(JoinError::Cancelled(cancelled)) => println!("main: copy ended, {cancelled}"),
        other => println!("main: {other:?}"),
    }
    // ANCHOR_END: cancel

    let task = create_task(save());
    yield_now().await?;
    let asked = task.cancel();
    println!("main: asked {asked}, and it {}", task.await?);

    let outer = create_task(relay(create_task(save())));
    yield_now().await?;
    yield_now().await?;
    outer.cancel();
    println!("main: {}", outer.await??);

    // ANCHOR: timeout
    // A timeout cancels what is inside it, and nothing else.
    match timeout(Duration::from_millis(5), copy()).await {
        Ok(copied) => copied?,
        Err(error) => println!("main: {error}"),
    }
    // ANCHOR_END: timeout

    // ANCHOR: shield
    // What must be finished runs in a task of its own, behind a shield.
    let payment = create_task(async { sleep(Duration::from_millis(10)).await.map(|()| "paid") });
    let mut payment = shield(payment);
    if timeout(Duration::from_millis(1), &mut payment)
        .await
        .is_err()
    {
        println!("main: it takes long");
    }
    println!("main: {}", payment.await??);
    // ANCHOR_END: shield

    let squares = gather((1..=3).map(|n| async move {
        sleep(Duration::from_millis(4 - n)).await?;
        Ok::<_, Cancelled>(n * n)
    }));
    println!("main: {:?}", squares.await.map_err(io::Error::other)?);
    Ok(())
}

fn main() -> io::Result<()> {
    ringloop::run(run())?
}
