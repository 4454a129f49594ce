//! The handler that all servers share.

use crate::Mode;
use ringloop_benches::http::{self, Rest};
use std::io;

/// What one connection answers.
pub struct Handler {
    mode: Mode,
    rest: Rest,
}

impl Handler {
    /// The handler of a new connection.
    pub fn new(mode: Mode) -> Handler {
        Handler {
            mode,
            rest: Rest::default(),
        }
    }

    /// Takes what was received. `None`: it goes back as it is; else this is the answer, perhaps
    /// an empty one.
    pub fn received(&mut self, bytes: &[u8]) -> io::Result<Option<&'static [u8]>> {
        match self.mode {
            Mode::Echo => Ok(None),
            Mode::Http => match self.rest.requests(bytes) {
                Some(count) => Ok(Some(http::responses(count))),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
        }
    }
}
