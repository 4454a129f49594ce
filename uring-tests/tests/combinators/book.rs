//! The programs of the chapters on cancellation and on structured concurrency.

use uring_tests::{on_both_drivers, said};

on_both_drivers! {
    fn tasks_that_are_asked_to_stop(kind: DriverKind) {
        let copied = ["copy: begun", "copy: what was half done is removed"];
        let mut expected = copied.to_vec();
        expected.push("main: copy ended, cancelled: the server stops");
        expected.push("main: asked true, and it saved");
        expected.push("main: saved, relayed");
        expected.extend(copied);
        expected.push("main: timed out");
        expected.push("main: it takes long");
        expected.push("main: paid");
        expected.push("main: [1, 4, 9]");
        assert_eq!(said("cancellation", kind), expected);
    }

    fn groups_that_end_as_one(kind: DriverKind) {
        let nested = "unhandled errors in a TaskGroup (1 sub-exception)";
        let expected = [
            "HEADBODYFOOT",
            "  stuck: stopped",
            "failed: broken: no such thing",
            "  stuck: stopped",
            &format!("failed: {nested}: {nested}: broken: no such thing"),
            "  stuck: stopped",
            "in time: false",
            "pieces: 3",
            "  stuck: stopped",
            "MIRROR was number 2",
            "in the order of their ends: [1, 200, 400]",
            "done: 1, not yet: 1",
        ];
        assert_eq!(said("groups", kind), expected);
    }
}
