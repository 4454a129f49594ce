//! The program of the chapter on loops of one's own.

use std::process::Command;

use uring_tests::example;

// Not on both drivers: the loop of that program has none.
#[test]
fn a_loop_of_ones_own_does_everything() {
    let output = Command::new(example("own_loop")).output();
    let output = output.expect("it can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(errors, "");
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = [
        "told by a timer",
        "an hour in a millisecond: timed out",
        "the task was cancelled: not needed",
        "another thread was told 42",
    ];
    assert!(said.lines().eq(expected), "{said}");
}
