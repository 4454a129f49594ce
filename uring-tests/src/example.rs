//! The examples as programs.

use std::path::PathBuf;

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
