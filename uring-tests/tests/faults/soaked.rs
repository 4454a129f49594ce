//! A short run of the soak, so that it stays one that runs.

use std::process::Command;

use uring_tests::on_both_drivers;

on_both_drivers! {
    fn a_short_soak_leaves_nothing_behind(kind: DriverKind) {
        let output = Command::new(env!("CARGO_BIN_EXE_soak"))
            .args(["--seconds", "4", "--driver", &kind.to_string()])
            .output()
            .expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        assert!(text.contains("soak: passed"), "{text}");
    }
}
