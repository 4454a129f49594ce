//! The HTTP example under `wrk`: no error of any kind, at any number of connections.

use std::process::Command;

use uring_tests::{TempDir, on_both_drivers};

use super::server::Server;
use super::{on_both_apis, tools};

/// Sixteen requests at once.
const PIPELINE: &str = "
init = function()
    local requests = {}
    for n = 1, 16 do requests[n] = wrk.format('GET', '/' .. n) end
    pipeline = table.concat(requests)
end
request = function() return pipeline end
";

/// One second of load.
fn load(server: &Server, connections: u32, script: Option<&std::path::Path>) {
    let mut wrk = Command::new("wrk");
    wrk.args([
        "--threads",
        "1",
        "--duration",
        "1s",
        "--timeout",
        "20s",
        "--connections",
    ]);
    wrk.arg(connections.to_string());
    if let Some(script) = script {
        wrk.arg("--script").arg(script);
    }
    let said = tools::output(wrk.arg(format!("http://{}/", server.address())));
    for complaint in ["Socket errors", "Non-2xx"] {
        assert!(!said.contains(complaint), "{said}");
    }
    let requests = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let requests: u64 = requests
        .and_then(|(n, _)| n.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert!(requests > 0, "{said}");
}

on_both_drivers! {
    fn wrk_with_1_50_and_500_connections(kind: DriverKind) {
        if tools::has("wrk") {
            on_both_apis("http", kind, |server| {
                for connections in [1, 50, 500] {
                    load(server, connections, None);
                }
            });
        }
    }

    fn wrk_with_pipelined_requests(kind: DriverKind) {
        if tools::has("wrk") {
            let directory = TempDir::new();
            let script = directory.join("pipeline.lua");
            std::fs::write(&script, PIPELINE).expect("a fresh directory");
            on_both_apis("http", kind, |server| load(server, 50, Some(&script)));
        }
    }
}
