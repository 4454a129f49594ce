//! What is left of a loop after `close()`: nothing, whoever still refers to it.

use ringloop::{BaseProtocol, Builder, EventLoopExt, Lease, Protocol, ServerOptions, Transport};
use std::cell::OnceCell;
use std::net::TcpStream;
use std::rc::Rc;
use uring_tests::{isolated, on_both_drivers, open_fds};

/// Keeps its transport, as protocols do.
#[derive(Default)]
struct Keeps(OnceCell<Rc<dyn Transport>>);

impl BaseProtocol for Keeps {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        assert!(self.0.set(transport).is_ok());
        // The test goes on once the connection stands.
        ringloop::get_running_loop().stop();
    }
}

impl Protocol for Keeps {
    fn data_received(&self, data: Lease) {
        drop(data);
    }
}

on_both_drivers! {
    /// Descriptors are closed by `close()`, not with the last reference to the loop.
    fn close_closes_the_descriptors_of_the_driver(kind: DriverKind) {
        isolated(|| {
            let before = open_fds();
            let event_loop = Builder::new().driver(kind).build().unwrap();
            event_loop.run_until_complete(async {}).unwrap();
            event_loop.close().unwrap();
            assert_eq!(open_fds(), before);
            // What can be asked of a closed loop still answers.
            let core = event_loop.core().unwrap();
            assert!(event_loop.time() > 0);
            assert_eq!(core.driver_kind(), kind);
            assert!(core.stats().iterations > 0);
            assert!(!core.driver_report().is_empty());
        });
    }

    /// A protocol and its transport that hold each other do not outlive the loop.
    fn close_ends_transports_that_their_protocols_keep(kind: DriverKind) {
        isolated(|| {
            let before = open_fds();
            let event_loop = Builder::new().driver(kind).build().unwrap();
            let core = Rc::downgrade(event_loop.core().unwrap());
            let server = event_loop
                .run_until_complete(
                    event_loop.create_server(
                        || Rc::new(Keeps::default()),
                        ServerOptions::new("127.0.0.1", 0),
                    ),
                )
                .unwrap()
                .unwrap();
            let address = server.local_addrs()[0].as_inet().unwrap();
            let client = TcpStream::connect(address).unwrap();
            event_loop.run_forever().unwrap();
            drop(server);
            event_loop.close().unwrap();
            drop(event_loop);
            drop(client);
            assert!(core.upgrade().is_none(), "something of the loop is left");
            assert_eq!(open_fds(), before);
        });
    }
}
