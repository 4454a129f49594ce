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

/// A second of load, or more, until something was answered: a slow machine needs longer to connect.
fn load(server: &Server, connections: u32, script: Option<&std::path::Path>) {
    let mut seconds = 1;
    while load_for(seconds, server, connections, script) == 0 {
        seconds *= 2;
    }
}

/// So many seconds of load; how many requests were answered.
fn load_for(
    seconds: u32,
    server: &Server,
    connections: u32,
    script: Option<&std::path::Path>,
) -> u64 {
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--timeout", "20s"]);
    wrk.args(["--duration", &format!("{seconds}s")]);
    wrk.args(["--connections", &connections.to_string()]);
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
    requests
        .and_then(|(n, _)| n.parse().ok())
        .unwrap_or_else(|| panic!("{said}"))
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
