//! A test in a process of its own, and what can only be counted there.
//!
//! Descriptors, allocations, signals and the like belong to the process; the harness runs many
//! tests in one. [`isolated`] starts the test binary once more for the one test that calls it.

use std::process::Command;

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

/// Gives the program that `command` starts the default action of a signal, which it would inherit as
/// ignored from a shell that runs the tests in the background.
pub fn with_default_signal(command: &mut Command, signal: i32) -> &mut Command {
    use std::os::unix::process::CommandExt;
    let set = move || {
        // SAFETY: async-signal-safe, as what runs between fork and exec must be.
        let old = unsafe { libc::signal(signal, libc::SIG_DFL) };
        if old == libc::SIG_ERR {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: `set` makes one async-signal-safe call and allocates nothing.
    unsafe { command.pre_exec(set) }
}

/// How many descriptors this process has open. Only meaningful in [`isolated`].
pub fn open_fds() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    // One of them is the directory being read.
    entries.count() - 1
}
