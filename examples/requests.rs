//! Which request is this? Context variables tell, without being passed along.
//!
//!     cargo run --example requests

use ringloop::task::TaskOptions;
use ringloop::{Cancelled, ContextVar, copy_context, create_task, create_task_with, yield_now};
use std::io;

/// The request that is being answered.
static REQUEST: ContextVar<u32> = ContextVar::new("request");

/// How deep the call is nested.
static DEPTH: ContextVar<usize> = ContextVar::new("depth").with_default(|| 0);

/// The transaction that this task, and no other, has opened.
static TRANSACTION: ContextVar<&str> = ContextVar::new("transaction").not_inherited();

/// Far below, and nobody told it anything.
fn log(line: &str) {
    let indent = "  ".repeat(DEPTH.get().unwrap_or(0));
    match REQUEST.get() {
        Some(request) => println!("request {request}: {indent}{line}"),
        None => println!("           {indent}{line}"),
    }
}

/// One level deeper, for as long as `f` runs.
fn deeper(f: impl FnOnce()) {
    let token = DEPTH.set(DEPTH.get().unwrap_or(0) + 1);
    f();
    DEPTH.reset(token).expect("the same context");
}

async fn answer(request: u32) -> Result<(), Cancelled> {
    REQUEST.set(request);
    TRANSACTION.set("open");
    log("asked");
    yield_now().await?; // Others run, and have values of their own.
    deeper(|| log("looked up"));

    // Tasks and callbacks inherit: this one logs for the same request.
    let child = create_task(async {
        assert_eq!(TRANSACTION.get(), None, "that is not inherited");
        DEPTH.set(2);
        log("fetched by another task");
    });
    child.await.expect("it ends");
    assert_eq!(DEPTH.get(), Some(0), "what the child set is the child's");
    assert_eq!(TRANSACTION.get(), Some("open"));
    log("answered");
    Ok(())
}

async fn serve() -> io::Result<()> {
    log("begin");
    let answers = [1, 2].map(|request| create_task(answer(request)));
    for answer in answers {
        answer.await??;
    }

    // A context may be kept and used again: what runs in it is seen in it.
    let context = copy_context();
    let options = TaskOptions::default().context(context.clone());
    drop(create_task_with(async { REQUEST.set(3) }, options).await?);
    context.run(|| log("later, in its context"));
    log("end");
    Ok(())
}

fn main() -> io::Result<()> {
    match ringloop::run(serve()) {
        Ok(served) => served,
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}
