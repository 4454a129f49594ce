//! What the kernel must prove before the driver relies on it.
//!
//! **Guarantees.** Each probe runs on a socketpair of its own and leaves the ring as it found it.
//! Where that can not be (an answer is missing), the memory the kernel may still use is leaked and
//! the probe has failed.

use super::GROUP;
use crate::driver::{FLAG_BUFFER, FLAG_FILLED, FLAG_MORE, Pool};
use crate::ring::{Refusal, Ring, Wait, recv_multi};
use crate::sys::clock;
use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// The bits of what the probes submit.
const PROBE: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

/// How long an answer may take that should be there at once.
const PATIENCE: u64 = 1_000_000_000;

/// Result and flags of a completion.
type Answer = (i32, u32);

/// Submits what was pushed; completions of the probe, in order, without waiting.
fn answers(ring: &mut Ring) -> Result<Vec<Answer>, String> {
    let to_submit = ring.unsubmitted();
    if let Err(errno) = ring.enter(to_submit, Wait::Poll) {
        return Err(io::Error::from_raw_os_error(errno).to_string());
    }
    if ring.unsubmitted() > 0 {
        return Err("the kernel did not take an entry".into());
    }
    Ok(ring
        .completions()
        .filter(|entry| entry.user_data() == PROBE)
        .map(|entry| (entry.result(), entry.flags()))
        .collect())
}

/// The next completion of the probe, within [`PATIENCE`].
fn answer(ring: &mut Ring) -> Option<Answer> {
    let end = clock::now() + PATIENCE;
    loop {
        if let Some(first) = answers(ring).ok()?.first() {
            return Some(*first);
        }
        let now = clock::now();
        if now >= end {
            return None;
        }
        let time = if ring.absolute_timeouts() {
            end
        } else {
            end - now
        };
        // ETIME and EINTR: the clock above decides.
        let _ = ring.enter(0, Wait::Nanos(time));
    }
}

/// Why a driver can not be.
pub(super) struct Failed {
    pub(super) error: io::Error,
    /// Operations that the kernel has not given back.
    pub(super) in_flight: usize,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self {
            error,
            in_flight: 0,
        }
    }
}

/// Multishot receive came with Linux 6.0; an older kernel answers `EINVAL`.
pub(super) fn multishot_receive(ring: &mut Ring, pool: &Rc<Pool>) -> Result<(), Failed> {
    const NAME: &str = "multishot receive";
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"?")?;
    let entry = recv_multi(ours.as_raw_fd(), GROUP, true, false, PROBE);
    // SAFETY: the entry points to nothing; the buffers belong to the pool.
    unsafe { ring.push(&entry) };
    let refused = |errno| Refusal::too_old(NAME, errno).into_error();
    let missing = || Failed {
        error: refused(libc::ETIME),
        in_flight: 1,
    };
    let (result, flags) = answer(ring).ok_or_else(missing)?;
    if flags & FLAG_BUFFER != 0 {
        drop(pool.claim(flags & !FLAG_FILLED, result));
    }
    if result < 0 {
        return Err(refused(-result).into());
    }
    if flags & FLAG_MORE != 0 {
        let cancel = opcode::AsyncCancel::new(PROBE)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(CANCEL);
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(&cancel) };
        // Trap T4: the cancel's own answer proves nothing, only the receive's.
        match answer(ring) {
            Some((_, flags)) if flags & FLAG_MORE == 0 => {}
            _ => return Err(missing()),
        }
    }
    if result != 1 || flags & FLAG_BUFFER == 0 {
        return Err(refused(libc::EPROTO).into());
    }
    Ok(())
}

/// How the bytes of a send stand in memory.
#[derive(Clone, Copy)]
enum Shape {
    One,
    Vectors,
}

const VECTORS: usize = 16;
const SMALL: usize = 64;
const LARGE: usize = 64 * 1024;

/// What the kernel reads from; on the heap, so that it can be leaked.
struct Source {
    bytes: Vec<u8>,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Source {
    fn new(len: usize) -> Box<Self> {
        let bytes = vec![0x5a; len];
        let vectors: Vec<libc::iovec> = bytes
            .chunks(len / VECTORS)
            .map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            })
            .collect();
        // SAFETY: all zeroes is a valid msghdr (null pointers with zero lengths).
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        Box::new(Self {
            bytes,
            vectors,
            header,
        })
    }

    fn entry(&mut self, fd: i32, shape: Shape) -> Entry {
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = match shape {
            Shape::One => {
                opcode::Send::new(types::Fd(fd), self.bytes.as_ptr(), self.bytes.len() as u32)
                    .flags(flags)
                    .build()
            }
            Shape::Vectors => opcode::SendMsg::new(types::Fd(fd), &raw const self.header)
                .flags(flags as u32)
                .build(),
        };
        entry.flags(Flags::SKIP_SUCCESS).user_data(PROBE)
    }
}

/// Whether an inline send finishes in the enter that submits it, and speaks up exactly when it did
/// not send everything: whole, partial, full, dead peer (D7).
pub(super) fn inline_sends(ring: &mut Ring) -> Result<(), String> {
    [Shape::One, Shape::Vectors]
        .into_iter()
        .try_for_each(|shape| {
            let mut small = Source::new(SMALL);
            let mut large = Source::new(LARGE);
            let proved = prove(ring, shape, &mut small, &mut large);
            if proved.is_err() {
                // A send that did not finish may still read from them.
                std::mem::forget((small, large));
            }
            proved
        })
}

fn prove(
    ring: &mut Ring,
    shape: Shape,
    small: &mut Source,
    large: &mut Source,
) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let (ours, mut theirs) = UnixStream::pair().map_err(text)?;
    theirs.set_nonblocking(true).map_err(text)?;
    // The kernel's least, 4608: the large one does not fit.
    setsockopt(&ours, sockopt::SndBuf, &1).map_err(|errno| errno.to_string())?;

    let mut send = |what: &str, source: &mut Source| {
        // SAFETY: the source is alive, and stays so if the kernel does not answer as expected.
        unsafe { ring.push(&source.entry(ours.as_raw_fd(), shape)) };
        match answers(ring)?.as_slice() {
            [] => Ok(None),
            [(result, _)] => Ok(Some(*result)),
            _ => Err(format!("{what}: more than one completion")),
        }
    };
    let mut receive = || {
        let mut received = 0;
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = theirs.read(&mut buffer) {
            received += n as i32;
        }
        received
    };

    match send("whole", small)? {
        None if receive() == SMALL as i32 => {}
        answer => return Err(format!("whole: {answer:?}")),
    }
    let sent = match send("partial", large)? {
        Some(sent @ 1..) if sent < LARGE as i32 => sent,
        answer => return Err(format!("partial: {answer:?}")),
    };
    match send("full", large)? {
        Some(result) if result == -libc::EAGAIN => {}
        answer => return Err(format!("full: {answer:?}")),
    }
    // Nothing comes later: neither bytes nor completions.
    let received = receive();
    let nothing = send("after", small)?;
    if received != sent || nothing.is_some() || receive() != SMALL as i32 {
        return Err(format!("partial: {sent} sent, {received} received"));
    }
    drop(theirs);
    match send("dead peer", small)? {
        Some(result) if result == -libc::EPIPE => Ok(()),
        answer => Err(format!("dead peer: {answer:?}")),
    }
}
