//! The other end of a connection: a plain socket that never blocks, and what it has to say.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::Rng;
use crate::drive::tcp_pair;

/// See the module. The socket may be a Unix one.
pub struct Peer {
    socket: TcpStream,
    says: Vec<u8>,
    said: usize,
}

/// A connected pair: mostly Unix sockets, one in eight TCP.
///
/// # Panics
/// When it cannot be made.
pub fn some_pair(rng: &mut Rng) -> (OwnedFd, OwnedFd) {
    if rng.chance(1, 8) {
        let (near, far) = tcp_pair().expect("loopback is up");
        (near.into(), far.into())
    } else {
        let (near, far) = UnixStream::pair().expect("a pair");
        (near.into(), far.into())
    }
}

impl Peer {
    /// The end of `socket`, to say `says`.
    ///
    /// # Panics
    /// When it is no socket.
    pub fn new(socket: OwnedFd, says: Vec<u8>) -> Self {
        let socket = TcpStream::from(socket);
        socket.set_nonblocking(true).expect("a socket");
        Self {
            socket,
            says,
            said: 0,
        }
    }

    /// All it has to say.
    pub fn says(&self) -> &[u8] {
        &self.says
    }

    /// What it has said so far.
    pub fn said(&self) -> &[u8] {
        &self.says[..self.said]
    }

    /// Whether it has said everything.
    pub fn is_done(&self) -> bool {
        self.said == self.says.len()
    }

    /// Says up to so many bytes, as many as the socket takes.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn say(&mut self, most: usize) {
        let end = self.says.len().min(self.said + most);
        if self.said == end {
            return;
        }
        match self.socket.write(&self.says[self.said..end]) {
            Ok(count) => self.said += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }

    /// Ends what it says.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn shut_down(&self) {
        self.socket
            .shutdown(Shutdown::Write)
            .expect("the connection stands");
    }

    /// Hears up to so many bytes; whether there may be more: false at the end of the stream.
    ///
    /// # Panics
    /// With an error of the connection.
    pub fn hear(&mut self, heard: &mut Vec<u8>, most: usize) -> bool {
        match (&self.socket).take(most as u64).read_to_end(heard) {
            Ok(count) => count == most,
            // What came before that is kept.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                true
            }
        }
    }
}
