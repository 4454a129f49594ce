//! Programs of Debian that tests call.

use std::process::{Command, Stdio};

use uring_tests::Leg;

/// Whether the program is there. Inside a container, where nothing can be installed, a test that
/// needs a missing one says so and returns.
///
/// # Panics
/// With what to install, where everything must run: with `CI` set, outside containers.
pub fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok() {
        return true;
    }
    let missing = format!("this test needs {program}: apt-get install {program}");
    let required = std::env::var_os("CI").is_some() && Leg::current() == Leg::Host;
    assert!(!required, "{missing}");
    println!("{missing}; not run");
    false
}

/// Runs it and returns what it printed.
///
/// # Panics
/// When it fails.
pub fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{errors}",
        output.status
    );
    text
}
