//! Protocols that write down what they are told.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ringloop::protocol::{BaseProtocol, BufferedProtocol, Protocol, ProtocolKind};
use ringloop::{Lease, Transport};

/// A callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Made,
    Data,
    Eof,
    Lost,
    Pause,
    Resume,
}

type Hook = Rc<dyn Fn(&Recorder, Call)>;
type Taker = Rc<dyn Fn(&Recorder, Lease)>;

/// Writes down its callbacks, and does in them what the test says.
#[derive(Default)]
pub struct Recorder {
    calls: RefCell<Vec<Call>>,
    data: RefCell<Vec<u8>>,
    deliveries: Cell<usize>,
    lost: RefCell<Option<Option<io::Error>>>,
    transport: RefCell<Option<Rc<dyn Transport>>>,
    keep_open: Cell<bool>,
    hook: RefCell<Option<Hook>>,
    taker: RefCell<Option<Taker>>,
    other: RefCell<Option<ProtocolKind>>,
    wakers: RefCell<Vec<Waker>>,
}

impl Recorder {
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// One that calls `hook` inside each callback, after writing it down.
    pub fn with(hook: impl Fn(&Self, Call) + 'static) -> Rc<Self> {
        let this = Self::new();
        this.hook(hook);
        this
    }

    /// Sets what happens inside the callbacks from now on.
    pub fn hook(&self, hook: impl Fn(&Self, Call) + 'static) {
        *self.hook.borrow_mut() = Some(Rc::new(hook));
    }

    /// Sets who gets the received leases from now on; otherwise they are dropped.
    pub fn take_leases(&self, taker: impl Fn(&Self, Lease) + 'static) {
        *self.taker.borrow_mut() = Some(Rc::new(taker));
    }

    /// One that sends back the very buffers it receives.
    pub fn echo() -> Rc<Self> {
        let this = Self::new();
        this.take_leases(|me, lease| {
            let sent = me.transport().write_chunk(lease.into());
            sent.expect("nobody called write_eof");
        });
        this
    }

    /// Received leases are dropped from now on.
    pub fn forget_leases(&self) {
        drop(self.taker.take());
    }

    /// Sets what [`Recorder::other`] gives.
    pub fn set_other(&self, other: ProtocolKind) {
        *self.other.borrow_mut() = Some(other);
    }

    /// The protocol to change to.
    pub fn other(&self) -> ProtocolKind {
        let other = self.other.borrow();
        other.clone().expect("the test set it")
    }

    /// Undoes [`Recorder::set_other`]: the two may hold each other.
    pub fn forget_other(&self) {
        drop(self.other.take());
    }

    /// `eof_received` returns true from now on.
    pub fn keep_open(self: Rc<Self>) -> Rc<Self> {
        self.keep_open.set(true);
        self
    }

    /// The callbacks so far, several deliveries of data in a row as one.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    pub fn count(&self, call: Call) -> usize {
        let calls = self.calls.borrow();
        calls.iter().filter(|seen| **seen == call).count()
    }

    pub fn has(&self, call: Call) -> bool {
        self.count(call) > 0
    }

    /// What was received so far.
    pub fn data(&self) -> Vec<u8> {
        self.data.borrow().clone()
    }

    /// How many bytes that is.
    pub fn received(&self) -> usize {
        self.data.borrow().len()
    }

    /// How often data was delivered.
    pub fn deliveries(&self) -> usize {
        self.deliveries.get()
    }

    /// The transport, from `connection_made` on.
    pub fn transport(&self) -> Rc<dyn Transport> {
        let transport = self.transport.borrow();
        transport.clone().expect("the connection was made")
    }

    /// Forgets the transport, as a protocol does that holds it no longer.
    pub fn forget(&self) {
        drop(self.transport.take());
    }

    /// The error `connection_lost` came with: its kind.
    pub fn lost_with(&self) -> Option<io::ErrorKind> {
        let lost = self.lost.borrow();
        let error = lost.as_ref().expect("the connection is lost");
        error.as_ref().map(io::Error::kind)
    }

    /// The error `connection_lost` came with, as text; empty for none.
    pub fn lost_text(&self) -> String {
        let lost = self.lost.borrow();
        let error = lost.as_ref().expect("the connection is lost");
        error.as_ref().map(io::Error::to_string).unwrap_or_default()
    }

    /// Waits until it is so; looked at after every callback.
    pub async fn until(&self, so: impl Fn(&Self) -> bool) {
        poll_fn(|cx| {
            if so(self) {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits for the first call of this callback.
    pub async fn wait(&self, call: Call) {
        self.until(|me| me.has(call)).await;
    }

    /// Waits until so many bytes were received in all.
    pub async fn wait_received(&self, len: usize) {
        self.until(|me| me.received() >= len).await;
    }

    fn note(&self, call: Call) {
        let mut calls = self.calls.borrow_mut();
        if call != Call::Data || calls.last() != Some(&Call::Data) {
            calls.push(call);
        }
        drop(calls);
        let wakers = self.wakers.take();
        let hook = self.hook.borrow().clone();
        // Woken even when the hook panics.
        let _wake = Wake(wakers);
        if let Some(hook) = hook {
            hook(self, call);
        }
    }
}

struct Wake(Vec<Waker>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl BaseProtocol for Recorder {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        *self.transport.borrow_mut() = Some(transport);
        self.note(Call::Made);
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        let before = self.lost.replace(Some(error));
        assert!(before.is_none(), "connection_lost was called twice");
        self.note(Call::Lost);
    }

    fn pause_writing(&self) {
        self.note(Call::Pause);
    }

    fn resume_writing(&self) {
        self.note(Call::Resume);
    }
}

impl Protocol for Recorder {
    fn data_received(&self, data: Lease) {
        assert!(!data.is_empty(), "data_received without data");
        self.data.borrow_mut().extend_from_slice(&data);
        self.deliveries.set(self.deliveries.get() + 1);
        let taker = self.taker.borrow().clone();
        if let Some(taker) = taker {
            taker(self, data);
        }
        self.note(Call::Data);
    }

    fn eof_received(&self) -> bool {
        self.note(Call::Eof);
        self.keep_open.get()
    }
}

/// A recorder behind buffers of its own.
pub struct Buffered {
    pub recorder: Rc<Recorder>,
    /// How large the next buffers are.
    pub size: Cell<usize>,
    /// The hints it was asked with.
    pub hints: RefCell<Vec<Option<usize>>>,
    /// Panics with this in the next `get_buffer`.
    pub fail_get: Cell<bool>,
    /// The next `get_buffer` is counted from 1.
    pub gets: Cell<usize>,
    pub updates: Cell<usize>,
    getting: RefCell<Option<Getting>>,
}

type Getting = Box<dyn Fn(&Recorder)>;

impl Buffered {
    pub fn new(recorder: &Rc<Recorder>, size: usize) -> Rc<Self> {
        Rc::new(Self {
            recorder: recorder.clone(),
            size: Cell::new(size),
            hints: RefCell::default(),
            fail_get: Cell::new(false),
            gets: Cell::new(0),
            updates: Cell::new(0),
            getting: RefCell::default(),
        })
    }

    /// Sets what happens inside `get_buffer`.
    pub fn on_get(&self, getting: impl Fn(&Recorder) + 'static) {
        *self.getting.borrow_mut() = Some(Box::new(getting));
    }

    pub fn kind(self: &Rc<Self>) -> ProtocolKind {
        ProtocolKind::Buffered(self.clone())
    }
}

impl BaseProtocol for Buffered {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.recorder.connection_made(transport);
    }
    fn connection_lost(&self, error: Option<io::Error>) {
        self.recorder.connection_lost(error);
    }
    fn pause_writing(&self) {
        self.recorder.pause_writing();
    }
    fn resume_writing(&self) {
        self.recorder.resume_writing();
    }
}

impl BufferedProtocol for Buffered {
    fn get_buffer(&self, size_hint: Option<usize>) -> Vec<u8> {
        self.gets.set(self.gets.get() + 1);
        self.hints.borrow_mut().push(size_hint);
        assert!(!self.fail_get.get(), "no buffer today");
        if let Some(getting) = &*self.getting.borrow() {
            getting(&self.recorder);
        }
        vec![0; self.size.get()]
    }

    fn buffer_updated(&self, buffer: Vec<u8>, n: usize) {
        self.updates.set(self.updates.get() + 1);
        self.recorder
            .data
            .borrow_mut()
            .extend_from_slice(&buffer[..n]);
        self.recorder.note(Call::Data);
    }

    fn eof_received(&self) -> bool {
        self.recorder.eof_received()
    }
}
