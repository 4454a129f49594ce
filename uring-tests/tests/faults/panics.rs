//! A panic in code of the program: the loop and the other connections live on, and it is reported once.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use ringloop::{
    AbstractEventLoop, BaseProtocol, BufferedProtocol, EventLoopExt, Lease, Protocol, ProtocolKind,
    Transport, yield_now,
};
use uring_tests::lab::{Lab, lab};
use uring_tests::net::Changes;
use uring_tests::on_both_drivers;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Made,
    Data,
    Eof,
    Lost,
    Pause,
    Resume,
    GetBuffer,
    BufferUpdated,
    Nowhere,
}

/// Echoes, and panics in one callback, the first time.
struct Fragile {
    at: At,
    panicked: Cell<bool>,
    echoes: bool,
    received: Cell<usize>,
    over: Cell<bool>,
    transport: RefCell<Option<Rc<dyn Transport>>>,
    changes: Changes,
}

impl Fragile {
    fn new(at: At, echoes: bool) -> Rc<Self> {
        Rc::new(Self {
            at,
            panicked: Cell::new(false),
            echoes,
            received: Cell::new(0),
            over: Cell::new(false),
            transport: RefCell::default(),
            changes: Changes::default(),
        })
    }

    fn comes(&self, at: At) {
        self.changes.happened();
        if at == At::Lost {
            self.over.set(true);
            self.transport.take();
        }
        if at == self.at && !self.panicked.replace(true) {
            panic!("in {at:?}");
        }
    }

    fn transport(&self) -> Rc<dyn Transport> {
        self.transport.borrow().clone().expect("connected")
    }

    fn got(&self, data: &[u8]) {
        self.received.set(self.received.get() + data.len());
        if self.echoes && self.transport.borrow().is_some() {
            // Refused once the connection is closing.
            let _ = self.transport().write(data);
        }
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        self.changes.until(|| what(self).then_some(())).await;
    }
}

impl BaseProtocol for Fragile {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        *self.transport.borrow_mut() = Some(transport);
        self.comes(At::Made);
    }
    fn connection_lost(&self, _error: Option<io::Error>) {
        self.comes(At::Lost);
    }
    fn pause_writing(&self) {
        self.comes(At::Pause);
    }
    fn resume_writing(&self) {
        self.comes(At::Resume);
    }
}

impl Protocol for Fragile {
    fn data_received(&self, data: Lease) {
        self.got(&data);
        self.comes(At::Data);
    }
    fn eof_received(&self) -> bool {
        self.comes(At::Eof);
        false
    }
}

/// The same, filling its own buffers.
struct Filling(Rc<Fragile>);

impl BaseProtocol for Filling {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        self.0.connection_made(transport);
    }
    fn connection_lost(&self, error: Option<io::Error>) {
        self.0.connection_lost(error);
    }
}

impl BufferedProtocol for Filling {
    fn get_buffer(&self, _hint: Option<usize>) -> Vec<u8> {
        self.0.comes(At::GetBuffer);
        vec![0; 64]
    }
    fn buffer_updated(&self, buffer: Vec<u8>, n: usize) {
        self.0.got(&buffer[..n]);
        self.0.comes(At::BufferUpdated);
    }
    fn eof_received(&self) -> bool {
        false
    }
}

/// Enough for every buffer on the way to be full.
const FLOOD: usize = 4 << 20;

/// Two connections that have nothing to do with each other: the second one works after the first one's
/// panic, whatever became of that.
async fn one_panics(lab: &Lab, at: At) {
    let pair = || std::os::unix::net::UnixStream::pair().expect("a pair");
    let (near, far) = pair();
    let fragile = Fragile::new(at, true);
    let protocol = match at {
        At::GetBuffer | At::BufferUpdated => {
            ProtocolKind::Buffered(Rc::new(Filling(fragile.clone())))
        }
        _ => fragile.clone().into(),
    };
    let peer = Fragile::new(At::Nowhere, false);
    let near = lab.transport(near, protocol).await;
    let far = lab.transport(far, peer.clone()).await;
    if matches!(at, At::Pause | At::Resume) {
        far.pause_reading();
        near.write(&vec![1; FLOOD]).expect("it is open");
        if at == At::Resume {
            far.resume_reading();
        }
    }
    far.write(b"hello").expect("it is open");
    if matches!(at, At::Eof | At::Lost) {
        peer.until(|peer| peer.received.get() == 5).await;
        far.write_eof().expect("it is open");
    }
    fragile.until(|fragile| fragile.panicked.get()).await;
    // The other connection, begun before and used after.
    let (left, right) = pair();
    let (echo, client) = (
        Fragile::new(At::Nowhere, true),
        Fragile::new(At::Nowhere, false),
    );
    let left = lab.transport(left, echo.clone()).await;
    let right = lab.transport(right, client.clone()).await;
    right.write(&[7; 1000]).expect("it is open");
    client.until(|client| client.received.get() == 1000).await;
    for transport in [near, far, left, right] {
        transport.abort();
    }
    for protocol in [&fragile, &peer, &echo, &client] {
        protocol.until(|protocol| protocol.over.get()).await;
    }
    let reports = lab.reports();
    let panics: Vec<String> = reports
        .iter()
        .filter_map(|report| report.exception.as_ref().map(ToString::to_string))
        .filter(|text| text.contains(&format!("in {at:?}")))
        .collect();
    assert_eq!(panics.len(), 1, "{at:?}: {reports:?}");
    assert_eq!(reports.len(), 1, "{at:?}: {reports:?}");
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

async fn still_turns(lab: &Lab) {
    let ran = Rc::new(Cell::new(false));
    let set = ran.clone();
    lab.event_loop
        .call_soon(move || set.set(true))
        .expect("it is open");
    yield_now().await.expect("nobody cancels");
    yield_now().await.expect("nobody cancels");
    assert!(ran.get());
}

on_both_drivers! {
    fn a_panic_in_a_protocol_is_its_own_affair(kind: DriverKind) {
        lab(kind, |lab| async move {
            use At::*;
            for at in [Made, Data, Eof, Lost, Pause, Resume, GetBuffer, BufferUpdated] {
                one_panics(&lab, at).await;
            }
        });
    }

    fn a_panic_in_tasks_callbacks_and_destructors_is_reported_once(kind: DriverKind) {
        lab(kind, |lab| async move {
            let l: &Rc<dyn AbstractEventLoop> = &lab.event_loop;
            drop(l.create_task(async { panic!("in a task") }).unwrap());
            still_turns(&lab).await;
            assert_eq!(lab.messages().len(), 1);
            l.call_soon(|| panic!("in a callback")).unwrap();
            still_turns(&lab).await;
            assert_eq!(lab.messages().len(), 1);
            // In a destructor: of what a callback captured, of a task's body, of its output.
            let held = PanicsWhenDropped;
            l.call_soon(move || drop(held)).unwrap();
            still_turns(&lab).await;
            assert_eq!(lab.messages().len(), 1);
            let held = PanicsWhenDropped;
            let task = l.create_task(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            yield_now().await.unwrap();
            task.unwrap().abort();
            still_turns(&lab).await;
            assert_eq!(lab.messages().len(), 1);
            drop(l.create_task(async { PanicsWhenDropped }).unwrap());
            still_turns(&lab).await;
            assert_eq!(lab.messages().len(), 1);
        });
    }
}
