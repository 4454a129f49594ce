//! Servers: whom they take they serve, and whom they do not serve learns of it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use ringloop::{
    BaseProtocol, EventLoopExt, Lease, Protocol, ServerOptions, Transport, UnixServerOptions,
};
use uring_tests::lab::Lab;
use uring_tests::moments::at_some_moment;
use uring_tests::worlds::races;
use uring_tests::{Rng, on_both_drivers};

use crate::{Address, Client, listener};

/// How many protocols were told of the beginning and of the end of their connection.
#[derive(Default)]
struct Tally {
    made: Cell<usize>,
    lost: Cell<usize>,
}

/// Greets and closes.
struct Greeter(Rc<Tally>);

impl BaseProtocol for Greeter {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.0.made.set(self.0.made.get() + 1);
        transport.write(b"welcome").expect("the direction is open");
        transport.close();
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        assert!(error.is_none(), "{error:?}");
        self.0.lost.set(self.0.lost.get() + 1);
    }
}

impl Protocol for Greeter {
    fn data_received(&self, _: Lease) {
        unreachable!("the clients say nothing");
    }
}

/// How many clients were turned away.
async fn serve(lab: Lab, mut rng: Rng) -> usize {
    let (socket, address) = listener(&mut rng);
    let tally = Rc::new(Tally::default());
    let count = tally.clone();
    let factory = move || Rc::new(Greeter(count.clone()));
    let making = match address {
        Address::Tcp(_) => {
            let options = ServerOptions::default().sock(socket);
            lab.event_loop.create_server(factory, options)
        }
        Address::Unix(_) => {
            let options = UnixServerOptions::default().sock(socket);
            lab.event_loop.create_unix_server(factory, options)
        }
    };
    let server = making.await.expect("it listens");
    let mut clients = Vec::new();
    for _ in 0..rng.below(8) {
        clients.push(Client::connect(&address));
        lab.pass(&mut rng).await;
    }
    let closes_early = rng.chance(2, 3);
    if closes_early {
        for _ in 0..rng.below(3) {
            clients.push(Client::connect(&address));
        }
        at_some_moment(&lab.event_loop, &mut rng, move || server.close());
    } else {
        while tally.made.get() < clients.len() {
            lab.pass(&mut rng).await;
        }
        server.close();
    }
    lab.settle().await;
    lab.idle().await;
    let greeted = clients
        .iter_mut()
        .map(|client| match client.told().as_slice() {
            b"welcome" => 1,
            b"" => 0,
            other => panic!("told {other:?}"),
        });
    let greeted: usize = greeted.sum();
    assert_eq!(greeted, tally.made.get(), "greeted and served");
    assert_eq!(tally.lost.get(), tally.made.get());
    if !closes_early {
        assert_eq!(greeted, clients.len(), "everybody is served");
    }
    clients.len() - greeted
}

on_both_drivers! {
    fn whom_a_server_takes_it_serves_and_the_others_learn_of_it(kind: DriverKind) {
        races(kind, 400, "a client was turned away", serve);
    }
}
