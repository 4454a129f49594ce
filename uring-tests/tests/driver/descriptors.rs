//! Accepts, connects, files, polls, closes: descriptors that come and go.

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::AddressFamily;
use ringloop::driver::{Buf, Fd, Op, Park, SockAddr, closed_count};
use uring_tests::drive::{Rig, fd, pattern, received, tcp_pair};
use uring_tests::net::{shorten_queue, unconnected};
use uring_tests::{TempDir, isolated, on_both_drivers, open_fds};

fn is_cloexec(fd: &OwnedFd) -> bool {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
    assert!(flags >= 0);
    flags & libc::FD_CLOEXEC != 0
}

fn open(path: &Path, flags: i32) -> Op {
    Op::OpenAt {
        path: CString::new(path.as_os_str().as_bytes()).unwrap(),
        flags,
        mode: 0o600,
    }
}

on_both_drivers! {
    fn accepts_bring_connections(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = fd(listener);
        let many = rig.submit(Op::AcceptMulti { fd: listener.clone() });
        rig.poll();
        let mut clients: Vec<TcpStream> =
            (0..50).map(|_| TcpStream::connect(addr).unwrap()).collect();
        for _ in 0..clients.len() {
            let event = rig.wait(many);
            assert!(event.more);
            let connection = event.fd.expect("a connection");
            assert!(is_cloexec(&connection));
            let mut connection = TcpStream::from(connection);
            let from = connection.peer_addr().unwrap();
            let client = clients
                .iter_mut()
                .find(|client| client.local_addr().unwrap() == from)
                .unwrap();
            client.write_all(b"hello").unwrap();
            let mut hello = [0; 5];
            connection.read_exact(&mut hello).unwrap();
        }
        rig.cancel(many);
        assert_eq!(rig.result(many), -libc::ECANCELED);
        // Once more, for one.
        let one = rig.submit(Op::Accept { fd: listener });
        rig.poll();
        let _client = TcpStream::connect(addr).unwrap();
        let event = rig.wait(one);
        assert!(!event.more);
        assert!(is_cloexec(&event.fd.expect("a connection")));
    }

    fn an_orphaned_accept_leaves_its_connection_to_the_next(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let dir = TempDir::new();
        let listener = UnixListener::bind(dir.join("socket")).unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = fd(listener);
        let key = rig.submit(Op::AcceptMulti { fd: listener.clone() });
        rig.poll();
        let _client = UnixStream::connect_addr(&addr).unwrap();
        rig.drop_future(key);
        while rig.engine.in_flight() > 0 {
            rig.park(Park::Forever);
        }
        if listener.take_accepted().is_none() {
            // The cancel came first: the connection is in the backlog.
            let event = rig.run(Op::Accept { fd: listener });
            assert!(event.fd.is_some());
        }
    }

    fn accept_on_what_is_no_listener_fails(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let socket = fd(unconnected(AddressFamily::Inet));
        for op in [
            Op::Accept { fd: socket.clone() },
            Op::AcceptMulti { fd: socket.clone() },
        ] {
            let key = rig.submit(op);
            assert_eq!(rig.result(key), -libc::EINVAL);
        }
    }

    fn connects_succeed_or_say_why_not(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let socket = fd(unconnected(AddressFamily::Inet));
        let connect = |socket: &Fd| Op::Connect {
            fd: socket.clone(),
            addr: Box::new(SockAddr::from(addr)),
        };
        let key = rig.submit(connect(&socket));
        assert_eq!(rig.result(key), 0);
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"welcome").unwrap();
        let event = rig.run(uring_tests::drive::recv(&socket, 16));
        assert_eq!(received(&event), b"welcome");
        drop((accepted, listener));
        let key = rig.submit(connect(&fd(unconnected(AddressFamily::Inet))));
        assert_eq!(rig.result(key), -libc::ECONNREFUSED);
    }

    fn files_are_opened_written_synced_and_read(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let dir = TempDir::new();
        let path = dir.join("file");
        let event = rig.run(open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL));
        let file = event.fd.expect("a file");
        assert!(is_cloexec(&file));
        let file = fd(file);
        let bytes = pattern(10_000);
        let event = rig.run(Op::write_at(file.clone(), bytes.clone(), 100));
        assert_eq!(event.result, 10_000);
        for data_only in [true, false] {
            assert_eq!(rig.run(Op::Fsync { fd: file.clone(), data_only }).result, 0);
        }
        let mut buf = Buf::aligned(20_000, 512);
        buf[0] = 1;
        let event = rig.run(Op::read_at(file.clone(), buf, 50));
        assert_eq!(event.result, 10_050);
        assert!(received(&event)[..50] == [0; 50]);
        assert!(received(&event)[50..] == bytes);
        // Beyond the end, and beyond all files.
        let read = |offset| Op::read_at(file.clone(), vec![0; 16], offset);
        assert_eq!(rig.run(read(1 << 40)).result, 0);
        assert_eq!(rig.run(read(u64::MAX)).result, -libc::EINVAL);
        assert_eq!(rig.run(open(&dir.join("nothing"), libc::O_RDONLY)).result, -libc::ENOENT);
    }

    fn closes_are_counted(kind: DriverKind) {
        isolated(|| {
            let mut rig = Rig::open(kind);
            rig.poll();
            let before = open_fds();
            let counted = closed_count();
            let file = OwnedFd::from(std::fs::File::open("/proc/self/stat").unwrap());
            let key = rig.submit(Op::Close { fd: Some(file) });
            // A cancel does not keep it open.
            rig.cancel(key);
            assert_eq!(rig.result(key), 0);
            assert_eq!(open_fds(), before);
            assert_eq!(closed_count(), counted + 1);
            assert_eq!(rig.run(Op::Close { fd: None }).result, -libc::EBADF);
        });
    }

    /// To each, whatever another was told before.
    fn a_second_multishot_poll_is_told_what_is_ready(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let ours = fd(ours);
        let input = libc::POLLIN as u32;
        let poll = |rig: &mut Rig| rig.submit(Op::PollMulti { fd: ours.clone(), events: input });
        let first = poll(&mut rig);
        rig.settle();
        peer.write_all(b"!").unwrap();
        assert_eq!(rig.wait(first).result as u32, input);
        rig.settle();
        let second = poll(&mut rig);
        rig.settle();
        let told = rig.try_take(second).expect("it is ready");
        assert!(told.more);
        assert_eq!(told.result as u32, input);
    }

    fn polls_tell_what_is_ready(kind: DriverKind) {
        let mut rig = Rig::open(kind);
        let (mut peer, ours) = tcp_pair().unwrap();
        let ours = fd(ours);
        let (input, output) = (libc::POLLIN as u32, libc::POLLOUT as u32);
        let event = rig.run(Op::Poll { fd: ours.clone(), events: input | output });
        assert_eq!(event.result as u32, output);
        let once = rig.submit(Op::Poll { fd: ours.clone(), events: input });
        let many = rig.submit(Op::PollMulti { fd: ours.clone(), events: input });
        rig.settle();
        assert_eq!(rig.pending(), 0);
        for _ in 0..3 {
            peer.write_all(b"x").unwrap();
            let event = rig.wait(many);
            assert!(event.more);
            assert_eq!(event.result as u32 & input, input);
        }
        assert_eq!(rig.result(once) as u32 & input, input);
        drop(peer);
        let hangup = (libc::POLLHUP | libc::POLLRDHUP | libc::POLLIN) as i32;
        while rig.wait(many).result & hangup == 0 {}
    }

    /// Whatever mode the socket is in. A drain brings those back that wait (`Rig::close` sees to that).
    fn a_connect_waits_for_room_in_a_unix_backlog(kind: DriverKind) {
        for nonblocking in [false, true] {
            let mut rig = Rig::open(kind);
            let dir = TempDir::new();
            let path = dir.join("full");
            let listener = UnixListener::bind(&path).unwrap();
            shorten_queue(&listener);
            let addr = SockAddr::unix(&path).unwrap();
            let connect = |rig: &mut Rig| {
                let socket = UnixStream::from(unconnected(AddressFamily::Unix));
                socket.set_nonblocking(nonblocking).unwrap();
                let connect = Op::Connect { fd: fd(socket), addr: Box::new(addr) };
                rig.submit(connect)
            };
            let connects: Vec<_> = (0..6).map(|_| connect(&mut rig)).collect();
            rig.settle();
            // A backlog of 0 has room for one.
            assert_eq!(rig.try_take(connects[0]).unwrap().result, 0);
            assert!(connects[1..].iter().all(|key| rig.try_take(*key).is_none()));
            rig.cancel(connects[1]);
            rig.settle();
            assert_eq!(rig.try_take(connects[1]).unwrap().result, -libc::ECANCELED);
            for key in &connects[2..4] {
                drop(listener.accept().unwrap());
                assert_eq!(rig.result(*key), 0);
            }
            // A deadline ends the park all the same.
            let until = rig.driver().now() + 5_000_000;
            while rig.driver().now() < until {
                assert_eq!(rig.park(Park::Until(until)), 0);
            }
            for key in &connects[4..] {
                drop(listener.accept().unwrap());
                assert_eq!(rig.result(*key), 0);
            }
            drop(listener.accept().unwrap());
            // There is room: a cancel in the same turn comes too late, as for any operation.
            let late = connect(&mut rig);
            rig.cancel(late);
            assert_eq!(rig.result(late), 0);
            let early = connect(&mut rig);
            rig.cancel(early);
            assert_eq!(rig.result(early), -libc::ECANCELED);
            connect(&mut rig);
            rig.settle();
            assert_eq!(rig.engine.in_flight(), 1);
        }
    }
}
