//! Programs of Debian that tests call.

use std::process::{Command, Stdio};

use uring_tests::Leg;

/// Whether the program is there. Inside a container, where nothing can be installed, a test that
/// needs a missing one says so and returns.
///
/// # Panics
/// On the host, with what to install.
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
    assert_ne!(Leg::current(), Leg::Host, "{missing}");
    println!("{missing}; not run in this container");
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
