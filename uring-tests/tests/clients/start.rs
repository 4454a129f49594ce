//! Options that make no sense.

use std::process::Command;

use uring_tests::{example, on_one_driver};

on_one_driver! { Epoll:
    // Not on both drivers: no loop is made.
    fn wrong_options_are_explained() {
        for (arguments, complaint) in [
            (vec!["--listen"], "--listen needs a value"),
            (vec!["--listen", "nowhere"], "no port in nowhere"),
            (vec!["--driver", "kqueue"], "use auto, uring or epoll"),
            (vec!["--api", "rest"], "--api rest means nothing"),
            (vec!["--listen", "192.0.2.1:1"], "192.0.2.1"),
        ] {
            let output = Command::new(example("echo"))
                .args(&arguments)
                .output()
                .expect("it starts");
            assert!(!output.status.success(), "{arguments:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(complaint), "{arguments:?}: {said}");
        }
    }
}
