//! The examples as programs.

use std::path::PathBuf;
use std::process::Command;

use ringloop::DriverKind;

/// The program built from `examples/{name}.rs`, in the same profile as this test.
///
/// `cargo test --workspace` builds it before any test runs; the container legs mount it.
///
/// # Panics
/// When it was not built.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    // <target>/<profile>/deps/<test> and <target>/<profile>/examples/<name>.
    let profile = test.ancestors().nth(2).expect("cargo's layout");
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --examples` first",
        path.display()
    );
    path
}

/// The lines of an example that ends by itself, on that driver.
///
/// # Panics
/// When it fails or complains.
pub fn said(name: &str, kind: DriverKind) -> Vec<String> {
    let mut program = Command::new(example(name));
    let output = program.env("RINGLOOP_DRIVER", kind.to_string()).output();
    let output = output.expect("it can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(errors, "");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().map(str::to_owned).collect()
}
