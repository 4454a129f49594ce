//! More clients than descriptors.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use ringloop::{
    BaseProtocol, DriverKind, EventLoopExt, Lease, Protocol, ServerOptions, Transport, sleep,
};
use uring_tests::lab::alone;
use uring_tests::net::{Changes, Reports, own_addr, run_on};
use uring_tests::{isolated, on_both_drivers};

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

/// The highest descriptor this process may have is `ROOM` above the next one.
fn limit_descriptors() {
    let probe = std::fs::File::open("/dev/null").expect("a descriptor is free");
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes the structure.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    limit.rlim_cur = probe.as_raw_fd() as u64 + ROOM;
    // SAFETY: reads the structure.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the structure.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Connects, waits for the others' word, and checks that each is echoed. In a descriptor table of its
/// own.
fn clients(number: usize, address: SocketAddr, connected: &Barrier, go: &Barrier) {
    let mut streams: Vec<TcpStream> = (0..TOGETHER)
        .map(|_| TcpStream::connect(address).expect("the queue takes all"))
        .collect();
    connected.wait();
    go.wait();
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
            let groups = CLIENTS / TOGETHER;
            let connected = Arc::new(Barrier::new(groups + 1));
            let go = Arc::new(Barrier::new(groups + 1));
            let address = own_addr();
            // The port is chosen here, so that the clients can know it.
            let address = std::net::TcpListener::bind(address).and_then(|l| l.local_addr()).expect("loopback");
            std::thread::scope(|scope| {
                let (ready, listening) = std::sync::mpsc::channel();
                let (here, there) = (connected.clone(), go.clone());
                scope.spawn(move || alone(|| serve(kind, address, &ready, &here, &there)));
                listening.recv().expect("it listens");
                for number in 0..groups {
                    let (here, there) = (&connected, &go);
                    scope.spawn(move || alone(|| clients(number, address, here, there)));
                }
            });
        });
    }
}

fn serve(
    kind: DriverKind,
    address: SocketAddr,
    ready: &std::sync::mpsc::Sender<()>,
    connected: &Arc<Barrier>,
    go: &Arc<Barrier>,
) {
    let (ready, connected, go) = (ready.clone(), connected.clone(), go.clone());
    run_on(kind, |event_loop| async move {
        let reports = Reports::of(&event_loop);
        let served = Rc::new(Served::default());
        let made = served.clone();
        let factory = move || Rc::new(Echo(made.clone(), std::cell::RefCell::default()));
        limit_descriptors();
        let options = ServerOptions::new(address.ip().to_string(), address.port()).backlog(1024);
        let server = event_loop
            .create_server(factory, options)
            .await
            .expect("it binds");
        ready.send(()).expect("the test waits");
        let all_there = event_loop.run_in_executor(move || connected.wait().is_leader());
        all_there.await.expect("they connect");
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
        let release = event_loop.run_in_executor(move || go.wait().is_leader());
        release.await.expect("they wait");
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
