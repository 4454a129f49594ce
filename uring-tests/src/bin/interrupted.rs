//! A program whose main task is interrupted: what the tests of SIGINT start, for a test itself does
//! not run in the main thread. `interrupted SCENE DRIVER`; it says what happens, a line each, and
//! goes on from its stops when it reads a line.

use std::io::{BufRead, Write};
use std::rc::Rc;
use std::time::Duration;

use ringloop::sys::signals;
use ringloop::task::{Cancelled, current};
use ringloop::{
    AbstractEventLoop, Builder, DriverKind, EventLoopExt, JoinError, RunError, Runner,
    get_running_loop, sleep, yield_now,
};

const HOUR: Duration = Duration::from_secs(3600);

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("somebody reads");
}

/// Blocks the thread, as a computation would.
fn stop() {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("somebody writes");
}

fn tell(result: Result<Result<u32, Cancelled>, RunError<Result<u32, Cancelled>>>) {
    say(&match result {
        Ok(Ok(value)) => format!("value {value}"),
        Ok(Err(_)) => "a cancellation as a value".to_owned(),
        Err(RunError::Interrupted) => "interrupted".to_owned(),
        Err(RunError::Task(JoinError::Cancelled(_))) => "cancelled".to_owned(),
        Err(error) => format!("{error}"),
    });
    let default = signals::is_default(libc::SIGINT).expect("there is SIGINT");
    say(if default { "default" } else { "not default" });
}

async fn waits() -> Result<u32, Cancelled> {
    say("ready");
    sleep(HOUR).await?;
    Ok(1)
}

async fn computes() -> Result<u32, Cancelled> {
    say("ready");
    stop();
    sleep(HOUR).await?;
    Ok(1)
}

/// Where nothing interrupts it.
async fn computes_and_ends() -> Result<u32, Cancelled> {
    say("ready");
    stop();
    yield_now().await?;
    Ok(1)
}

/// Returns without an await after the interrupt.
async fn is_deaf() -> Result<u32, Cancelled> {
    say("ready");
    stop();
    Ok(1)
}

async fn catches() -> Result<u32, Cancelled> {
    say("ready");
    drop(sleep(HOUR).await.expect_err("it is interrupted"));
    for _ in 0..3 {
        yield_now().await.expect("interrupted once");
    }
    say("cleaned up");
    Ok(7)
}

async fn refuses() -> Result<u32, Cancelled> {
    say("ready");
    drop(sleep(HOUR).await.expect_err("it is interrupted"));
    say("goes on");
    loop {
        stop();
    }
}

/// Somebody else asks it to stop as well.
async fn is_cancelled() -> Result<u32, Cancelled> {
    let me = current().expect("a task");
    me.cancel();
    drop(sleep(HOUR).await.expect_err("it was asked to stop"));
    say("ready");
    sleep(HOUR).await?;
    Ok(1)
}

/// Leaves a task behind that takes long to end.
async fn leaves_one() -> Result<u32, Cancelled> {
    let stays = async {
        let cancelled = sleep(HOUR).await;
        say("ready");
        stop();
        cancelled
    };
    drop(get_running_loop().create_task(stays).expect("an open loop"));
    yield_now().await?;
    Ok(1)
}

/// No descriptor can be made any more; those that are open stay.
fn use_descriptors_up() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes the structure.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(result, 0);
    limit.rlim_cur = 0;
    // SAFETY: reads the structure.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(result, 0);
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (scene, kind) = (args.next(), args.next());
    let scene = scene.expect("the first argument is the scene");
    let kind: DriverKind = kind
        .expect("the second argument is the driver")
        .parse()
        .expect("a driver");
    let runner = Runner::new().loop_factory(move || Builder::new().driver(kind).build());
    match scene.as_str() {
        "wait" => tell(runner.run(waits())),
        "compute" => tell(runner.run(computes())),
        "deaf" => tell(runner.run(is_deaf())),
        "catch" => tell(runner.run(catches())),
        "refuse" => tell(runner.run(refuses())),
        "cancelled" => tell(runner.run(is_cancelled())),
        "again" => {
            tell(runner.run(waits()));
            tell(runner.run(catches()));
        }
        "closing" => {
            tell(runner.run(leaves_one()));
            runner.close().expect("it does not run");
        }
        "ignored" => {
            // SAFETY: ignoring a signal is a valid action.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
            tell(runner.run(computes_and_ends()));
        }
        "thread" => {
            let run = move || {
                let event_loop = Builder::new().driver(kind).build().expect("the driver");
                tell(ringloop::block_on(&event_loop, waits()));
            };
            std::thread::spawn(run).join().expect("it ends");
        }
        "descriptors" => {
            let event_loop: Rc<dyn AbstractEventLoop> = runner.get_loop().expect("the driver");
            use_descriptors_up();
            tell(ringloop::block_on(&event_loop, waits()));
        }
        other => panic!("{other} is no scene"),
    }
    say("end");
}
