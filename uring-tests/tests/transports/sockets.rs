//! Connected pairs of sockets, and peers that are plain blocking sockets.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::OnceLock;
use std::thread::JoinHandle;

use uring_tests::Rng;
use uring_tests::lab::Lab;

use crate::recorder::Recorder;

/// A socket option that holds a number.
pub fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) {
    // SAFETY: the pointer is to a value of the length given, for the time of the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Bytes that a socket of these pairs takes at most before its peer reads: much less than what the
/// tests call a flood.
const SMALL: i32 = 32 * 1024;

/// More than any of the sockets takes, buffers of both ends together.
pub const FLOOD: usize = 1 << 20;

/// Bytes in which a missing, doubled or swapped one shows: the first `len` of a flood.
pub fn pattern(len: usize) -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| Rng::with_seed(1).bytes(FLOOD))[..len].to_vec()
}

fn shrink(socket: &impl AsRawFd) {
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, SMALL);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, SMALL);
}

/// A pair of Unix sockets with small buffers.
pub fn unix_pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    shrink(&near);
    shrink(&far);
    (near, far)
}

/// A TCP connection over loopback with small buffers.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    // Inherited by what is accepted, before the window is told to the peer.
    shrink(&listener);
    let address = listener.local_addr().expect("bound");
    let near = TcpStream::connect(address).expect("the listener is there");
    let (far, _) = listener.accept().expect("the connection is there");
    shrink(&near);
    near.set_nodelay(true).expect("TCP");
    far.set_nodelay(true).expect("TCP");
    (near, far)
}

/// Which kind of pair.
#[derive(Clone, Copy, Debug)]
pub enum Pair {
    Unix,
    Tcp,
}

impl Pair {
    pub const BOTH: [Self; 2] = [Self::Unix, Self::Tcp];

    /// Both ends as descriptors.
    pub fn open(self) -> (OwnedFd, OwnedFd) {
        match self {
            Self::Unix => {
                let (near, far) = unix_pair();
                (near.into(), far.into())
            }
            Self::Tcp => {
                let (near, far) = tcp_pair();
                (near.into(), far.into())
            }
        }
    }
}

/// Closing it resets the connection.
pub fn reset_on_close(socket: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the pointer is to a value of the length given, for the time of the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as u32,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Reads to the end in a thread of its own: what came, and the error that ended it.
pub fn read_all(socket: impl Into<OwnedFd>) -> JoinHandle<(Vec<u8>, Option<ErrorKind>)> {
    let mut socket = File::from(socket.into());
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let end = socket.read_to_end(&mut bytes);
        (bytes, end.err().map(|error| error.kind()))
    })
}

/// A connection with both ends in the same loop.
pub async fn connected(lab: &Lab, pair: Pair) -> (Rc<Recorder>, Rc<Recorder>) {
    let (near, far) = pair.open();
    let ends = (Recorder::new(), Recorder::new());
    lab.transport(near, ends.0.clone()).await;
    lab.transport(far, ends.1.clone()).await;
    ends
}

/// As [`connected`], and the far end does not read, so that the near one can not send a flood.
pub async fn clogged(lab: &Lab, pair: Pair) -> (Rc<Recorder>, Rc<Recorder>) {
    let (near, far) = connected(lab, pair).await;
    far.transport().pause_reading();
    lab.settle().await;
    (near, far)
}
