//! A program that dumps its tasks on SIGUSR1: what the tests of dumps start, for signals belong to the
//! process. `dumped SCENE DRIVER`; the dumps go to standard error, a line says when it is ready, and it
//! goes on from its stops when it reads a line.

use std::time::{Duration, Instant};

use ringloop::debug::PATIENCE;
use ringloop::task::TaskOptions;
use ringloop::{Builder, EventLoopExt, block_on, get_running_loop, sleep, yield_now};
use uring_tests::scene::{arguments, say, stop};
use uring_tests::tasks::HOUR;

async fn serve(scene: String) {
    let dumps = ringloop::debug::dump_on_signal(libc::SIGUSR1).expect("nobody has the signal");
    let again = ringloop::debug::dump_on_signal(libc::SIGUSR1).expect_err("it is taken");
    assert_eq!(again.raw_os_error(), Some(libc::EBUSY));
    let event_loop = get_running_loop();
    let sleeper = TaskOptions::named("the sleeper");
    let sleeper = event_loop.create_task_with(sleep(HOUR), sleeper);
    drop(sleeper.expect("an open loop"));
    yield_now().await.expect("nobody cancels");
    say("ready");
    if scene == "stuck" {
        stop();
        yield_now().await.expect("nobody cancels");
    }
    let heard = event_loop.run_in_executor(stop);
    heard.await.expect("it reads a line");
    drop(dumps);
    let default = ringloop::sys::signals::is_default(libc::SIGUSR1);
    assert!(default.expect("there is SIGUSR1"));
    say("end");
}

/// Takes the guard back while its thread waits for the loop.
async fn turn_off() {
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let dumps = ringloop::debug::dump_on_signal(libc::SIGUSR1).expect("nobody has the signal");
        let began = Instant::now();
        // SAFETY: a number; the signal is caught.
        unsafe { libc::raise(libc::SIGUSR1) };
        while began.elapsed() < Duration::from_millis(1) {}
        // Without the drop, which shall not take long.
        longest = longest.max(began.elapsed());
        drop(dumps);
        // Those that were asked for before.
        yield_now().await.expect("nobody cancels");
    }
    let stood_still = longest >= PATIENCE / 2;
    say(if stood_still {
        "the machine stood still"
    } else {
        "end"
    });
}

fn main() {
    let (scene, kind) = arguments();
    let event_loop = Builder::new().driver(kind).build().expect("the driver");
    if scene == "turns off" {
        return block_on(&event_loop, turn_off()).expect("it returns");
    }
    block_on(&event_loop, serve(scene)).expect("it serves");
}
