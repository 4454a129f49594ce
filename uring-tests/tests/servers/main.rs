//! Servers over TCP (rows SRVC and SRV).
//!
//! | file | what |
//! |---|---|
//! | `binding.rs` | which addresses and options a server gets |
//! | `accepting.rs` | connections, and what becomes of accepts that fail |
//! | `closing.rs` | the end of servers, and who waits for it |
//! | `starting.rs` | connections that are accepted together |

mod accepting;
mod binding;
mod closing;
mod starting;

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use ringloop::{AbstractEventLoop, EventLoopExt, Server, ServerOptions};
use uring_tests::net::{Accepted, Recorder, own_addr};

/// A server on a free port of the loopback interface, and what it accepts.
async fn serve(event_loop: &Rc<dyn AbstractEventLoop>) -> (Server, SocketAddr, Rc<Accepted>) {
    let accepted = Accepted::new();
    let options = ServerOptions::from(own_addr());
    let server = event_loop
        .create_server(accepted.factory(), options)
        .await
        .expect("it binds");
    let address = address_of(&server);
    (server, address, accepted)
}

fn address_of(server: &Server) -> SocketAddr {
    server.local_addrs()[0].as_inet().expect("an IP address")
}

/// Serves, expecting failure.
async fn failure(event_loop: &Rc<dyn AbstractEventLoop>, options: ServerOptions) -> io::Error {
    let result = event_loop.create_server(Recorder::new, options).await;
    result.expect_err("serving must fail")
}

/// Nothing comes any more: the peer closed, whether orderly or not.
fn assert_closed(mut stream: TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("the peer sent something"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

fn assert_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).expect_err("nobody must listen");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}
