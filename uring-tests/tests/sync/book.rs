//! The programs of the chapters on synchronisation and on context variables.

use uring_tests::{on_both_drivers, said};

on_both_drivers! {
    fn the_workers_do_all_jobs(kind: DriverKind) {
        assert_eq!(said("workers", kind), ["half of it is done", "10 jobs, 385 in all"]);
    }

    fn each_request_logs_as_itself(kind: DriverKind) {
        let said = said("requests", kind);
        let said: Vec<_> = said.iter().map(|line| line.trim()).collect();
        assert_eq!((said.first(), said.last()), (Some(&"begin"), Some(&"end")));
        for request in ["request 1:", "request 2:"] {
            let lines: Vec<_> = said.iter().filter_map(|line| line.strip_prefix(request)).collect();
            let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
            assert_eq!(lines, ["asked", "looked up", "fetched by another task", "answered"]);
        }
        assert!(said.contains(&"request 3: later, in its context"));
    }
}
