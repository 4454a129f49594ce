//! The abstract interface, and what a base loop needs of others.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringloop::event_loop::{
    ExceptionContext, Hints, LocalBoxFuture, SocketParts, ThreadPoolExecutor, TransportFactory,
};
use ringloop::protocol::{BaseProtocol, Protocol, ProtocolKind, Transport};
use ringloop::{
    AbstractEventLoop, BaseEventLoop, Builder, ConnectOptions, EventLoopExt, Lease, LoopError,
    RunError, ServerOptions, UnixConnectOptions, UnixServerOptions, block_on,
};
use uring_tests::on_both_drivers;
use uring_tests::tasks::panic_of;

/// A loop that can do nothing.
struct Nothing;

impl AbstractEventLoop for Nothing {}

fn is_missing<T>(member: &str, error: Result<T, impl Into<io::Error>>) {
    let Err(error) = error else {
        panic!("{member} works");
    };
    let error: io::Error = error.into();
    assert_eq!(
        error.kind(),
        io::ErrorKind::Unsupported,
        "{member}: {error}"
    );
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(LoopError::NotImplemented(name)) => assert_eq!(*name, member),
        other => panic!("{member}: {other:?}"),
    }
}

fn is_missing_later<T>(member: &str, mut future: LocalBoxFuture<io::Result<T>>) {
    let mut cx = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut cx) {
        Poll::Ready(result) => is_missing(member, result),
        Poll::Pending => panic!("{member} waits"),
    }
}

fn panics<R>(member: &str, f: impl FnOnce() -> R) {
    let text = panic_of(f);
    assert!(
        text.starts_with(&format!("{member} is not implemented")),
        "{text}"
    );
}

struct Silent;

impl BaseProtocol for Silent {}

impl Protocol for Silent {
    fn data_received(&self, _data: Lease) {}
}

fn factory() -> Rc<dyn Fn() -> ProtocolKind> {
    Rc::new(|| Rc::new(Silent).into())
}

fn socket() -> OwnedFd {
    UnixStream::pair().unwrap().0.into()
}

const SOMEWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

// Not on both drivers: there is no driver.
#[test]
fn loop_17_every_operation_of_the_interface_is_unimplemented() {
    let l: &dyn AbstractEventLoop = &Nothing;
    assert!(l.base().is_none() && l.core().is_none());
    is_missing("run_forever", l.run_forever());
    is_missing("close", l.close());
    is_missing("call_soon", l.call_soon(|| ()));
    is_missing("call_at", l.call_at(0, || ()));
    is_missing("call_soon_threadsafe", l.call_soon_threadsafe(|| ()));
    is_missing("handle", l.handle());
    is_missing("create_future", l.future_loop());
    is_missing("create_task", l.create_task(async {}));
    is_missing("run_in_executor", l.run_in_executor_dyn(Box::new(|| ())));
    is_missing_later("run_in_executor", l.run_in_executor(|| ()));
    let executor = ThreadPoolExecutor::new(1, "unused");
    is_missing("set_default_executor", l.set_default_executor(executor));
    is_missing_later(
        "shutdown_default_executor",
        l.shutdown_default_executor(None),
    );
    is_missing_later(
        "getaddrinfo",
        l.getaddrinfo(None, String::new(), Hints::default()),
    );
    is_missing_later("getnameinfo", l.getnameinfo(SOMEWHERE, 0));
    let options = ConnectOptions::new("127.0.0.1", 1);
    is_missing_later(
        "create_connection",
        l.create_connection_dyn(factory(), options),
    );
    let options = UnixConnectOptions::new("/nowhere");
    is_missing_later(
        "create_unix_connection",
        l.create_unix_connection_dyn(factory(), options),
    );
    is_missing_later(
        "connect_accepted_socket",
        l.connect_accepted_socket_dyn(factory(), socket()),
    );
    let options = ServerOptions::new("127.0.0.1", 0);
    is_missing_later("create_server", l.create_server_dyn(factory(), options));
    let options = UnixServerOptions::new("/nowhere");
    is_missing_later(
        "create_unix_server",
        l.create_unix_server_dyn(factory(), options),
    );
    let Err(RunError::Loop(error)) = l.run_until_complete(async {}) else {
        panic!("it ran");
    };
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    // What returns no error panics with it.
    panics("create_future", || drop(l.create_future::<()>()));
    panics("stop", || l.stop());
    panics("is_running", || l.is_running());
    panics("is_closed", || l.is_closed());
    panics("time", || l.time());
    panics("time", || l.call_later(Duration::ZERO, || ()));
    panics("set_exception_handler", || l.set_exception_handler(None));
    panics("get_exception_handler", || l.get_exception_handler());
    panics("call_exception_handler", || {
        l.call_exception_handler(ExceptionContext::new("unheard"));
    });
    panics("get_debug", || l.get_debug());
    panics("set_debug", || l.set_debug(true));
}

/// A loop that overrides nothing of the base it wraps.
struct Wrapper(BaseEventLoop);

impl AbstractEventLoop for Wrapper {
    fn base(&self) -> Option<&dyn AbstractEventLoop> {
        Some(&self.0)
    }
}

/// Makes no transport.
struct NoTransports;

impl TransportFactory for NoTransports {
    fn make_socket_transport(&self, parts: SocketParts) -> io::Result<Rc<dyn Transport>> {
        drop(parts);
        Err(LoopError::NotImplemented("make_socket_transport").into())
    }
}

on_both_drivers! {
    /// Driver and transport factory are all that a base loop is given, and without them it can not
    /// be made; every member of the interface but those that need a transport works then.
    fn loop_18_a_base_loop_needs_a_driver_and_transports_and_nothing_else(kind: DriverKind) {
        let driver = Builder::new().driver(kind).build_driver().unwrap();
        let l: Rc<dyn AbstractEventLoop> = Rc::new_cyclic(|me: &Weak<Wrapper>| {
            Wrapper(BaseEventLoop::new(driver, Rc::new(NoTransports), me.clone()))
        });
        assert!(l.base().is_some() && l.core().is_some());
        l.call_soon(|| ()).unwrap().cancel();
        l.call_at(0, || ()).unwrap().cancel();
        l.call_later(Duration::ZERO, || ()).unwrap().cancel();
        l.call_soon_threadsafe(|| ()).unwrap().cancel();
        l.handle().unwrap().call_soon_threadsafe(|| ()).unwrap();
        l.set_debug(true);
        assert!(l.get_debug() && !l.is_running() && !l.is_closed() && l.time() > 0);
        l.set_exception_handler(Some(Rc::new(|_| ())));
        assert!(l.get_exception_handler().is_some());
        l.call_exception_handler(ExceptionContext::new("heard"));
        l.stop();
        l.run_forever().unwrap();
        let me = l.clone();
        block_on(&l, async move {
            me.create_task(async {}).unwrap().await.unwrap();
            assert_eq!(me.run_in_executor(|| 1).await.unwrap(), 1);
            let host = Some("127.0.0.1".to_owned());
            let found = me.getaddrinfo(host, "1".to_owned(), Hints::default()).await.unwrap();
            assert_eq!(found[0].address, SOMEWHERE);
            let flags = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
            let (host, service) = me.getnameinfo(SOMEWHERE, flags).await.unwrap();
            assert_eq!((host.as_str(), service.as_str()), ("127.0.0.1", "1"));
            let options = ServerOptions::new("127.0.0.1", 0);
            let server = me.create_server(|| Rc::new(Silent), options).await.unwrap();
            server.close();
            // The hook that was left open is what answers.
            let made = me.connect_accepted_socket_dyn(factory(), socket()).await;
            is_missing("make_socket_transport", made);
            me.shutdown_default_executor(None).await.unwrap();
            assert!(me.run_in_executor(|| 1).await.is_err());
        })
        .unwrap();
        assert!(l.is_closed());
    }

    /// The outermost loop is the one that programs see and hooks are given.
    fn loop_18_the_outermost_loop_is_the_running_one(kind: DriverKind) {
        let driver = Builder::new().driver(kind).build_driver().unwrap();
        let l: Rc<dyn AbstractEventLoop> = Rc::new_cyclic(|me: &Weak<Wrapper>| {
            Wrapper(BaseEventLoop::new(driver, Rc::new(NoTransports), me.clone()))
        });
        let me = l.clone();
        block_on(&l, async move {
            assert!(Rc::ptr_eq(&ringloop::get_running_loop(), &me));
        })
        .unwrap();
        // A base whose outer loop is gone can not run.
        let driver = Builder::new().driver(kind).build_driver().unwrap();
        let orphan = BaseEventLoop::new(driver, Rc::new(NoTransports), Weak::<Wrapper>::new());
        let refused = catch_unwind(AssertUnwindSafe(|| orphan.run_forever()));
        assert!(refused.is_ok_and(|refused| refused.is_err()));
        orphan.close().unwrap();
    }
}
