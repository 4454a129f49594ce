//! The examples, as programs, against real clients: on both drivers and through both interfaces.

mod curl;
mod idle;
mod odd;
mod refusals;
mod server;
mod signals;
mod start;
mod syscalls;
mod tools;
mod wrk;

use server::Server;
use uring_tests::DriverKind;

/// The two programming interfaces of the examples.
const APIS: [&str; 2] = ["protocol", "stream"];

/// Runs `body` against a fresh server for each interface; it must then end in an orderly way.
fn on_both_apis(example: &str, kind: DriverKind, body: impl Fn(&Server)) {
    for api in APIS {
        println!("{example} --driver {kind} --api {api}");
        let server = Server::start(example, kind, api, "127.0.0.1");
        body(&server);
        server.stop();
    }
}
