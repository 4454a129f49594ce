//! The HTTP example under `curl`.

use std::process::Command;

use uring_tests::{TempDir, on_both_drivers};

use super::server::Server;
use super::{on_both_apis, tools};

/// What curl printed, and how many connections it made for each transfer, e.g. "10".
fn curl(server: &Server, arguments: &[&str], transfers: usize) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "120"]);
    command
        .args(["--write-out", "%{stderr}%{num_connects}"])
        .args(arguments);
    for n in 0..transfers {
        command.arg(format!("http://{}/{n}", server.address()));
    }
    let output = command.output().expect("curl starts");
    let connects = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {connects}");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        connects,
    )
}

const HELLO: &str = "\r\n\r\nHello, world!\n";

on_both_drivers! {
    fn curl_keeps_its_connection_and_closes_it_when_told(kind: DriverKind) {
        if !tools::has("curl") {
            return;
        }
        on_both_apis("http", kind, |server| {
            let (said, connects) = curl(server, &[], 3);
            assert_eq!(said.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{said}");
            assert_eq!(said.matches(HELLO).count(), 3, "{said}");
            assert!(!said.contains("Connection:"), "{said}");
            assert_eq!(connects, "100", "one connection for all three");

            let (said, connects) = curl(server, &["--header", "Connection: close"], 3);
            assert_eq!(said.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{said}");
            assert_eq!(said.matches("\r\nConnection: close\r\n").count(), 3, "{said}");
            assert_eq!(connects, "111");

            let (said, connects) = curl(server, &["--http1.0"], 2);
            assert_eq!(said.matches(HELLO).count(), 2, "{said}");
            assert_eq!(connects, "11", "HTTP/1.0 ends with each answer");

            let keep = ["--http1.0", "--header", "Connection: keep-alive"];
            let (said, connects) = curl(server, &keep, 2);
            assert_eq!(said.matches("\r\nConnection: keep-alive\r\n").count(), 2, "{said}");
            assert_eq!(connects, "10");

            let (said, _) = curl(server, &["--head"], 2);
            assert_eq!(said.matches("\r\nContent-Length: 14\r\n").count(), 2, "{said}");
            assert!(!said.contains("Hello"), "{said}");
        });
    }

    fn curl_sends_bodies_that_are_read_or_refused(kind: DriverKind) {
        if !tools::has("curl") {
            return;
        }
        let directory = TempDir::new();
        let file = |name: &str, len: usize| {
            let path = directory.join(name);
            std::fs::write(&path, vec![b'x'; len]).expect("a fresh directory");
            format!("@{}", path.display())
        };
        let (full, over) = (file("full", 1024 * 1024), file("over", 1024 * 1024 + 1));
        on_both_apis("http", kind, |server| {
            for framing in ["X-Framing: length", "Transfer-Encoding: chunked"] {
                let send = |body| curl(server, &["--header", framing, "--data-binary", body], 2);
                let (said, connects) = send(&full);
                assert_eq!(said.matches(HELLO).count(), 2, "{said}");
                assert_eq!(connects, "10", "the body was read to its end");
                let (said, connects) = send(&over);
                assert_eq!(said.matches("HTTP/1.1 413 Content Too Large\r\n").count(), 2, "{said}");
                assert_eq!(connects, "11");
            }
        });
    }
}
