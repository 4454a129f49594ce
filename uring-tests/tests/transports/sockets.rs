//! Connected pairs of sockets, and peers that are plain blocking sockets.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::OnceLock;
use std::thread::JoinHandle;

use uring_tests::Rng;
use uring_tests::lab::Lab;
use uring_tests::net::shrink;

use crate::recorder::Recorder;

/// Bytes that a socket of these pairs takes at most before its peer reads: much less than what the
/// tests call a flood.
const SMALL: usize = 32 * 1024;

/// More than any of the sockets takes, buffers of both ends together.
pub const FLOOD: usize = 1 << 20;

/// Bytes in which a missing, doubled or swapped one shows: the first `len` of a flood.
pub fn pattern(len: usize) -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| Rng::with_seed(1).bytes(FLOOD))[..len].to_vec()
}

/// A pair of Unix sockets with small buffers.
pub fn unix_pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    shrink(&near, SMALL);
    shrink(&far, SMALL);
    (near, far)
}

/// A TCP connection over loopback with small buffers.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    // Inherited by what is accepted, before the window is told to the peer.
    shrink(&listener, SMALL);
    let address = listener.local_addr().expect("bound");
    let near = TcpStream::connect(address).expect("the listener is there");
    let (far, _) = listener.accept().expect("the connection is there");
    shrink(&near, SMALL);
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
