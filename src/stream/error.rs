//! What a reader raises, as payloads of [`io::Error`].
//!
//! Reads return `io::Result`, so that `?` works next to every other I/O; what asyncio's exceptions
//! carry is found again in the error.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The stream ended before everything that was asked for had arrived. asyncio:
/// `IncompleteReadError`.
///
/// An [`io::Error`] of kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) carries it:
///
/// ```
/// use ringloop::stream::IncompleteReadError;
/// use std::io;
///
/// fn rest(error: io::Error) -> io::Result<Vec<u8>> {
///     error.downcast::<IncompleteReadError>().map(|incomplete| incomplete.partial)
/// }
/// # let error = IncompleteReadError { partial: b"ab".to_vec(), expected: Some(3) };
/// # assert_eq!(rest(error.into()).unwrap(), b"ab");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteReadError {
    /// The bytes that came before the end; they are taken out of the reader.
    pub partial: Vec<u8>,
    /// How many were asked for; `None` when a separator was looked for.
    pub expected: Option<usize>,
}

impl IncompleteReadError {
    /// The payload of `error`, if it is this one.
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for IncompleteReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes read on a total of ", self.partial.len())?;
        match self.expected {
            Some(expected) => write!(f, "{expected} expected bytes"),
            None => f.write_str("undefined expected bytes"),
        }
    }
}

impl Error for IncompleteReadError {}

impl From<IncompleteReadError> for io::Error {
    fn from(error: IncompleteReadError) -> Self {
        Self::new(io::ErrorKind::UnexpectedEof, error)
    }
}

/// No separator stood within the reader's limit. asyncio: `LimitOverrunError`.
///
/// An [`io::Error`] of kind [`InvalidData`](io::ErrorKind::InvalidData) carries it. After
/// [`readuntil`](super::StreamReader::readuntil) the bytes are still in the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitOverrunError {
    /// How many bytes do not belong to a separator: all before it when it was found, else all that
    /// can not be the start of one.
    pub consumed: usize,
    /// Whether the separator was found, behind the limit.
    pub found: bool,
}

impl LimitOverrunError {
    /// The payload of `error`, if it is this one.
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for LimitOverrunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.found {
            "Separator is found, but chunk is longer than limit"
        } else {
            "Separator is not found, and chunk exceed the limit"
        })
    }
}

impl Error for LimitOverrunError {}

impl From<LimitOverrunError> for io::Error {
    fn from(error: LimitOverrunError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The error that ended a connection: everybody who asks gets it, as often as they ask.
#[derive(Clone, Debug)]
pub(super) struct StoredError(Arc<io::Error>);

impl StoredError {
    pub(super) fn new(error: io::Error) -> Self {
        Self(Arc::new(error))
    }

    /// Another error of the same kind, text and number, whose source is the first one's payload.
    pub(super) fn again(&self) -> io::Error {
        match self.0.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(self.0.kind(), self.clone()),
        }
    }
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for StoredError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.get_ref().map(|payload| payload as _)
    }
}
