//! Reads up to a separator: `readuntil`, `readline`, lines.
//!
//! The limit is about what stands before a separator. One that starts behind the limit is an overrun,
//! and so is none within the first limit bytes that could hold the start of one; the two count
//! different things (see [`LimitOverrunError`]).

use super::error::{IncompleteReadError, LimitOverrunError};
use super::protocol::Flag;
use super::read::Read;
use super::reader::StreamReader;
use std::future::Future;
use std::io;

/// Where a separator was found.
#[derive(Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
}

/// The search for separators in bytes that become more.
struct Search<L> {
    separators: L,
    longest: usize,
    /// No separator starts before it.
    offset: usize,
}

impl<'s, L: AsRef<[&'s [u8]]>> Search<L> {
    /// # Errors
    /// `InvalidInput` for no separator, or an empty one.
    fn new(separators: L) -> io::Result<Self> {
        let refuse = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let Some(longest) = separators.as_ref().iter().map(|one| one.len()).max() else {
            return refuse("Separator should contain at least one element");
        };
        if separators.as_ref().iter().any(|one| one.is_empty()) {
            return refuse("Separator should be at least one-byte string");
        }
        Ok(Self {
            separators,
            longest,
            offset: 0,
        })
    }

    /// The separator that ends first, of two that end together the shorter one.
    fn find(&mut self, bytes: &[u8]) -> Option<Found> {
        let from = self.offset.min(bytes.len());
        let mut best: Option<Found> = None;
        for separator in self.separators.as_ref() {
            // Beyond what is found already nothing can end earlier.
            let to = best.map_or(bytes.len(), |best| best.end);
            if let Some(at) = position(&bytes[from..to], separator) {
                let start = from + at;
                let end = start + separator.len();
                if best
                    .is_none_or(|best| (end, separator.len()) < (best.end, best.end - best.start))
                {
                    best = Some(Found { start, end });
                }
            }
        }
        if best.is_none() {
            self.offset = (bytes.len() + 1).saturating_sub(self.longest);
        }
        best
    }
}

fn position(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    let (&first, rest) = separator.split_first()?;
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|&byte| byte == first)?;
        if bytes[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Why a search ended without its bytes.
enum Missed {
    End(IncompleteReadError),
    Overrun(LimitOverrunError),
}

impl From<Missed> for io::Error {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::End(error) => error.into(),
            Missed::Overrun(error) => error.into(),
        }
    }
}

impl StreamReader {
    /// Reads up to and including a separator.
    ///
    /// # Errors
    /// See the type; `InvalidInput` for an empty separator; [`IncompleteReadError`] with everything
    /// that was there when the stream ends first; [`LimitOverrunError`], which leaves everything in
    /// the reader, when more bytes than the limit stand before the separator.
    pub fn readuntil<'a>(
        &'a mut self,
        separator: &'a [u8],
    ) -> impl Future<Output = io::Result<Vec<u8>>> + 'a {
        self.until([separator])
    }

    /// Reads up to and including the separator that ends first; of two that end together the shorter
    /// one is meant. asyncio (3.13): `readuntil` with a tuple.
    ///
    /// # Errors
    /// As [`readuntil`](Self::readuntil); `InvalidInput` also for no separator at all.
    pub fn readuntil_any<'a>(
        &'a mut self,
        separators: &'a [&'a [u8]],
    ) -> impl Future<Output = io::Result<Vec<u8>>> + 'a {
        self.until(separators)
    }

    /// Reads a line with its `\n`; without it at the end of the stream, and empty when nothing is
    /// left.
    ///
    /// # Errors
    /// See the type; [`LimitOverrunError`] for a line that is longer than the limit. That line is
    /// then dropped up to its end or, when its end was not found, with everything that is there.
    pub fn readline(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> {
        let mut search = Search {
            separators: [b"\n".as_slice()],
            longest: 1,
            offset: 0,
        };
        Read::new(self, move |reader| {
            let missed = match reader.try_until(&mut search)? {
                Ok(line) => return Some(Ok(line)),
                Err(missed) => missed,
            };
            match &missed {
                Missed::End(incomplete) => return Some(Ok(incomplete.partial.clone())),
                Missed::Overrun(LimitOverrunError {
                    consumed,
                    found: true,
                }) => {
                    reader.consume(consumed + 1);
                }
                Missed::Overrun(_) => reader.consume(reader.buffered()),
            }
            Some(Err(missed.into()))
        })
    }

    /// The next line as [`readline`](Self::readline) reads it; `None` when nothing is left. asyncio:
    /// `async for line in reader`.
    ///
    /// # Errors
    /// As [`readline`](Self::readline).
    pub async fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.readline().await?;
        Ok(Some(line).filter(|line| !line.is_empty()))
    }

    fn until<'a, L>(&'a mut self, separators: L) -> impl Future<Output = io::Result<Vec<u8>>> + 'a
    where
        L: AsRef<[&'a [u8]]> + Unpin + 'a,
    {
        let mut search = Search::new(separators).map_err(Some);
        Read::new(self, move |reader| match &mut search {
            Ok(search) => Some(reader.try_until(search)?.map_err(io::Error::from)),
            Err(refused) => refused.take().map(Err),
        })
    }

    /// Takes the bytes up to a separator, if they are there.
    fn try_until<'s>(
        &mut self,
        search: &mut Search<impl AsRef<[&'s [u8]]>>,
    ) -> Option<Result<Vec<u8>, Missed>> {
        self.look_at_all();
        let limit = self.limit();
        let overrun = match search.find(self.head.as_slice()) {
            Some(Found { start, end }) if start <= limit => return Some(Ok(self.take_vec(end))),
            Some(Found { start, .. }) => LimitOverrunError {
                consumed: start,
                found: true,
            },
            None if search.offset > limit => LimitOverrunError {
                consumed: search.offset,
                found: false,
            },
            None if self.stream.has(Flag::Eof) => {
                let partial = self.take_vec(self.buffered());
                return Some(Err(Missed::End(IncompleteReadError {
                    partial,
                    expected: None,
                })));
            }
            None => return None,
        };
        Some(Err(Missed::Overrun(overrun)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(separators: &[&[u8]], bytes: &[u8]) -> Option<(usize, usize)> {
        let mut search = Search::new(separators).ok()?;
        search.find(bytes).map(|found| (found.start, found.end))
    }

    #[test]
    fn the_separator_that_ends_first_is_found() {
        assert_eq!(found(&[b"a", b"b"], b"xxbxa"), Some((2, 3)));
        assert_eq!(found(&[b"long", b"g"], b"a long one"), Some((5, 6)));
        assert_eq!(found(&[b"ng", b"long"], b"a long one"), Some((4, 6)));
        assert_eq!(found(&[b"long", b"ng"], b"a long one"), Some((4, 6)));
        assert_eq!(found(&[b"aab"], b"aaab"), Some((1, 4)));
        assert_eq!(found(&[b"zz"], b"azbz"), None);
    }

    #[test]
    fn a_search_goes_on_where_a_separator_could_begin() {
        let Ok(mut search) = Search::new([b"abcd".as_slice(), b"x"]) else {
            panic!("two separators");
        };
        assert!(search.find(b"").is_none());
        assert_eq!(search.offset, 0);
        assert!(search.find(b"..ab").is_none());
        assert_eq!(search.offset, 1);
        assert!(search.find(b"..abcd").is_some());
    }
}
