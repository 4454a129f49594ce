//! The HTTP part of all servers: one request, one answer, one parser, so that the tables compare
//! loops and not parsers.

use std::sync::OnceLock;

/// What the load generator sends.
pub const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ringloop-benches\r\nAccept: */*\r\n\r\n";

/// What a server answers to each request.
pub const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!";

/// The most requests that one call of [`Rest::requests`] may be asked to find: more than fit into
/// the 16 KiB that servers receive at once.
const MAX_RESPONSES: usize = 256;

/// `count` answers in a row.
pub fn responses(count: usize) -> &'static [u8] {
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    let all = ALL.get_or_init(|| RESPONSE.repeat(MAX_RESPONSES));
    &all[..count * RESPONSE.len()]
}

/// The part of a request that came without its end.
#[derive(Default)]
pub struct Rest(Vec<u8>);

impl Rest {
    /// How many requests the bytes complete; the beginning of another is kept for the next call.
    /// `None`: this is no HTTP.
    pub fn requests(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.0.is_empty() {
            let (count, used) = parse(bytes)?;
            if used < bytes.len() {
                self.0.extend_from_slice(&bytes[used..]);
            }
            return Some(count);
        }
        self.0.extend_from_slice(bytes);
        let (count, used) = parse(&self.0)?;
        self.0.drain(..used);
        Some(count)
    }
}

fn parse(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut count, mut used) = (0, 0);
    while used < bytes.len() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes[used..]) {
            Ok(httparse::Status::Complete(length)) => {
                count += 1;
                used += length;
            }
            Ok(httparse::Status::Partial) => break,
            Err(_) => return None,
        }
    }
    Some((count, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_pieces_and_in_a_row() {
        let mut rest = Rest::default();
        assert_eq!(rest.requests(&REQUEST.repeat(3)), Some(3));
        let (start, end) = REQUEST.split_at(20);
        assert_eq!(rest.requests(start), Some(0));
        assert_eq!(rest.requests(end), Some(1));
        assert_eq!(rest.requests(&[end, start].concat()[end.len()..]), Some(0));
        assert_eq!(rest.requests(&[end, REQUEST, start].concat()), Some(2));
        assert_eq!(rest.requests(b"no \x01 request\r\n\r\n"), None);
    }
}
