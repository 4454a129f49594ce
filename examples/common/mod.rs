//! What both examples share: their options, their signals, and an orderly end.

use ringloop::{
    Builder, DriverKind, EventLoopExt, Server, ServerOptions, Transport, block_on,
    get_running_loop, timeout, yield_now,
};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::process::ExitCode;
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

/// How long what is in flight may take to finish after the signal.
const GRACE: Duration = Duration::from_secs(5);

/// Which of the two programming interfaces serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Callbacks: the shortest way.
    Protocol,
    /// A task for each connection, with `await`.
    Stream,
}

pub struct Options {
    host: String,
    port: String,
    driver: DriverKind,
    pub api: Api,
}

const USAGE: &str = "options: --listen ADDR (default 127.0.0.1:7000)
         --driver auto|uring|epoll
         --api protocol|stream";

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut options = Self {
            host: "127.0.0.1".to_owned(),
            port: "7000".to_owned(),
            driver: DriverKind::Auto,
            api: Api::Stream,
        };
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what + "\n" + USAGE);
        while let Some(option) = args.next() {
            let value = args
                .next()
                .ok_or_else(|| wrong(format!("{option} needs a value")))?;
            match (option.as_str(), value.as_str()) {
                ("--listen", address) => {
                    let (host, port) = address
                        .rsplit_once(':')
                        .ok_or_else(|| wrong(format!("no port in {address}")))?;
                    options.host = host.trim_matches(['[', ']']).to_owned();
                    options.port = port.to_owned();
                }
                ("--driver", driver) => options.driver = driver.parse()?,
                ("--api", "protocol") => options.api = Api::Protocol,
                ("--api", "stream") => options.api = Api::Stream,
                _ => return Err(wrong(format!("{option} {value} means nothing"))),
            }
        }
        Ok(options)
    }

    /// Where to listen.
    pub fn server(&self) -> ServerOptions {
        ServerOptions::new(&*self.host, &*self.port).backlog(4096)
    }
}

/// What all connections share: who they are, and what they did.
#[derive(Default)]
pub struct Service {
    clients: RefCell<Slab<(Weak<dyn Transport>, bool)>>,
    stopping: Cell<bool>,
    accepted: Cell<u64>,
    answered: Cell<u64>,
    failed: Cell<u64>,
}

impl Service {
    /// A connection begins; it is counted until the value is dropped.
    pub fn connected(self: &Rc<Self>, transport: &Rc<dyn Transport>) -> Client {
        self.accepted.set(self.accepted.get() + 1);
        let id = self
            .clients
            .borrow_mut()
            .insert((Rc::downgrade(transport), false));
        Client {
            service: self.clone(),
            id,
        }
    }

    /// Stops accepting, closes idle connections, lets the others finish.
    async fn stop(&self, server: &Server) -> io::Result<()> {
        server.close();
        // What has arrived already is taken in first.
        yield_now().await?;
        yield_now().await?;
        self.stopping.set(true);
        let idle: Vec<_> = self
            .clients
            .borrow()
            .iter()
            .map(|(_, client)| client.clone())
            .collect();
        for (transport, busy) in idle {
            if let (Some(transport), false) = (transport.upgrade(), busy) {
                transport.close();
            }
        }
        if timeout(GRACE, server.wait_closed()).await.is_err() {
            server.abort_clients();
            server.wait_closed().await?;
        }
        Ok(())
    }
}

/// One connection of a [`Service`].
pub struct Client {
    service: Rc<Service>,
    id: usize,
}

impl Client {
    /// Something was answered.
    pub fn answered(&self) {
        self.service.answered.set(self.service.answered.get() + 1);
    }

    /// Something went wrong: a bad request, or a lost connection.
    pub fn failed(&self) {
        self.service.failed.set(self.service.failed.get() + 1);
    }

    /// Whether the server stops: an answer given now is the last one.
    pub fn is_stopping(&self) -> bool {
        self.service.stopping.get()
    }

    /// Says whether there is something to finish. Idle connections of a server that stops are closed.
    pub fn set_busy(&self, busy: bool) {
        self.service.clients.borrow_mut()[self.id].1 = busy;
        if self.is_stopping() && !busy {
            let transport = self.service.clients.borrow()[self.id].0.upgrade();
            if let Some(transport) = transport {
                transport.close();
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.service.clients.borrow_mut().remove(self.id);
    }
}

/// Runs the server that `start` makes until SIGTERM or SIGINT.
pub fn main<S>(start: S) -> ExitCode
where
    S: AsyncFnOnce(&Options, &Rc<Service>) -> io::Result<Server> + 'static,
{
    match run(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run<S>(start: S) -> io::Result<()>
where
    S: AsyncFnOnce(&Options, &Rc<Service>) -> io::Result<Server> + 'static,
{
    let options = Options::from_args(std::env::args().skip(1))?;
    // Every connection is a descriptor.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    // Blocked before any thread exists, so that only the one that waits for them sees them.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block()?;

    let event_loop = Builder::new().driver(options.driver).build()?;
    block_on(&event_loop, async move {
        let event_loop = get_running_loop();
        let service = Rc::new(Service::default());
        let server = start(&options, &service).await?;
        for address in server.local_addrs() {
            let driver = event_loop
                .core()
                .map(|core| core.driver_kind())
                .unwrap_or_default();
            println!("listening on {address} (driver: {driver})");
        }
        event_loop.run_in_executor(move || signals.wait()).await??;
        service.stop(&server).await?;
        println!(
            "{} connections, {} answers, {} failures",
            service.accepted.get(),
            service.answered.get(),
            service.failed.get()
        );
        Ok(())
    })?
}
