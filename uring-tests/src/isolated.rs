//! A test in a process of its own, and what can only be counted there.
//!
//! Descriptors, allocations, signals and the like belong to the process; the harness runs many
//! tests in one. [`isolated`] starts the test binary once more for the one test that calls it.

use std::process::Command;

use crate::run::current_test;

const MARK: &str = "RINGLOOP_TEST_ISOLATED";

/// Runs `body` in a process that runs nothing but the current test.
///
/// Call it as the whole body of a test declared with
/// [`on_both_drivers!`](crate::on_both_drivers): the first call starts the process, the call
/// inside it runs `body`.
///
/// # Panics
/// When the process fails, or did not run exactly this one test; its output is in the message.
pub fn isolated(body: impl FnOnce()) {
    let name = current_test();
    if std::env::var(MARK).is_ok_and(|mark| mark == name) {
        return body();
    }
    let binary = std::env::current_exe().expect("the test binary has a path");
    let output = Command::new(binary)
        .args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, &name)
        .output()
        .expect("the test binary starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}:\n{text}", output.status);
    assert!(text.contains("1 passed"), "{name} did not run:\n{text}");
}

/// How many descriptors this process has open. Only meaningful in [`isolated`].
pub fn open_fds() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    // One of them is the directory being read.
    entries.count() - 1
}
