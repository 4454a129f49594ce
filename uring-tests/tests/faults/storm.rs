//! More clients than descriptors.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use nix::time::ClockId;
use ringloop::{
    BaseProtocol, DriverKind, EventLoopExt, Lease, Protocol, ServerOptions, Transport,
    get_running_loop, sleep,
};
use uring_tests::lab::alone;
use uring_tests::net::{Changes, Reports, own_addr, run_on};
use uring_tests::{Meeting, isolated, limit_descriptors, on_both_drivers};

/// Descriptors the server may have besides its own.
const ROOM: u64 = 40;
const CLIENTS: usize = 150;
/// Clients that share a descriptor table.
const TOGETHER: usize = 25;
/// How long the shortage is watched; longer than the back-off.
const WATCHED: Duration = Duration::from_millis(2_500);

#[derive(Default)]
struct Served {
    connected: Cell<usize>,
    lost: Cell<usize>,
    changes: Changes,
}

/// Echoes, and counts.
struct Echo(Rc<Served>, std::cell::RefCell<Option<Rc<dyn Transport>>>);

impl BaseProtocol for Echo {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.0.connected.set(self.0.connected.get() + 1);
        *self.1.borrow_mut() = Some(transport);
    }

    fn connection_lost(&self, _error: Option<std::io::Error>) {
        self.1.take();
        self.0.lost.set(self.0.lost.get() + 1);
        self.0.changes.happened();
    }
}

impl Protocol for Echo {
    fn data_received(&self, data: Lease) {
        let transport = self.1.borrow().clone().expect("connected");
        transport.write_chunk(data.into()).expect("it is open");
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let used = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    used.expect("there is such a clock").into()
}

/// Connects, waits for the others' word, and checks that each is echoed. In a descriptor table of its
/// own.
fn clients(number: usize, address: SocketAddr, server: &Meeting) {
    let mut streams: Vec<TcpStream> = (0..TOGETHER)
        .map(|_| TcpStream::connect(address).expect("the queue takes all"))
        .collect();
    // All are there, and may go on.
    server.meet();
    server.meet();
    for (index, stream) in streams.iter_mut().enumerate() {
        let sent = (number * TOGETHER + index).to_be_bytes();
        stream.write_all(&sent).expect("it is connected");
    }
    // One after the other: each that is served gives a descriptor back for another.
    for (index, mut stream) in streams.into_iter().enumerate() {
        let mut echoed = [0; 8];
        stream
            .read_exact(&mut echoed)
            .expect("it is served in the end");
        assert_eq!(echoed, (number * TOGETHER + index).to_be_bytes());
    }
}

on_both_drivers! {
    /// One report, no spinning: the loop sleeps through the shortage, and serves everybody in the end.
    fn an_accept_storm_beyond_the_descriptor_limit_is_survived(kind: DriverKind) {
        isolated(|| {
            let (tell, told) = channel();
            std::thread::scope(|scope| {
                let (groups, meetings): (Vec<_>, Vec<_>) =
                    (0..CLIENTS / TOGETHER).map(|_| Meeting::between_two()).unzip();
                scope.spawn(move || alone(move || serve(kind, tell, groups)));
                let address = told.recv().expect("it listens");
                for (number, server) in meetings.into_iter().enumerate() {
                    scope.spawn(move || alone(move || clients(number, address, &server)));
                }
            });
        });
    }
}

/// In a descriptor table of its own. Where it listens is told; whom it waits for it meets.
fn serve(kind: DriverKind, tell: Sender<SocketAddr>, groups: Vec<Meeting>) {
    let meet = |groups: Vec<Meeting>| {
        let meet = move || {
            groups.iter().for_each(Meeting::meet);
            groups
        };
        get_running_loop().run_in_executor(meet)
    };
    run_on(kind, move |event_loop| async move {
        let reports = Reports::of(&event_loop);
        let served = Rc::new(Served::default());
        let made = served.clone();
        let factory = move || Rc::new(Echo(made.clone(), std::cell::RefCell::default()));
        limit_descriptors(ROOM);
        let options = ServerOptions::new(own_addr().ip().to_string(), 0).backlog(1024);
        let server = event_loop
            .create_server(factory, options)
            .await
            .expect("it binds");
        let address = server.local_addrs()[0].as_inet();
        tell.send(address.expect("a TCP server"))
            .expect("the test waits");
        let groups = meet(groups).await.expect("they connect");
        reports.until(1).await;
        let core = event_loop.core().expect("a base loop").clone();
        let (iterations, before) = (core.iterations(), cpu());
        let started = std::time::Instant::now();
        sleep(WATCHED).await.expect("nobody cancels");
        let (used, passed) = (cpu() - before, started.elapsed());
        // A spin takes all it can get: thousands of iterations in the same time. Asking once a second
        // takes three, and a few for each.
        let turned = core.iterations() - iterations;
        assert!(turned < 50, "{turned} iterations");
        assert!(used < passed / 5, "{used:?} of {passed:?}");
        // Those accepted before the shortage, and nobody since.
        assert!(
            served.connected.get() as u64 <= ROOM,
            "there were descriptors for all"
        );
        assert_eq!(
            reports.messages(),
            ["socket.accept() out of system resource"]
        );
        meet(groups).await.expect("they wait");
        served
            .changes
            .until(|| (served.lost.get() == CLIENTS).then_some(()))
            .await;
        assert_eq!(served.connected.get(), CLIENTS);
        // Further episodes may have been reported, each once; nothing else was.
        let other = "socket.accept() out of system resource";
        assert!(reports.messages().iter().all(|message| message == other));
        server.close();
    });
}
