//! The hand-written epoll loop: edge-triggered, one shared buffer, receive and send again until
//! the socket has no more; a receive that did not fill the buffer is taken for the end.

use crate::answer::Handler;
use crate::{Mode, POOLED_BUFFER, Settings};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const LISTENER: u64 = u64::MAX;

struct Conn {
    fd: OwnedFd,
    /// What the socket did not take; while there is some, nothing is received.
    unsent: Vec<u8>,
    handler: Handler,
}

struct Loop {
    epoll: OwnedFd,
    conns: Vec<Option<Conn>>,
    free: Vec<u32>,
    mode: Mode,
    buffer: Box<[u8]>,
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub fn serve(listener: TcpListener, settings: Settings) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // SAFETY: no pointers.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
    // SAFETY: just opened, nobody else's.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll as RawFd) };
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut this = Loop {
        epoll,
        conns: Vec::new(),
        free: Vec::new(),
        mode: settings.mode,
        buffer: vec![0; POOLED_BUFFER].into(),
    };
    this.watch(listener.as_raw_fd(), LISTENER, libc::EPOLLIN)?;
    loop {
        // SAFETY: the events are live and their number is given.
        let count = check(unsafe {
            libc::epoll_wait(
                this.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                -1,
            )
        } as isize);
        let count = match count {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        for event in &events[..count] {
            if event.u64 == LISTENER {
                this.accept(&listener)?;
            } else {
                this.ready(event.u64 as usize, event.events as i32);
            }
        }
    }
}

impl Loop {
    fn watch(&self, fd: RawFd, data: u64, what: i32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: (what | libc::EPOLLET) as u32,
            u64: data,
        };
        // SAFETY: the event is live.
        check(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event)
        } as isize)?;
        Ok(())
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            // SAFETY: no address is asked for.
            let accepted = check(unsafe {
                libc::accept4(
                    listener.as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                )
            } as isize);
            let fd = match accepted {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                fd => fd? as RawFd,
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() as u32 - 1
            });
            self.conns[index as usize] = Some(Conn {
                // SAFETY: just accepted, nobody else's.
                fd: unsafe { OwnedFd::from_raw_fd(fd) },
                unsent: Vec::new(),
                handler: Handler::new(self.mode),
            });
            let what = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP;
            self.watch(fd, u64::from(index), what)?;
        }
    }

    fn ready(&mut self, index: usize, events: i32) {
        let Some(conn) = &mut self.conns[index] else {
            return;
        };
        let hung_up = events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
        if events & libc::EPOLLOUT != 0 && conn.unsent.is_empty() && events & libc::EPOLLIN == 0 {
            return;
        }
        if conn.turn(&mut self.buffer, hung_up).is_ok_and(|open| open) {
            return;
        }
        self.conns[index] = None;
        self.free.push(index as u32);
    }
}

impl Conn {
    /// Receives and answers until the socket has no more; false: the connection is over.
    fn turn(&mut self, buffer: &mut [u8], hung_up: bool) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = send(&self.fd, &self.unsent)?;
            self.unsent.drain(..sent);
            if !self.unsent.is_empty() {
                return Ok(true);
            }
        }
        loop {
            // SAFETY: the buffer is live and its length is given.
            let received = check(unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            });
            let received = match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                received => received?,
            };
            if received == 0 {
                return Ok(false);
            }
            let bytes = &buffer[..received];
            let answer = self.handler.received(bytes)?.unwrap_or(bytes);
            let sent = send(&self.fd, answer)?;
            if sent < answer.len() {
                self.unsent.extend_from_slice(&answer[sent..]);
                return Ok(true);
            }
            if received < buffer.len() && !hung_up {
                return Ok(true);
            }
        }
    }
}

/// How much the socket took.
fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    // SAFETY: the bytes are live and their length is given.
    let sent = check(unsafe {
        libc::send(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
        )
    });
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}
