//! Blocking mode and calls without a flag for it, files that epoll refuses.
//!
//! Not on both drivers: it is about one.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use nix::sys::socket::AddressFamily;
use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::{Op, Park, SockAddr};
use uring_tests::drive::{fd, tcp_pair};
use uring_tests::net::unconnected;
use uring_tests::{TempDir, with_rig};

use super::is_nonblocking;

with_rig! { Epoll:
    /// Somebody else took the connection between the edge and the accept.
    fn an_accept_that_finds_nothing_does_not_block(rig = EpollOptions::default()) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let rival = listener.try_clone().unwrap();
        let accept = rig.submit(Op::Accept { fd: fd(listener) });
        rig.settle();
        let first = TcpStream::connect(addr).unwrap();
        drop(rival.accept().unwrap());
        rig.settle();
        assert!(rig.try_take(accept).is_none());
        let second = TcpStream::connect(addr).unwrap();
        assert!(rig.wait(accept).fd.is_some());
        drop((first, second));
    }

    fn accept_on_what_is_no_listener_fails_at_once(rig = EpollOptions::default()) {
        let (_near, far) = tcp_pair().unwrap();
        assert_eq!(rig.run(Op::Accept { fd: fd(far) }).result, -libc::EINVAL);
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let file = fd(file);
        assert_eq!(rig.run(Op::Accept { fd: file.clone() }).result, -libc::ENOTSOCK);
        assert_eq!(rig.run(Op::RecvMulti { fd: file }).result, -libc::ENOTSOCK);
    }

    /// The whole backlog in one park, as far as one batch goes; the next park does not sleep.
    fn a_backlog_longer_than_a_batch_is_accepted_in_turn(rig = EpollOptions::default()) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let accepts = rig.submit(Op::AcceptMulti { fd: fd(listener) });
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(TcpStream::connect(addr).unwrap());
        }
        assert_eq!(rig.park(Park::Forever), 64);
        assert_eq!(rig.park(Park::Forever), 36);
        for client in &clients {
            let accepted = TcpStream::from(rig.try_take(accepts).unwrap().fd.unwrap());
            assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
            assert!(!is_nonblocking(&accepted));
        }
    }

    fn a_connect_leaves_the_mode_as_it_was(rig = EpollOptions::default()) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        for nonblocking in [false, true] {
            let socket = TcpStream::from(unconnected(AddressFamily::Inet));
            if nonblocking {
                socket.set_nonblocking(true).unwrap();
            }
            let socket = fd(socket);
            let addr = Box::new(SockAddr::from(addr));
            assert_eq!(rig.run(Op::Connect { fd: socket.clone(), addr }).result, 0);
            assert_eq!(is_nonblocking(&socket), nonblocking);
        }
        drop(listener);
        let socket = fd(TcpStream::from(unconnected(AddressFamily::Inet)));
        let connect = Op::Connect { fd: socket, addr: Box::new(SockAddr::from(addr)) };
        assert_eq!(rig.run(connect).result, -libc::ECONNREFUSED);
    }

    fn a_regular_file_is_always_ready(rig = EpollOptions::default()) {
        let dir = TempDir::new();
        let file = fd(std::fs::File::create(dir.join("file")).unwrap());
        let both = (libc::POLLIN | libc::POLLOUT) as u32;
        let poll = Op::Poll { fd: file.clone(), events: both };
        assert_eq!(rig.run(poll).result, both as i32);
        let poll = Op::PollMulti { fd: file.clone(), events: libc::POLLOUT as u32 };
        assert_eq!(rig.run(poll).result, libc::POLLOUT as i32);
        let poll = Op::Poll { fd: file, events: libc::POLLPRI as u32 };
        assert_eq!(rig.run(poll).result, -libc::EINVAL);
    }

    fn polls_share_the_registration_with_receives(rig = EpollOptions::default()) {
        let (near, far) = UnixStream::pair().unwrap();
        let far = fd(far);
        let writable = rig.submit(Op::Poll { fd: far.clone(), events: libc::POLLOUT as u32 });
        let readable = rig.submit(Op::PollMulti { fd: far.clone(), events: libc::POLLIN as u32 });
        let reads = rig.submit(Op::RecvMulti { fd: far.clone() });
        assert_eq!(rig.result(writable), libc::POLLOUT as i32);
        for _ in 0..3 {
            std::io::Write::write_all(&mut &near, b"abc").unwrap();
            assert_eq!(rig.receive(reads, 3), b"abc");
            let event = rig.wait(readable);
            assert!(event.more && event.result == libc::POLLIN as i32);
        }
        drop(near);
        assert_eq!(rig.result(reads), 0);
        let event = rig.wait(readable);
        assert!(event.result & libc::POLLHUP as i32 != 0);
        rig.cancel(readable);
        while rig.wait(readable).more {}
    }
}
