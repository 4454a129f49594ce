//! Connections that are accepted together start together, and each for itself.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ringloop::event_loop::to_thread;
use ringloop::protocol::{BaseProtocol, Protocol};
use ringloop::task::{LoopExit, exit_loop};
use ringloop::{AbstractEventLoop, Builder, EventLoopExt, Lease, ServerOptions, Transport};
use uring_tests::{isolated, on_both_drivers};

/// Connections before the server looks, so that it accepts all of them at once.
const CLIENTS: usize = 5;

/// Leaves the loop when it is connected, and echoes.
struct Leaves {
    made: Rc<Cell<usize>>,
    transport: RefCell<Option<Rc<dyn Transport>>>,
}

impl BaseProtocol for Leaves {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        *self.transport.borrow_mut() = Some(transport);
        self.made.set(self.made.get() + 1);
        exit_loop(self.made.get());
    }
}

impl Protocol for Leaves {
    fn data_received(&self, data: Lease) {
        let transport = self.transport.borrow().clone().expect("it is connected");
        transport.write_chunk(data.into()).expect("it is open");
    }
}

on_both_drivers! {
    /// Each leaves the loop; the others start in later runs, in order, and all of them read.
    fn srvc_01_one_that_leaves_the_loop_takes_no_other_along(kind: DriverKind) {
        isolated(|| {
            let event_loop: Rc<dyn AbstractEventLoop> =
                Builder::new().driver(kind).build().expect("the driver is to be had");
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let connect = |_| TcpStream::connect(address).expect("it listens");
            let mut clients: Vec<TcpStream> = (0..CLIENTS).map(connect).collect();
            let made = Rc::new(Cell::new(0));
            let (inner, count) = (event_loop.clone(), made.clone());
            let serving = event_loop.create_task(async move {
                let leaves = move || {
                    let (made, transport) = (count.clone(), RefCell::default());
                    Rc::new(Leaves { made, transport })
                };
                let options = ServerOptions::default().sock(listener);
                inner.create_server(leaves, options).await.expect("it listens")
            });
            for number in 1..=CLIENTS {
                let run = catch_unwind(AssertUnwindSafe(|| event_loop.run_forever()));
                let exit = run.expect_err("left").downcast::<LoopExit>().expect("a loop exit");
                assert_eq!(exit.0.downcast_ref(), Some(&number));
            }
            for client in &mut clients {
                client.write_all(b"x").expect("it is connected");
            }
            let (inner, started) = (event_loop.clone(), Rc::new(Cell::new(false)));
            let watched = started.clone();
            let stopping = event_loop.create_task(async move {
                let echoed = to_thread(move || {
                    let echo = |client: &mut TcpStream| client.read_exact(&mut [0]).is_ok();
                    clients.iter_mut().all(echo)
                });
                watched.set(echoed.await.expect("a thread"));
                inner.stop();
            });
            event_loop.run_forever().expect("the driver works");
            assert!(started.get());
            assert_eq!(made.get(), CLIENTS);
            drop((serving, stopping));
            event_loop.close().expect("it does not run");
        });
    }
}
