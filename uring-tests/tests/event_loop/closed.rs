//! What a closed loop refuses, what it still does, and that it leaves nothing open.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ringloop::driver::{Complete, Event, Op, Target};
use ringloop::event_loop::{Core, ExceptionContext, Hints, Operation};
use ringloop::protocol::{BaseProtocol, Protocol};
use ringloop::task::{all_tasks, current_task};
use ringloop::{
    AbstractEventLoop, Builder, ConnectOptions, EventLoopExt, Lease, LoopError, ServerOptions,
    UnixConnectOptions, UnixServerOptions, sleep,
};
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::HOUR;
use uring_tests::watch::Watch;
use uring_tests::{TempDir, isolated, on_both_drivers, open_fds};

use crate::iteration::Noted;

struct Silent;

impl BaseProtocol for Silent {}

impl Protocol for Silent {
    fn data_received(&self, _data: Lease) {}
}

/// What a future that needs the loop says when it is polled.
fn now<T>(future: impl Future<Output = io::Result<T>>) -> LoopError {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(Err(error)) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            *inner.unwrap_or_else(|| panic!("{error}"))
        }
        Poll::Ready(Ok(_)) => panic!("it worked"),
        Poll::Pending => panic!("it waits"),
    }
}

on_both_drivers! {
    fn loop_12_a_closed_loop_refuses_every_call_that_schedules(kind: DriverKind) {
        let l = Watch::new(kind);
        let directory = TempDir::new();
        let path = directory.join("socket");
        let handle = l.handle();
        l.close().unwrap();
        let order = Order::default();
        let gone = |what| {
            let gone = Dropped(order.clone(), what);
            move || drop(gone)
        };
        assert_eq!(l.call_soon(gone("soon")).unwrap_err(), LoopError::Closed);
        let later = l.call_later(Duration::ZERO, gone("later"));
        assert_eq!(later.unwrap_err(), LoopError::Closed);
        assert_eq!(l.call_at(0, gone("at")).unwrap_err(), LoopError::Closed);
        assert_eq!(l.create_task(async {}).unwrap_err(), LoopError::Closed);
        // What was refused is not kept.
        assert_eq!(order.take(), ["soon", "later", "at"]);
        assert_eq!(l.call_soon_threadsafe(|| ()).unwrap_err(), LoopError::Closed);
        assert_eq!(handle.call_soon_threadsafe(|| ()).unwrap_err(), LoopError::Closed);
        assert_eq!(l.base.run_forever_setup().unwrap_err(), LoopError::Closed);
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(now(l.run_in_executor(|| ())), LoopError::Closed);
        assert_eq!(now(l.getaddrinfo(None, "1".into(), Hints::default())), LoopError::Closed);
        assert_eq!(now(l.getnameinfo(address, 0)), LoopError::Closed);
        let factory = || Rc::new(Silent);
        let options = ConnectOptions::new("127.0.0.1", 1);
        assert_eq!(now(l.create_connection(factory, options)), LoopError::Closed);
        let options = UnixConnectOptions::new(&path);
        assert_eq!(now(l.create_unix_connection(factory, options)), LoopError::Closed);
        let (near, _far) = UnixStream::pair().unwrap();
        let factory = Rc::new(|| Rc::new(Silent).into());
        let accepted = l.connect_accepted_socket_dyn(factory, OwnedFd::from(near));
        assert_eq!(now(accepted), LoopError::Closed);
        let options = ServerOptions::new("127.0.0.1", 0);
        assert_eq!(now(l.create_server(|| Rc::new(Silent), options)), LoopError::Closed);
        let options = UnixServerOptions::new(&path);
        assert_eq!(now(l.create_unix_server(|| Rc::new(Silent), options)), LoopError::Closed);
        assert!(!path.exists());
    }

    /// `time`, `create_future`, `stop`, cancelling, and what is asked of a loop.
    fn loop_11_what_a_closed_loop_still_does(kind: DriverKind) {
        let l = Watch::new(kind);
        let before = l.time();
        let timer = l.call_later(HOUR, || ()).unwrap();
        let handle = l.call_soon(|| ()).unwrap();
        let iterations = l.iterations();
        l.close().unwrap();
        // Its clock goes on.
        let closed = l.time();
        assert!(closed >= before);
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(100) {}
        assert!(l.time() >= closed + 100_000);
        let future = l.create_future();
        future.set_result(1).unwrap();
        assert!(future.done());
        timer.cancel();
        handle.cancel();
        assert!(timer.cancelled() && !timer.is_waiting() && !handle.is_waiting());
        l.stop();
        l.set_debug(true);
        assert!(l.get_debug() && !l.is_running());
        l.call_exception_handler(ExceptionContext::new("still heard"));
        assert_eq!(l.messages(), ["still heard"]);
        let order = Order::default();
        let nobody = Rc::new(Noted(order.clone(), "heard"));
        l.core().submit(Op::Nop, Target::Callback(nobody.clone()));
        assert_eq!((order.take(), Rc::strong_count(&nobody)), (vec![], 1));
        assert_eq!(l.core().driver_kind(), kind);
        assert!(!l.core().driver_report().is_empty());
        let stats = l.stats();
        assert_eq!((stats.timers, stats.tasks, stats.live_operations), (0, 0, 0));
        assert_eq!(stats.iterations, iterations);
        assert!(all_tasks(Some(l.id())).unwrap().is_empty());
        assert_eq!(current_task(Some(l.id())).unwrap(), None);
    }

    /// Also while handles of the loop, for this and for other threads, outlive it.
    fn loop_14_close_gives_the_loops_descriptors_back(kind: DriverKind) {
        isolated(|| {
            let before = open_fds();
            let event_loop = Builder::new().driver(kind).build().unwrap();
            assert!(open_fds() > before);
            let handle = event_loop.handle().unwrap();
            let core = event_loop.core().unwrap().clone();
            event_loop.run_until_complete(sleep(Duration::from_nanos(1))).unwrap().unwrap();
            let (near, _far) = UnixStream::pair().unwrap();
            let fd = ringloop::driver::Fd::new(OwnedFd::from(near));
            let poll = Op::Poll { fd, events: libc::POLLIN as u32 };
            let waiting = event_loop.create_task(Operation::new(core.clone(), poll)).unwrap();
            event_loop.stop();
            event_loop.run_forever().unwrap();
            assert_eq!(core.stats().live_operations, 1);
            event_loop.set_exception_handler(Some(Rc::new(|_| ())));
            event_loop.close().unwrap();
            drop((waiting, _far));
            assert_eq!(open_fds(), before);
            // The poller is gone: once more, and with operations that came too late.
            event_loop.close().unwrap();
            core.submit(Op::Nop, Target::Orphan);
            assert!(handle.call_soon_threadsafe(|| ()).is_err());
            assert_eq!(open_fds(), before);
        });
    }

    /// A target that comes too late is dropped where it may ask the loop.
    fn loop_14_a_refused_target_may_ask_the_closed_loop(kind: DriverKind) {
        struct Asks(Rc<Core>, Order<bool>);
        impl Complete for Asks {
            fn complete(self: Rc<Self>, _event: Event) {
                panic!("nobody hears of it");
            }
        }
        impl Drop for Asks {
            fn drop(&mut self) {
                self.1.add(self.0.now() > 0 && self.0.stats().live_operations == 0);
            }
        }
        let l = Watch::new(kind);
        let order = Order::default();
        l.close().unwrap();
        let target = Rc::new(Asks(l.core().clone(), order.clone()));
        l.core().submit(Op::Nop, Target::Callback(target));
        assert_eq!(order.take(), [true]);
    }

    /// It does nothing but say that it was cancelled.
    fn loop_14_an_operation_that_outlives_its_loop_is_cancelled(kind: DriverKind) {
        let l = Watch::new(kind);
        let (near, _far) = UnixStream::pair().unwrap();
        let fd = ringloop::driver::Fd::new(OwnedFd::from(near));
        let poll = Op::Poll { fd, events: libc::POLLIN as u32 };
        let mut operation = pin!(Operation::new(l.core().clone(), poll));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(operation.as_mut().poll(&mut cx).is_pending());
        l.turn();
        l.close().unwrap();
        let Poll::Ready(Ok(outcome)) = operation.as_mut().poll(&mut cx) else {
            panic!("it waits for a loop that is closed");
        };
        assert_eq!(outcome.result, -libc::ECANCELED);
        assert!(matches!(outcome.op, Op::Nop) && outcome.fd.is_none());
    }

    /// Destructors that run while the loop closes may use it.
    fn loop_14_destructors_may_ask_the_loop_that_closes(kind: DriverKind) {
        struct Asks(Rc<dyn AbstractEventLoop>, Order<LoopError>);
        impl Drop for Asks {
            fn drop(&mut self) {
                assert!(self.0.time() > 0);
                assert!(self.0.core().unwrap().stats().iterations > 0);
                self.1.add(self.0.call_soon(|| ()).unwrap_err());
                self.1.add(self.0.create_task(async {}).unwrap_err());
                self.0.core().unwrap().submit(Op::Nop, Target::Orphan);
            }
        }
        struct Held(#[expect(dead_code, reason = "held for its destructor")] Asks);
        impl ringloop::driver::Complete for Held {
            fn complete(self: Rc<Self>, _event: ringloop::driver::Event) {}
        }
        let l = Watch::new(kind);
        let order = Order::default();
        let asks = || Asks(l.event_loop(), order.clone());
        let (in_callback, in_timer, in_task) = (asks(), asks(), asks());
        l.turn();
        l.call_soon(move || drop(in_callback)).unwrap();
        l.call_later(HOUR, move || drop(in_timer)).unwrap();
        drop(l.create_task(async move { drop(in_task) }).unwrap());
        let (near, far) = UnixStream::pair().unwrap();
        let fd = ringloop::driver::Fd::new(OwnedFd::from(near));
        let op = Op::Poll { fd, events: libc::POLLIN as u32 };
        l.core().submit(op, Target::Callback(Rc::new(Held(asks()))));
        l.close().unwrap();
        assert_eq!(order.take(), [LoopError::Closed; 8]);
        assert_eq!(l.messages(), ["Task was destroyed but it is pending!"]);
        drop(far);
    }
}
