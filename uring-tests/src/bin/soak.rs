//! Mixed traffic for a long time, on one loop, and the proof that nothing stays behind.
//!
//!     cargo run --release -p uring-tests --bin soak -- [--minutes 10] [--driver auto] [--seed N]
//!
//! Rounds of a second: workers connect over TCP and Unix sockets to a stream server and to a protocol
//! server, check what is echoed, disconnect at random (orderly, by abort, in the middle of a message),
//! run into timeouts, and are cancelled. Between two rounds nothing runs, and everything is counted:
//! operations in flight, tasks, leases and descriptors must be what they were before the first one. The
//! bytes on the heap (all live allocations of the process, counted by the allocator) must be at the end
//! at most 1.05 times what they were after the warm-up of two minutes. Kept buffers of all lengths make
//! that number vary by a tenth from round to round, so two means are compared: of the first and of the
//! second half of the rounds after the warm-up. Exits with 1 otherwise, and says the seed, with which the
//! same choices are made again.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringloop::stream::{
    StreamReader, StreamWriter, open_connection, open_unix_connection, start_server,
    start_unix_server,
};
use ringloop::{
    AbstractEventLoop, BaseProtocol, Builder, ConnectOptions, DriverKind, EventLoopExt, Lease,
    Protocol, Server, ServerOptions, Transport, UnixConnectOptions, UnixServerOptions, block_on,
    sleep, timeout, yield_now,
};
use uring_tests::heap::{self, Counting};
use uring_tests::{Rng, TempDir, open_fds};

#[global_allocator]
static HEAP: Counting = Counting;

/// Workers that run at the same time.
const WORKERS: usize = 100;
/// At most so much more on the heap at the end, in hundredths.
const GROWTH: usize = 105;
/// The same for a run that is too short to say anything about small leaks.
const SHORT_GROWTH: usize = 300;
const PROGRESS: Duration = Duration::from_secs(10);

struct Plan {
    driver: DriverKind,
    seed: u64,
    warm_up: Duration,
    whole: Duration,
    round: Duration,
    growth: usize,
}

fn plan() -> Result<Plan, String> {
    let mut plan = Plan {
        driver: DriverKind::Auto,
        seed: Rng::new().next_u64(),
        warm_up: Duration::from_secs(120),
        whole: Duration::from_secs(600),
        round: Duration::from_secs(1),
        growth: GROWTH,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|error| format!("{arg}: {error}"))
        };
        match arg.as_str() {
            "--minutes" => plan.whole = Duration::from_secs(60 * number()?),
            // For the suite's short one.
            "--seconds" => {
                plan.whole = Duration::from_secs(number()?);
                plan.round = plan.whole / 10;
                plan.growth = SHORT_GROWTH;
            }
            "--seed" => plan.seed = number()?,
            "--driver" => plan.driver = value.parse().map_err(|error| format!("{error}"))?,
            _ => return Err(format!("{arg} is not known")),
        }
    }
    plan.warm_up = plan.warm_up.min(plan.whole / 2);
    Ok(plan)
}

/// What was done so far.
#[derive(Default)]
struct Done {
    connections: Cell<u64>,
    bytes: Cell<u64>,
    aborted: Cell<u64>,
    timeouts: Cell<u64>,
    cancelled: Cell<u64>,
    wrong: Cell<u64>,
}

fn add(to: &Cell<u64>, count: u64) {
    to.set(to.get() + count);
}

/// Where the servers are.
struct Servers {
    streams: SocketAddr,
    protocols: SocketAddr,
    unix: PathBuf,
    all: Vec<Server>,
}

struct Echo(RefCell<Option<Rc<dyn Transport>>>);

impl BaseProtocol for Echo {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        *self.0.borrow_mut() = Some(transport);
    }
    fn connection_lost(&self, _error: Option<io::Error>) {
        self.0.take();
    }
}

impl Protocol for Echo {
    fn data_received(&self, data: Lease) {
        let transport = self.0.borrow().clone();
        if let Some(transport) = transport {
            // Refused once the connection is closing.
            let _ = transport.write_chunk(data.into());
        }
    }
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) {
    // Peers that go in the middle are what this is about.
    while let Ok(Some(data)) = reader.read_lease().await {
        if writer.write_lease(data).is_err() || writer.drain().await.is_err() {
            break;
        }
    }
    writer.close();
}

async fn servers(event_loop: &Rc<dyn AbstractEventLoop>, unix: PathBuf) -> io::Result<Servers> {
    let any = || ServerOptions::new("127.0.0.1", 0).backlog(1024);
    let streams = start_server(echo, any()).await?;
    let factory = || Rc::new(Echo(RefCell::default()));
    let protocols = event_loop.create_server(factory, any()).await?;
    let options = UnixServerOptions::new(&unix).backlog(1024);
    let local = start_unix_server(echo, options).await?;
    let to = |server: &Server| {
        let address = server.sockets()[0].local_addr().and_then(|at| at.as_inet());
        address.expect("an IP socket has an address")
    };
    Ok(Servers {
        streams: to(&streams),
        protocols: to(&protocols),
        unix,
        all: vec![streams, protocols, local],
    })
}

fn connect(to: SocketAddr) -> ConnectOptions {
    ConnectOptions::new(to.ip().to_string(), to.port())
}

/// One connection of random length and end.
async fn connection(servers: Rc<Servers>, done: Rc<Done>, seed: u64) -> io::Result<()> {
    let mut rng = Rng::with_seed(seed);
    let (mut reader, writer) = match rng.below(3) {
        0 => open_connection(connect(servers.streams)).await?,
        1 => open_connection(connect(servers.protocols)).await?,
        _ => open_unix_connection(UnixConnectOptions::new(&servers.unix)).await?,
    };
    add(&done.connections, 1);
    for _ in 0..rng.below(20) {
        let len = match rng.below(10) {
            0 => 1 + rng.below(100_000),
            _ => 1 + rng.below(2_000),
        };
        let sent = rng.bytes(len);
        writer.write(&sent)?;
        if rng.chance(1, 20) {
            // In the middle of a message.
            writer.transport().abort();
            add(&done.aborted, 1);
            return Ok(());
        }
        if rng.chance(1, 10) {
            // A read that gives up loses nothing.
            let patience = Duration::from_micros(rng.below(300) as u64);
            let read = timeout(patience, reader.fill_buf()).await;
            add(&done.timeouts, u64::from(read.is_err()));
        }
        let echoed = reader.readexactly(sent.len()).await?;
        if echoed != sent {
            add(&done.wrong, 1);
            return Err(io::Error::other("other bytes came back"));
        }
        add(&done.bytes, sent.len() as u64);
    }
    if rng.chance(1, 10) {
        writer.write_eof()?;
        let rest = reader.read_to_end().await?;
        add(&done.wrong, u64::from(!rest.is_empty()));
        writer.close();
        let _ = writer.wait_closed().await;
    } else {
        // Leaves no port behind that has to wait for its peer.
        writer.transport().abort();
    }
    Ok(())
}

/// One connection after the other, until the round is over.
async fn worker(servers: Rc<Servers>, done: Rc<Done>, seed: u64, until: Instant) {
    let mut rng = Rng::with_seed(seed);
    let event_loop = ringloop::get_running_loop();
    while Instant::now() < until {
        let running = connection(servers.clone(), done.clone(), rng.next_u64());
        if rng.chance(1, 5) {
            let Ok(task) = event_loop.create_task(running) else {
                return;
            };
            for _ in 0..rng.below(30) {
                let _ = yield_now().await;
            }
            task.cancel();
            let cancelled = task.await.is_err_and(|error| error.is_cancelled());
            add(&done.cancelled, u64::from(cancelled));
        } else if let Err(error) = running.await
            && error.raw_os_error() != Some(libc::EADDRNOTAVAIL)
        {
            eprintln!("soak: a connection failed: {error}");
            add(&done.wrong, 1);
        } else {
            let _ = sleep(Duration::from_micros(rng.below(200) as u64)).await;
        }
    }
}

#[derive(Default)]
struct Mean {
    sum: usize,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: usize) {
        self.sum += value;
        self.count += 1;
    }

    fn of_all(&self) -> usize {
        self.sum / self.count.max(1)
    }
}

/// What must be the same between all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    operations: usize,
    tasks: usize,
    leases: usize,
    descriptors: usize,
}

fn held(event_loop: &Rc<dyn AbstractEventLoop>) -> Held {
    let stats = event_loop.core().expect("a base loop").stats();
    Held {
        operations: stats.live_operations,
        tasks: stats.tasks,
        leases: stats.lent_buffers,
        descriptors: open_fds(),
    }
}

/// Gives way until what the round began has ended; what there is then.
async fn at_rest(event_loop: &Rc<dyn AbstractEventLoop>, wanted: Held) -> Held {
    for _ in 0..2_000 {
        if held(event_loop) == wanted {
            break;
        }
        let _ = sleep(Duration::from_millis(5)).await;
    }
    held(event_loop)
}

async fn soak(
    event_loop: Rc<dyn AbstractEventLoop>,
    plan: Plan,
    unix: PathBuf,
) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    // Whatever is made at first use is made.
    drop(event_loop.run_in_executor(|| ()).await);
    let servers = Rc::new(servers(&event_loop, unix).await.map_err(failed)?);
    let done = Rc::new(Done::default());
    let (began, mut said) = (Instant::now(), Instant::now());
    let mut rng = Rng::with_seed(plan.seed);
    yield_now().await.map_err(|error| error.to_string())?;
    let first = held(&event_loop);
    // A cancelled client leaves its writer unclosed; anything else that is reported is a failure.
    let reported = done.clone();
    event_loop.set_exception_handler(Some(Rc::new(move |context| {
        if !context.message.starts_with("unclosed <StreamWriter") {
            eprintln!("soak: {context}");
            add(&reported.wrong, 1);
        }
    })));
    let middle = plan.warm_up + (plan.whole - plan.warm_up) / 2;
    let (mut warm, mut last) = (Mean::default(), Mean::default());
    while began.elapsed() < plan.whole {
        let until = Instant::now() + plan.round;
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| worker(servers.clone(), done.clone(), rng.next_u64(), until))
            .filter_map(|worker| event_loop.create_task(worker).ok())
            .collect();
        for worker in workers {
            worker
                .await
                .map_err(|error| format!("a worker failed: {error}"))?;
        }
        let now = at_rest(&event_loop, first).await;
        if now != first {
            return Err(format!("{now:?} is held after a round, {first:?} before"));
        }
        if done.wrong.get() > 0 {
            return Err(format!("{} things went wrong", done.wrong.get()));
        }
        let (heap, passed) = (heap::held(), began.elapsed());
        if passed >= middle {
            last.add(heap);
        } else if passed >= plan.warm_up {
            warm.add(heap);
        }
        if said.elapsed() >= PROGRESS || began.elapsed() >= plan.whole {
            said = Instant::now();
            println!(
                "{:4} s: {} connections, {} MB echoed, {} aborted, {} timeouts, {} cancelled; heap {} KiB",
                began.elapsed().as_secs(),
                done.connections.get(),
                done.bytes.get() / 1_000_000,
                done.aborted.get(),
                done.timeouts.get(),
                done.cancelled.get(),
                heap / 1024,
            );
        }
    }
    for server in &servers.all {
        server.close();
    }
    if warm.count == 0 {
        // A short run on a slow machine, which says nothing of the heap.
        warm = Mean {
            sum: last.sum,
            count: last.count,
        };
    }
    let (rounds, warm, heap) = (last.count, warm.of_all(), last.of_all());
    println!(
        "heap: {} KiB after the warm-up, {} KiB at the end (of {rounds} rounds)",
        warm / 1024,
        heap / 1024
    );
    if heap * 100 > warm * plan.growth {
        return Err(format!("the heap grew from {warm} to {heap} bytes"));
    }
    let idle = [
        &done.connections,
        &done.bytes,
        &done.aborted,
        &done.timeouts,
        &done.cancelled,
    ];
    if idle.iter().any(|count| count.get() == 0) {
        return Err("something was not tried at all".to_owned());
    }
    Ok(())
}

fn run() -> Result<(), String> {
    let plan = plan()?;
    let event_loop = Builder::new().driver(plan.driver).build();
    let event_loop = event_loop.map_err(|error| error.to_string())?;
    let core = event_loop.core().expect("a base loop").clone();
    println!(
        "soak: {} s on {}, seed {}",
        plan.whole.as_secs(),
        core.driver_kind(),
        plan.seed
    );
    let dir = TempDir::new();
    let main = soak(event_loop.clone(), plan, dir.join("socket"));
    block_on(&event_loop, main).map_err(|error| error.to_string())??;
    match core.stats().leaked_operations {
        0 => Ok(()),
        leaked => Err(format!("{leaked} operations did not come back")),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            println!("soak: passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("soak: failed: {error}");
            ExitCode::FAILURE
        }
    }
}
