//! The handler that all servers share.

use crate::Mode;
use ringloop_benches::http::{self, Rest};
use std::io;

/// What one connection answers. Small, because idle connections are counted.
pub enum Handler {
    Echo,
    Http(Box<Rest>),
}

impl Handler {
    /// The handler of a new connection.
    pub fn new(mode: Mode) -> Handler {
        match mode {
            Mode::Echo => Handler::Echo,
            Mode::Http => Handler::Http(Box::default()),
        }
    }

    /// Takes what was received. `None`: it goes back as it is; else this is the answer, perhaps
    /// an empty one.
    pub fn received(&mut self, bytes: &[u8]) -> io::Result<Option<&'static [u8]>> {
        match self {
            Handler::Echo => Ok(None),
            Handler::Http(rest) => match rest.requests(bytes) {
                Some(count) => Ok(Some(http::responses(count))),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
        }
    }
}
