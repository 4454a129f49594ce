//! Code of others in odd places: destructors and wakers that call back into the loop, or panic.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use ringloop::driver::{
    Complete, Completion, Completions, Driver, Event, Fd, Gather, Key, MAX_VECTORS, Op, OpTable,
    Park, Target,
};
use ringloop::event_loop::{AtIterationEnd, Core, Operation};
use ringloop::{AbstractEventLoop, Builder, Chunk, EventLoopExt, ServerOptions, yield_now};
use uring_tests::drive::{Rig, pattern};
use uring_tests::net::{Accepted, Recorder, Reports, run_on};
use uring_tests::order::Order;
use uring_tests::{forward_driver, on_both_drivers};

/// A driver that says of every receive that it brought something, which it did not.
struct Liar {
    inner: Box<dyn Driver>,
    asked: Vec<Key>,
    lies: Rc<Cell<usize>>,
}

impl Driver for Liar {
    forward_driver!(inner: now);

    unsafe fn submit(&mut self, key: Key, _op: &mut Op) {
        self.asked.push(key);
    }

    fn cancel(&mut self, _key: Key) {}

    fn park(&mut self, _: &mut OpTable, _: Park, out: &mut Completions) -> io::Result<()> {
        for key in self.asked.drain(..) {
            out.extend((0..64).map(|id| Completion::received(key, id, 100)));
            out.push(Completion::last(key, 0));
            self.lies.set(self.lies.get() + 65);
        }
        Ok(())
    }

    fn wants_poll(&self) -> bool {
        !self.asked.is_empty()
    }
}

thread_local! {
    /// What the destructors and wakers of these tests do; they must be `Send` and own nothing of
    /// the loop.
    static HOOK: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

fn set_hook(hook: impl Fn() + 'static) {
    HOOK.set(Some(Rc::new(hook)));
}

fn run_hook() {
    if let Some(hook) = HOOK.take() {
        hook();
    }
}

/// Runs the hook when it is dropped.
struct Hooked(Vec<u8>);

impl AsRef<[u8]> for Hooked {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        run_hook();
    }
}

fn hooked(bytes: &[u8]) -> Chunk {
    Chunk::from(Bytes::from_owner(Hooked(bytes.to_vec())))
}

/// Runs the hook when the last clone is dropped.
struct DropHook;

impl Wake for DropHook {
    fn wake(self: Arc<Self>) {}
}

impl Drop for DropHook {
    fn drop(&mut self) {
        run_hook();
    }
}

/// Panics when it wakes.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("this waker panics");
    }
}

/// Bytes whose destructor panics.
struct PanicsAtDrop(Vec<u8>);

impl AsRef<[u8]> for PanicsAtDrop {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PanicsAtDrop {
    fn drop(&mut self) {
        panic!("these bytes panic");
    }
}

/// Does that with its first completion.
struct Then<F: Fn(&Core)>(Rc<Core>, F);

impl<F: Fn(&Core)> Complete for Then<F> {
    fn complete(self: Rc<Self>, _: Event) {
        self.1(&self.0);
    }
}

/// A server's side of a new connection, with the client's socket.
async fn accept(event_loop: &Rc<dyn AbstractEventLoop>) -> (Rc<Recorder>, TcpStream) {
    let accepted = Accepted::new();
    let options = ServerOptions::new("127.0.0.1", 0);
    let server = event_loop.create_server(accepted.factory(), options).await;
    let server = server.unwrap();
    let address = server.local_addrs()[0].as_inet().unwrap();
    let client = TcpStream::connect(address).unwrap();
    let recorder = accepted.connected(0).await;
    server.close();
    (recorder, client)
}

/// More chunks than one send carries; the destructor of the first one runs while others are left.
fn many_chunks(size: usize) -> (Vec<Chunk>, Vec<u8>) {
    let bytes = pattern(size * (MAX_VECTORS + 100));
    let mut chunks: Vec<Chunk> = bytes.chunks(size).map(|b| b.to_vec().into()).collect();
    chunks[0] = hooked(&bytes[..size]);
    (chunks, bytes)
}

/// Writes `chunks`, and a flood when the first is dropped; the peer gets them in that order.
async fn written_in_order(event_loop: Rc<dyn AbstractEventLoop>, size: usize) {
    let (near, mut client) = accept(&event_loop).await;
    let (chunks, mut expected) = many_chunks(size);
    let flood = pattern(80 * 1024);
    expected.extend_from_slice(&flood);
    let count = expected.len();
    let peer = std::thread::spawn(move || {
        let mut all = vec![0; count];
        client.read_exact(&mut all).unwrap();
        all
    });
    let transport = near.transport();
    let inner = transport.clone();
    set_hook(move || inner.write(&flood).unwrap());
    transport.writelines(chunks).unwrap();
    while !peer.is_finished() {
        yield_now().await.unwrap();
    }
    assert!(peer.join().unwrap() == expected, "bytes are out of order");
}

/// Does that when the iteration ends.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> AtIterationEnd for AtEnd<F> {
    fn iteration_ended(self: Rc<Self>) {
        (self.0)();
    }
}

fn at_end(core: &Core, f: impl Fn() + 'static) {
    core.at_iteration_end(Rc::new(AtEnd(f)));
}

on_both_drivers! {
    /// A waker's destructor may use the loop: none of its borrows is held.
    fn a_waker_is_dropped_outside_borrows(kind: DriverKind) {
        // Outside any task, so that nobody else keeps the waker.
        let event_loop = Builder::new().driver(kind).build().unwrap();
        let core = event_loop.core().unwrap().clone();
        let (near, _far) = UnixStream::pair().unwrap();
        let op = Op::recv(Fd::new(near.into()), vec![0; 8]);
        let asked = Rc::new(Cell::new(0));
        {
            let mut operation = pin!(Operation::new(core.clone(), op));
            let waker = Waker::from(Arc::new(DropHook));
            assert!(operation.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            let answer = asked.clone();
            set_hook(move || answer.set(core.stats().live_operations));
            assert!(operation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(asked.get() > 0, "the old waker was not dropped");
        event_loop.close().unwrap();
    }

    /// So may the destructor of what an operation owned that ended for nobody.
    fn an_orphan_is_dropped_outside_borrows(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let core = event_loop.core().unwrap().clone();
            let (near, _far) = UnixStream::pair().unwrap();
            let mut data = Gather::new();
            data.push(hooked(b"bytes"));
            let op = Op::Send { fd: Fd::new(near.into()), data, inline: true, urgent: true };
            let target = Rc::new(Then(core.clone(), |_: &Core| panic!("nobody hears of it")));
            let key = core.submit(op, Target::Callback(target));
            let asked = Rc::new(Cell::new(false));
            let (answer, inner) = (asked.clone(), core.clone());
            set_hook(move || {
                let _ = inner.stats();
                answer.set(true);
            });
            // Runs before the completion, which is queued behind it by then.
            event_loop.call_soon(move || core.abandon(key)).unwrap();
            for _ in 0..5 {
                yield_now().await.unwrap();
            }
            assert!(asked.get());
        });
    }

    /// The destructor of sent bytes panics: reported, and nothing else happens.
    fn a_panic_of_sent_bytes_is_reported_and_loses_no_byte(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let reports = Reports::of(&event_loop);
            let (near, mut client) = accept(&event_loop).await;
            let transport = near.transport();
            let panics = |bytes: &[u8]| Chunk::from(Bytes::from_owner(PanicsAtDrop(bytes.to_vec())));
            // Sent at once, more than one of them.
            transport.writelines(vec![panics(b"one"), panics(b"two"), panics(b"three")]).unwrap();
            let mut bytes = [0; 11];
            let peer = std::thread::spawn(move || {
                client.read_exact(&mut bytes).unwrap();
                (bytes, client)
            });
            while !peer.is_finished() {
                yield_now().await.unwrap();
            }
            let (bytes, mut client) = peer.join().unwrap();
            assert_eq!(&bytes, b"onetwothree");
            // Sent in part, by a send that waits too.
            let flood = pattern(12 << 20);
            let (first, rest) = flood.split_at(1000);
            transport.writelines(vec![panics(first), panics(rest)]).unwrap();
            transport.close();
            let peer = std::thread::spawn(move || {
                let mut all = Vec::new();
                client.read_to_end(&mut all).unwrap();
                all
            });
            near.until_lost().await;
            while !peer.is_finished() {
                yield_now().await.unwrap();
            }
            assert!(peer.join().unwrap() == flood);
            let messages = reports.messages();
            let count = messages.iter().filter(|text| text.contains("what an operation owned")).count();
            assert!((2..=3).contains(&count) && count == messages.len(), "{messages:?}");
            // Given up while it waits.
            let (near, _client) = accept(&event_loop).await;
            let transport = near.transport();
            transport.writelines(vec![panics(&flood)]).unwrap();
            yield_now().await.unwrap();
            yield_now().await.unwrap();
            transport.abort();
            near.until_lost().await;
            while reports.messages().len() == count {
                yield_now().await.unwrap();
            }
        });
    }

    /// What a destructor submits while the loop's driver is closed is refused like any other.
    fn an_operation_of_a_destructor_in_the_close_is_refused(kind: DriverKind) {
        let event_loop = Builder::new().driver(kind).build().unwrap();
        let core = event_loop.core().unwrap().clone();
        let (near, _far) = UnixStream::pair().unwrap();
        let near = Fd::new(near.into());
        let send = |chunk| {
            let mut data = Gather::new();
            data.push(chunk);
            Op::Send { fd: near.clone(), data, inline: false, urgent: false }
        };
        // The second waits.
        core.submit(send(vec![0; 1 << 20].into()), Target::Orphan);
        core.submit(send(hooked(&[0; 1 << 20])), Target::Orphan);
        event_loop.run_until_complete(async { yield_now().await.unwrap() }).unwrap();
        let answer = Rc::new(RefCell::new(None));
        let (to, inner) = (answer.clone(), core.clone());
        set_hook(move || {
            let mut operation = Box::pin(Operation::new(inner.clone(), Op::Nop));
            let mut cx = Context::from_waker(Waker::noop());
            // One that nobody asks for any more, in front of it.
            let key = inner.submit(Op::Nop, Target::Waiter(Waker::noop().clone()));
            let polled = operation.as_mut().poll(&mut cx);
            to.replace(Some((polled.is_ready(), key)));
        });
        event_loop.close().unwrap();
        let (ready, key) = answer.take().expect("the destructor ran");
        assert!(ready);
        core.abandon(key);
        assert_eq!(core.stats().live_operations, 0);
        assert_eq!(core.stats().leaked_operations, 0);
    }

    /// A panic in a waker loses none of the completions that came with it.
    fn a_waker_that_panics_loses_no_completion(kind: DriverKind) {
        let event_loop = Builder::new().driver(kind).build().unwrap();
        let core = event_loop.core().unwrap().clone();
        let heard = Rc::new(Cell::new(false));
        let inner = heard.clone();
        let then = Then(core.clone(), move |_: &Core| {
            inner.set(true);
            ringloop::get_running_loop().stop();
        });
        let panics = Waker::from(Arc::new(Panics));
        core.submit(Op::Nop, Target::Waiter(panics));
        core.submit(Op::Nop, Target::Callback(Rc::new(then)));
        assert!(catch_unwind(AssertUnwindSafe(|| event_loop.run_forever())).is_err());
        event_loop.run_forever().unwrap();
        assert!(heard.get());
        drop(core);
        event_loop.close().unwrap();
    }

    /// A panic at the end of an iteration keeps nobody else from sending.
    fn a_panic_at_the_end_of_an_iteration_loses_no_byte(kind: DriverKind) {
        let event_loop = Builder::new().driver(kind).build().unwrap();
        let inner = event_loop.clone();
        let (near, mut client) =
            event_loop.run_until_complete(async move { accept(&inner).await }).unwrap();
        at_end(event_loop.core().unwrap(), || panic!("at the end"));
        near.transport().write(b"byte").unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| event_loop.run_forever())).is_err());
        event_loop.run_until_complete(async { yield_now().await.unwrap() }).unwrap();
        let mut bytes = [0; 4];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"byte");
        event_loop.close().unwrap();
    }

    /// Nor does it change their order: who was left comes before who was added meanwhile.
    fn a_panic_at_the_end_of_an_iteration_keeps_the_order(kind: DriverKind) {
        let event_loop = Builder::new().driver(kind).build().unwrap();
        let (core, order) = (event_loop.core().unwrap().clone(), Order::default());
        let (inner, added) = (core.clone(), order.clone());
        at_end(&core, move || {
            let added = added.clone();
            at_end(&inner, move || added.add("added"));
            panic!("at the end");
        });
        let left = order.clone();
        at_end(&core, move || left.add("left"));
        assert!(catch_unwind(AssertUnwindSafe(|| event_loop.run_forever())).is_err());
        assert_eq!(order.take(), [""; 0]);
        event_loop.run_until_complete(async { yield_now().await.unwrap() }).unwrap();
        assert_eq!(order.take(), ["left", "added"]);
        drop(core);
        event_loop.close().unwrap();
    }

    /// What is written at the end of an iteration is sent before the loop sleeps.
    fn a_write_at_the_end_of_an_iteration_does_not_wait_for_an_event(kind: DriverKind) {
        run_on(kind, |event_loop| async move {
            let (near, mut client) = accept(&event_loop).await;
            let core = event_loop.core().unwrap().clone();
            // What the start brings has passed then, and nothing else wakes the loop.
            for _ in 0..4 {
                ringloop::sleep(Duration::from_nanos(1)).await.unwrap();
            }
            let peer = std::thread::spawn(move || {
                let mut bytes = [0; 4];
                client.read_exact(&mut bytes).unwrap();
            });
            let late = near.transport();
            at_end(&core, move || late.write(b"late").unwrap());
            // The peer closes when it has the bytes.
            near.until_lost().await;
            peer.join().unwrap();
        });
    }

    /// A buffer that the kernel (or nobody) has is not to be had by saying that it was received.
    fn a_made_up_receive_gets_no_buffer(kind: DriverKind) {
        let lies = Rc::new(Cell::new(0));
        let mut rig = Rig::new(Box::new(Liar {
            inner: Builder::new().driver(kind).build_driver().unwrap(),
            asked: Vec::new(),
            lies: lies.clone(),
        }));
        let (_peer, ours) = UnixStream::pair().unwrap();
        let key = rig.submit(Op::RecvMulti { fd: uring_tests::drive::fd(ours) });
        rig.settle();
        assert_eq!(lies.get(), 65);
        for _ in 0..64 {
            let event = rig.wait(key);
            assert!(event.more && event.lease.is_none(), "got a buffer");
        }
        assert_eq!(rig.result(key), 0);
        assert_eq!(rig.driver().pool().refused(), 64);
    }

    /// What a destructor writes goes behind what is being sent.
    fn a_destructor_that_writes_does_not_overtake_a_direct_send(kind: DriverKind) {
        run_on(kind, |event_loop| written_in_order(event_loop, 100));
    }

    /// The same while the loop's own send is settled.
    fn a_destructor_that_writes_does_not_overtake_a_settled_send(kind: DriverKind) {
        run_on(kind, |event_loop| written_in_order(event_loop, 10));
    }
}
