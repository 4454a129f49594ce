//! A test in a process of its own, and what can only be counted there.
//!
//! Descriptors, allocations, signals and the like belong to the process; the harness runs many
//! tests in one. [`isolated`] starts the test binary once more for the one test that calls it.

use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::run::current_test;

/// Names the test, in the process that runs nothing else.
pub const MARK: &str = "RINGLOOP_TEST_ISOLATED";

/// Runs `body` in a process that runs nothing but the current test.
///
/// Call it as the whole body of a test declared with
/// [`on_both_drivers!`](crate::on_both_drivers): the first call starts the process, the call
/// inside it runs `body`.
///
/// # Panics
/// When the process fails, or did not run exactly this one test; its output is in the message.
pub fn isolated(body: impl FnOnce()) {
    isolated_saying(body);
}

/// The same; gives what that process wrote to standard error (and to the process itself, nothing).
///
/// # Panics
/// As [`isolated`].
pub fn isolated_saying(body: impl FnOnce()) -> Option<String> {
    let name = current_test();
    if std::env::var(MARK).is_ok_and(|mark| mark == name) {
        body();
        return None;
    }
    let binary = std::env::current_exe().expect("the test binary has a path");
    let output = Command::new(binary)
        .args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, &name)
        // A test says itself which driver it wants.
        .env_remove("RINGLOOP_DRIVER")
        .output()
        .expect("the test binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!("{}{said}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}:\n{text}", output.status);
    assert!(text.contains("1 passed"), "{name} did not run:\n{text}");
    Some(said.into_owned())
}

/// Runs `body` in a forked child. Only in [`isolated`].
///
/// # Panics
/// When `body` panics.
pub fn forked(body: impl FnOnce()) {
    // SAFETY: the child runs only `body`, up to `_exit`; of the threads of this process, which runs one
    // test, none holds a lock that is needed there.
    match unsafe { fork() }.expect("there is room for a process") {
        ForkResult::Child => {
            let ended = catch_unwind(AssertUnwindSafe(body));
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("it was not waited for");
            assert_eq!(status, WaitStatus::Exited(child, 0), "the child failed");
        }
    }
}

/// Leaves so many descriptors to this process: the numbers from the first free one on. To be called
/// before an accept is armed, for io_uring goes by the limit of that moment. Only in [`isolated`].
///
/// # Panics
/// When that is more than there may be.
pub fn limit_descriptors(count: u64) {
    let free = std::fs::File::open("/dev/null").expect("a descriptor is free");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    let limit = free.as_raw_fd() as u64 + count;
    setrlimit(Resource::RLIMIT_NOFILE, limit, most).expect("it may be lowered");
}

/// How many descriptors this process has open. Only meaningful in [`isolated`].
pub fn open_fds() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    // One of them is the directory being read.
    entries.count() - 1
}
