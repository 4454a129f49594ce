//! A loop around a base loop that can be told to answer otherwise.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};

use ringloop::driver::{DriverKind, Op};
use ringloop::event_loop::{
    AddrInfo, Hints, LocalBoxFuture, SocketType, TimerHandle, TransportFactory,
};
use ringloop::task::CallBody;
use ringloop::transport::DefaultTransports;
use ringloop::{AbstractEventLoop, BaseEventLoop, LoopError};

use crate::layer::Scripted;

/// Answers a name.
pub type Resolver = Box<dyn Fn(Option<&str>, &str) -> Vec<AddrInfo>>;

/// What a thread was to do.
pub type Job = Box<dyn FnOnce() + Send>;

/// A loop that wraps a base loop.
pub struct Wrapper {
    base: BaseEventLoop,
    /// Answers instead of the system's resolver.
    pub resolver: RefCell<Option<Resolver>>,
    /// How often a name was to be resolved.
    pub resolved: Cell<u32>,
    /// How often a thread was asked for.
    pub jobs: Cell<u32>,
    /// Jobs are kept instead of run.
    pub hold_jobs: Cell<bool>,
    /// The jobs that were kept.
    pub held_jobs: RefCell<Vec<Job>>,
    /// The delays of all timers, in nanoseconds from when the clock was last looked at.
    pub delays: RefCell<Vec<u64>>,
    /// What the clock said then.
    looked: Cell<u64>,
    /// Timers get this delay instead of their own.
    pub delay: Cell<Option<u64>>,
    /// The clock is ahead of the base loop's by so many nanoseconds.
    pub shift: Cell<u64>,
    /// What the next multishot accepts answer, as errnos.
    pub accepts: Rc<RefCell<VecDeque<i32>>>,
}

impl Wrapper {
    /// A new one on that driver.
    ///
    /// # Panics
    /// When the driver is not to be had.
    pub fn new(kind: DriverKind) -> Rc<Self> {
        let accepts = Rc::<RefCell<VecDeque<i32>>>::default();
        let errnos = accepts.clone();
        let driver = Box::new(Scripted::new(kind, move |op| match op {
            Op::AcceptMulti { .. } => errnos.borrow_mut().pop_front().map(|errno| -errno),
            _ => None,
        }));
        let factory: Rc<dyn TransportFactory> = Rc::new(DefaultTransports);
        Rc::new_cyclic(|me: &Weak<Self>| Self {
            base: BaseEventLoop::new(driver, factory, me.clone()),
            resolver: RefCell::default(),
            resolved: Cell::default(),
            jobs: Cell::default(),
            hold_jobs: Cell::default(),
            held_jobs: RefCell::default(),
            delays: RefCell::default(),
            looked: Cell::default(),
            delay: Cell::default(),
            shift: Cell::default(),
            accepts,
        })
    }

    /// Resolves every name to these addresses.
    pub fn resolve_to(&self, addresses: &[&str]) {
        let infos: Vec<_> = addresses.iter().map(|address| stream(address)).collect();
        self.resolve_with(move |_, _| infos.clone());
    }

    /// Resolves names with `resolver`.
    pub fn resolve_with(&self, resolver: impl Fn(Option<&str>, &str) -> Vec<AddrInfo> + 'static) {
        *self.resolver.borrow_mut() = Some(Box::new(resolver));
    }
}

/// An answer for streams.
///
/// # Panics
/// When it is no address.
pub fn stream(address: &str) -> AddrInfo {
    AddrInfo {
        address: address.parse().expect("an address with a port"),
        socket_type: SocketType::Stream,
        proto: libc::IPPROTO_TCP,
        canonical_name: None,
    }
}

impl AbstractEventLoop for Wrapper {
    fn base(&self) -> Option<&dyn AbstractEventLoop> {
        Some(&self.base)
    }

    fn getaddrinfo(
        &self,
        host: Option<String>,
        port: String,
        hints: Hints,
    ) -> LocalBoxFuture<io::Result<Vec<AddrInfo>>> {
        self.resolved.set(self.resolved.get() + 1);
        match &*self.resolver.borrow() {
            Some(resolver) => Box::pin(std::future::ready(Ok(resolver(host.as_deref(), &port)))),
            None => self.base.getaddrinfo(host, port, hints),
        }
    }

    fn run_in_executor_dyn(&self, job: Job) -> io::Result<()> {
        self.jobs.set(self.jobs.get() + 1);
        if self.hold_jobs.get() {
            self.held_jobs.borrow_mut().push(job);
            return Ok(());
        }
        self.base.run_in_executor_dyn(job)
    }

    fn time(&self) -> u64 {
        let now = self.base.time() + self.shift.get();
        self.looked.set(now);
        now
    }

    fn call_at_dyn(
        &self,
        when: u64,
        callback: &mut dyn CallBody,
    ) -> Result<TimerHandle, LoopError> {
        let asked = when.saturating_sub(self.looked.get());
        self.delays.borrow_mut().push(asked);
        let when = when.saturating_sub(self.shift.get());
        let now = self.base.time();
        let when = self
            .delay
            .get()
            .map_or(when, |delay| now.saturating_add(delay));
        self.base.call_at_dyn(when, callback)
    }
}
