//! The hand-written io_uring loop, the practical limit that everything is compared with.
//!
//! Receives are multishot on a small ring of buffers that grows when one finds none; answers go
//! out from the received buffers, all of a connection's gathered into one send that finishes
//! inside the enter that submits it and stays silent when it went whole. Such a send is settled
//! after that enter, once the completions are read: silence then means success. What a socket did
//! not take goes out with a send that waits.
//!
//! ```text
//!   send:  Idle ──flush──▶ Inline(n) ──settled──▶ Idle
//!                              └──completion──▶ Armed ──completion, all went──▶ Idle
//! ```

use crate::{Mode, POOLED_BUFFER, Settings};
use io_uring::{opcode, squeue, types::Fd};
use ringloop_benches::http::{self, RESPONSE, Rest};
use ringloop_benches::ring::{Buffers, Cqe, Ring};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Buffers at first, and what is added when a receive finds none.
const BUFFERS: u16 = 64;
/// The most buffers.
const MAX_BUFFERS: u16 = 256;
/// The most pieces in one send.
const MAX_PIECES: usize = 16;
/// Stands for the static answers in place of a buffer.
const STATIC: u16 = u16::MAX;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

#[derive(Clone, Copy)]
struct Piece {
    buffer: u16,
    offset: u16,
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Send {
    Idle,
    Inline(u8),
    Armed,
}

struct Conn {
    fd: Option<OwnedFd>,
    send: Send,
    listed: bool,
    /// The receive is over and so is the connection, once its sends are.
    ended: bool,
    pieces: Vec<Piece>,
    rest: Rest,
}

/// A message header and its vectors, which the kernel reads when it takes the submission.
struct Gather {
    header: libc::msghdr,
    vectors: [libc::iovec; MAX_PIECES],
}

struct Loop {
    ring: Ring,
    buffers: Buffers,
    conns: Vec<Conn>,
    free: Vec<u32>,
    listener: RawFd,
    mode: Mode,
    dirty: Vec<u32>,
    unsettled: Vec<u32>,
    starved: Vec<u32>,
    // Boxed, so that they stay where they are when there are more.
    #[allow(clippy::vec_box)]
    gathers: Vec<Box<Gather>>,
    gathers_used: usize,
    /// Something waits behind a send whose success is silent.
    awake: bool,
}

pub fn serve(listener: TcpListener, settings: Settings) -> io::Result<()> {
    let ring = Ring::new(256, 4096, false)?;
    let buffers = Buffers::new(&ring, POOLED_BUFFER, BUFFERS, MAX_BUFFERS)?;
    let mut this = Loop {
        ring,
        buffers,
        conns: Vec::new(),
        free: Vec::new(),
        listener: listener.as_raw_fd(),
        mode: settings.mode,
        dirty: Vec::new(),
        unsettled: Vec::new(),
        starved: Vec::new(),
        gathers: Vec::new(),
        gathers_used: 0,
        awake: false,
    };
    this.accept()?;
    loop {
        this.flush()?;
        let want = u32::from(!this.awake);
        this.ring.enter(want)?;
        this.gathers_used = 0;
        this.drain()?;
        this.settle()?;
    }
}

impl Loop {
    fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(self.listener))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(ACCEPT);
        // SAFETY: no pointers.
        unsafe { self.ring.push(&entry) }
    }

    fn receive(&mut self, index: u32) -> io::Result<()> {
        let Some(fd) = &self.conns[index as usize].fd else {
            return Ok(());
        };
        let entry = opcode::RecvMulti::new(Fd(fd.as_raw_fd()), Buffers::GROUP)
            .build()
            .user_data(u64::from(index) << 8 | RECEIVE);
        // SAFETY: the kernel writes only to the buffers it picks, which are never freed.
        unsafe { self.ring.push(&entry) }
    }

    /// Submits a send for each connection that has something to send.
    fn flush(&mut self) -> io::Result<()> {
        self.awake = false;
        for place in 0..self.dirty.len() {
            let index = self.dirty[place];
            let conn = &mut self.conns[index as usize];
            conn.listed = false;
            let count = conn.pieces.len().min(MAX_PIECES);
            if count < conn.pieces.len() || conn.ended {
                self.awake = true;
            }
            conn.send = Send::Inline(count as u8);
            self.unsettled.push(index);
            self.send(index, count, true)?;
        }
        self.dirty.clear();
        Ok(())
    }

    fn send(&mut self, index: u32, count: usize, inline: bool) -> io::Result<()> {
        let Loop {
            buffers,
            conns,
            gathers,
            gathers_used,
            ..
        } = self;
        let conn = &conns[index as usize];
        let Some(fd) = &conn.fd else {
            return Ok(());
        };
        let fd = Fd(fd.as_raw_fd());
        let flags = if inline {
            libc::MSG_DONTWAIT | libc::MSG_WAITALL
        } else {
            0
        };
        let bytes = |piece: &Piece| -> *const u8 {
            let start = if piece.buffer == STATIC {
                http::responses(1).as_ptr()
            } else {
                buffers.address(piece.buffer).cast_const()
            };
            start.wrapping_add(piece.offset as usize)
        };
        let entry = if let [piece] = &conn.pieces[..count] {
            opcode::Send::new(fd, bytes(piece), piece.length)
                .flags(flags)
                .build()
        } else {
            if *gathers_used == gathers.len() {
                // SAFETY: a header and vectors of zeros are empty ones.
                gathers.push(Box::new(unsafe { std::mem::zeroed() }));
            }
            let gather = &mut *gathers[*gathers_used];
            *gathers_used += 1;
            for (vector, piece) in gather.vectors.iter_mut().zip(&conn.pieces[..count]) {
                vector.iov_base = bytes(piece).cast_mut().cast();
                vector.iov_len = piece.length as usize;
            }
            gather.header.msg_iov = gather.vectors.as_mut_ptr();
            gather.header.msg_iovlen = count;
            opcode::SendMsg::new(fd, &gather.header)
                .flags(flags as u32)
                .build()
        };
        let entry = entry.user_data(u64::from(index) << 8 | SEND);
        let entry = if inline {
            entry.flags(squeue::Flags::SKIP_SUCCESS)
        } else {
            entry
        };
        // SAFETY: the pieces stay the connection's until the send is settled or completes; the
        // gather is used again only after the enter that takes the submission.
        unsafe { self.ring.push(&entry) }
    }

    fn drain(&mut self) -> io::Result<()> {
        while let Some(cqe) = self.ring.completion() {
            let index = (cqe.data >> 8) as u32;
            match cqe.data & 0xff {
                RECEIVE => self.received(index, cqe)?,
                SEND => self.sent(index, cqe.result)?,
                _ => self.accepted(cqe)?,
            }
        }
        Ok(())
    }

    /// Silent sends of the last enter went whole; what waited for them, or for buffers, goes on.
    fn settle(&mut self) -> io::Result<()> {
        while self.ring.overflowed() {
            self.ring.enter(0)?;
            self.gathers_used = 0;
            self.drain()?;
        }
        for place in 0..self.unsettled.len() {
            let index = self.unsettled[place];
            let conn = &mut self.conns[index as usize];
            if let Send::Inline(count) = conn.send {
                conn.send = Send::Idle;
                for piece in conn.pieces.drain(..count as usize) {
                    if piece.buffer != STATIC {
                        self.buffers.give(piece.buffer);
                    }
                }
                self.next(index);
            }
        }
        self.unsettled.clear();
        self.buffers.publish();
        if !self.starved.is_empty() {
            self.buffers.grow(BUFFERS);
            while let Some(index) = self.starved.pop() {
                self.receive(index)?;
            }
        }
        Ok(())
    }

    /// After a send or an end: sends what is left, or closes.
    fn next(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.send != Send::Idle {
            return;
        }
        if !conn.pieces.is_empty() {
            if !conn.listed {
                conn.listed = true;
                self.dirty.push(index);
            }
        } else if conn.ended && conn.fd.take().is_some() {
            self.free.push(index);
        }
    }

    fn accepted(&mut self, cqe: Cqe) -> io::Result<()> {
        if !cqe.more() {
            self.accept()?;
        }
        if cqe.result < 0 {
            return Err(io::Error::from_raw_os_error(-cqe.result));
        }
        // SAFETY: just accepted, nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(cqe.result) };
        let index = self.free.pop().unwrap_or_else(|| {
            self.conns.push(Conn {
                fd: None,
                send: Send::Idle,
                listed: false,
                ended: false,
                pieces: Vec::new(),
                rest: Rest::default(),
            });
            self.conns.len() as u32 - 1
        });
        let conn = &mut self.conns[index as usize];
        conn.fd = Some(fd);
        conn.ended = false;
        conn.rest = Rest::default();
        self.receive(index)
    }

    fn received(&mut self, index: u32, cqe: Cqe) -> io::Result<()> {
        if cqe.result == -libc::ENOBUFS {
            self.starved.push(index);
            return Ok(());
        }
        let conn = &mut self.conns[index as usize];
        if let Some(buffer) = cqe.buffer().filter(|_| cqe.result > 0) {
            let length = cqe.result as u32;
            let piece = Piece {
                buffer,
                offset: 0,
                length,
            };
            match self.mode {
                Mode::Echo => conn.pieces.push(piece),
                Mode::Http => {
                    let bytes = self.buffers.bytes(buffer, 0, length as usize);
                    let count = conn.rest.requests(bytes);
                    self.buffers.give(buffer);
                    match count {
                        Some(0) => {}
                        Some(count) => conn.pieces.push(Piece {
                            buffer: STATIC,
                            offset: 0,
                            length: (count * RESPONSE.len()) as u32,
                        }),
                        None => conn.shut_down(),
                    }
                }
            }
            if !cqe.more() {
                self.receive(index)?;
            }
        } else {
            conn.ended = true;
        }
        self.next(index);
        Ok(())
    }

    fn sent(&mut self, index: u32, result: i32) -> io::Result<()> {
        let conn = &mut self.conns[index as usize];
        let inline = conn.send != Send::Armed;
        conn.send = Send::Idle;
        let mut went = result.max(0) as u32;
        if result < 0 && !(inline && result == -libc::EAGAIN) {
            // The peer is gone: nothing of it is wanted any more, and the receive ends too.
            went = u32::MAX;
            conn.shut_down();
        }
        let mut whole = 0;
        for piece in &mut conn.pieces {
            if piece.length > went {
                piece.offset += went as u16;
                piece.length -= went;
                break;
            }
            went -= piece.length;
            whole += 1;
            if piece.buffer != STATIC {
                self.buffers.give(piece.buffer);
            }
        }
        conn.pieces.drain(..whole);
        if conn.pieces.is_empty() {
            self.next(index);
            return Ok(());
        }
        let count = conn.pieces.len().min(MAX_PIECES);
        conn.send = Send::Armed;
        self.send(index, count, false)
    }
}

impl Conn {
    fn shut_down(&self) {
        if let Some(fd) = &self.fd {
            // SAFETY: no pointers; the descriptor is open.
            unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }
}
