//! Attempts to connect that are given up: who has the connection holds it, and else the other side
//! sees its end.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use ringloop::stream::{StreamReader, StreamWriter, open_connection, open_unix_connection};
use ringloop::{Cancelled, ConnectOptions, DriverKind, UnixConnectOptions};
use uring_tests::give_up::{Way, give_up};
use uring_tests::lab::Lab;
use uring_tests::worlds::races;
use uring_tests::{Rng, on_both_drivers};

use crate::{Address, listener, who};

/// The connections that were made.
#[derive(Default)]
struct Desk {
    made: RefCell<Vec<(StreamReader, StreamWriter)>>,
    /// How often an attempt was told that it is given up.
    given_up: Cell<usize>,
}

async fn connect(desk: Rc<Desk>, address: Address) {
    let connected = match address {
        Address::Tcp(address) => open_connection(ConnectOptions::from(address)).await,
        Address::Unix(address) => {
            let mut path = vec![0];
            path.extend(address.as_abstract_name().expect("it is one"));
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
            open_unix_connection(UnixConnectOptions::new(path)).await
        }
    };
    match connected {
        Ok(streams) => desk.made.borrow_mut().push(streams),
        Err(error) => {
            assert!(Cancelled::in_error(&error).is_some(), "{error}");
            desk.given_up.set(desk.given_up.get() + 1);
        }
    }
}

/// Everything that waits in the listener's queue.
fn accept_all(listener: &TcpListener) -> Vec<OwnedFd> {
    let accepting = std::iter::from_fn(|| {
        // The address of a Unix socket is no internet address, but the connection is there.
        // SAFETY: the pointers may be null.
        let fd = unsafe {
            libc::accept4(
                listener.as_raw_fd(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_CLOEXEC,
            )
        };
        // SAFETY: the descriptor was just made and nobody else knows it.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    });
    accepting.collect()
}

/// How many connections were made that nobody wanted any more.
async fn world(lab: Lab, mut rng: Rng, way: Way) -> usize {
    let (socket, address) = listener(&mut rng);
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true).expect("a socket");
    let desk = Rc::new(Desk::default());
    for _ in 0..6 {
        let attempt = connect(desk.clone(), address.clone());
        give_up(&lab, &mut rng, way, attempt, |_| ()).await;
    }
    let made = desk.made.take();
    // Each of them receives, and nothing else is in flight.
    let core = lab.core().clone();
    let is_over = || core.stats().live_operations == made.len();
    lab.until("every attempt is over", is_over).await;
    for (number, (_, writer)) in (0u32..).zip(&made) {
        writer.write(&number.to_ne_bytes()).expect("it is open");
        writer.close();
    }
    for (_, writer) in &made {
        writer.wait_closed().await.expect("an orderly end");
    }
    let (mut known, mut accepted) = (Vec::<u32>::new(), 0);
    loop {
        let queue = accept_all(&listener);
        accepted += queue.len();
        known.extend(queue.into_iter().filter_map(who));
        if known.len() >= made.len() {
            break;
        }
        // On the loopback interface the last word of a handshake may still be on its way.
        std::thread::yield_now();
    }
    let unwanted = accepted - made.len();
    known.sort_unstable();
    let expected: Vec<u32> = (0..).take(made.len()).collect();
    assert_eq!(known, expected, "who connected, and who was heard of");
    unwanted
}

fn all(kind: DriverKind, way: Way) {
    let what = "a connection was made that nobody wanted any more";
    races(kind, 120, what, move |lab, rng| world(lab, rng, way));
}

on_both_drivers! {
    fn an_attempt_that_is_dropped_leaves_nobody_behind(kind: DriverKind) {
        all(kind, Way::Dropped);
    }

    fn an_attempt_whose_task_is_aborted_leaves_nobody_behind(kind: DriverKind) {
        all(kind, Way::Aborted);
    }

    fn an_attempt_that_is_cancelled_leaves_nobody_behind(kind: DriverKind) {
        all(kind, Way::Cancelled);
    }

    fn an_attempt_whose_time_is_up_leaves_nobody_behind(kind: DriverKind) {
        all(kind, Way::TimedOut);
    }
}
