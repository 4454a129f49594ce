//! The programs of the chapters on synchronisation and on context variables.

use std::process::Command;

use uring_tests::{DriverKind, example, on_both_drivers};

/// What a program says that ends by itself.
fn said(name: &str, kind: DriverKind) -> Vec<String> {
    let driver = match kind {
        DriverKind::Epoll => "epoll",
        _ => "uring",
    };
    let mut program = Command::new(example(name));
    let output = program.env("RINGLOOP_DRIVER", driver).output();
    let output = output.expect("it can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().map(|line| line.trim().to_owned()).collect()
}

on_both_drivers! {
    fn the_workers_do_all_jobs(kind: DriverKind) {
        assert_eq!(said("workers", kind), ["half of it is done", "10 jobs, 385 in all"]);
    }

    fn each_request_logs_as_itself(kind: DriverKind) {
        let said = said("requests", kind);
        assert_eq!(said.first().map(String::as_str), Some("begin"));
        assert_eq!(said.last().map(String::as_str), Some("end"));
        for request in ["request 1:", "request 2:"] {
            let lines: Vec<_> = said.iter().filter_map(|line| line.strip_prefix(request)).collect();
            let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
            assert_eq!(lines, ["asked", "looked up", "fetched by another task", "answered"]);
        }
        assert!(said.contains(&"request 3: later, in its context".to_owned()));
    }
}
