//! What only the io_uring driver promises: its rungs, its queues, its settling, its buffers.
//!
//! Not on both drivers: it is about one. What both promise is tested in `driver`.

mod ending;
mod queues;
mod refused;
mod sends;
mod setup;
mod starving;
mod waking;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use ringloop::driver::Op;
use uring_tests::drive::{Rig, fd, pattern, received, recv, send, tcp_pair};

/// Sends, receives and ends on TCP and Unix sockets: what must work on every rung.
fn exercise(rig: &mut Rig) {
    let bytes = pattern(100_000);
    let (mut peer, ours) = tcp_pair().unwrap();
    let socket = fd(ours);
    for inline in [true, false] {
        let sent = rig.submit(send(&socket, *b"hello", inline));
        rig.poll();
        assert_eq!(rig.result(sent), 5);
        let mut buf = [0; 5];
        peer.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello");
    }
    peer.write_all(b"world").unwrap();
    let event = rig.run(recv(&socket, 16));
    assert_eq!(received(&event), b"world");
    let key = rig.submit(Op::RecvMulti { fd: socket });
    peer.write_all(&bytes).unwrap();
    assert!(rig.receive(key, bytes.len()) == bytes);
    drop(peer);
    assert_eq!(rig.result(key), 0);

    let (mut peer, ours) = UnixStream::pair().unwrap();
    let key = rig.submit(Op::RecvMulti { fd: fd(ours) });
    peer.write_all(&bytes[..50_000]).unwrap();
    assert!(rig.receive(key, 50_000) == bytes[..50_000]);
    drop(peer);
    assert_eq!(rig.result(key), 0);
}
