//! A program whose main task is interrupted: what the tests of SIGINT start, for a test itself does
//! not run in the main thread. `interrupted SCENE DRIVER`; it says what happens, a line each, and
//! goes on from its stops when it reads a line.

use std::rc::Rc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringloop::sys::signals;
use ringloop::task::{Cancelled, current, exit_loop};
use ringloop::{
    AbstractEventLoop, Builder, EventLoopExt, JoinError, RunError, Runner, get_running_loop, sleep,
    yield_now,
};
use uring_tests::scene::{arguments, say, stop};
use uring_tests::tasks::{HOUR, exited};

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

/// Leaves the loop without having heard of the interrupt.
async fn exits() -> Result<u32, Cancelled> {
    say("ready");
    stop();
    exit_loop(1)
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
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 0, most).expect("it may be lowered");
}

fn main() {
    let (scene, kind) = arguments();
    let runner = Runner::new().loop_factory(move || Builder::new().driver(kind).build());
    match scene.as_str() {
        "wait" => tell(runner.run(waits())),
        "compute" => tell(runner.run(computes())),
        "deaf" => tell(runner.run(is_deaf())),
        "exit" => {
            let left: i32 = exited(|| runner.run(exits()).map(drop));
            say(&format!("left with {left}"));
        }
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
