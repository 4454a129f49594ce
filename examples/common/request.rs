//! HTTP/1.1 without I/O: from received bytes to the answers they deserve.
//!
//! Request bodies are read and discarded; every good request gets the same answer. What makes a
//! request bad (RFC 9112) is refused with the status that says so, and the connection ends.

use httparse::{EMPTY_HEADER, Header, Status};
use std::mem::MaybeUninit;

/// The most bytes of a request line with its headers, and of trailers.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers.
const MAX_HEADERS: usize = 64;
/// The most bytes of a request body.
const MAX_BODY: u64 = 1024 * 1024;
/// The most bytes of the line before a chunk.
const MAX_CHUNK_LINE: usize = 1024;

const BODY: &str = "Hello, world!\n";

macro_rules! answer {
    ($version:literal, $connection:literal) => {
        concat!(
            $version,
            " 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n",
            $connection,
            "\r\nHello, world!\n"
        )
    };
}

macro_rules! refusal {
    ($status:literal) => {
        concat!(
            "HTTP/1.1 ",
            $status,
            "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .as_bytes()
    };
}

const BAD_REQUEST: &[u8] = refusal!("400 Bad Request");
const CONTENT_TOO_LARGE: &[u8] = refusal!("413 Content Too Large");
const HEADERS_TOO_LARGE: &[u8] = refusal!("431 Request Header Fields Too Large");
const NOT_IMPLEMENTED: &[u8] = refusal!("501 Not Implemented");
const VERSION_NOT_SUPPORTED: &[u8] = refusal!("505 HTTP Version Not Supported");
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: a request is not complete.
    More,
    /// Go on with the request: tell the client to send its body.
    Continue(&'static [u8]),
    /// Answer a request; another may follow.
    Answer(&'static [u8]),
    /// Answer a request and close.
    Last(&'static [u8]),
    /// Refuse what came: answer and close. What the client still sends means nothing.
    Refuse(&'static [u8]),
}

/// Where in the stream of requests we are.
#[derive(Default)]
pub struct Requests {
    /// The request whose body is being read.
    request: Option<Request>,
}

struct Request {
    is_head: bool,
    is_http_10: bool,
    keep_alive: bool,
    body: Body,
}

enum Body {
    /// So many bytes are left.
    Length(u64),
    /// Chunks, of which so many bytes were announced.
    Chunks(Chunk, u64),
}

enum Chunk {
    Size,
    /// So many bytes are left.
    Data(u64),
    DataEnd,
    Trailers,
}

impl Requests {
    /// Whether a request is half read.
    pub fn in_progress(&self) -> bool {
        self.request.is_some()
    }

    /// How many bytes of `input` were used, and what is to be done for them. Call it again with the
    /// rest, until it wants more. With `last`, no further request is expected.
    pub fn next(&mut self, input: &[u8], last: bool) -> (usize, Next) {
        let mut used = 0;
        let mut request = match self.request.take() {
            Some(request) => request,
            None => match Request::parse(input) {
                Ok(None) => return (0, Next::More),
                Ok(Some((head, request, wants_continue))) => {
                    used = head;
                    if wants_continue && used == input.len() {
                        self.request = Some(request);
                        return (used, Next::Continue(CONTINUE));
                    }
                    request
                }
                Err(refusal) => return (0, Next::Refuse(refusal)),
            },
        };
        match request.body.skip(&input[used..]) {
            Err(refusal) => (used, Next::Refuse(refusal)),
            Ok((skipped, false)) => {
                self.request = Some(request);
                (used + skipped, Next::More)
            }
            Ok((skipped, true)) => (used + skipped, request.answer(last)),
        }
    }
}

impl Request {
    /// The request at the start of `input`, how long its head is, and whether it waits for "continue".
    fn parse(input: &[u8]) -> Result<Option<(usize, Self, bool)>, &'static [u8]> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut []);
        let head = match parsed.parse_with_uninit_headers(input, &mut headers) {
            Ok(Status::Complete(head)) if head <= MAX_HEAD => head,
            Ok(Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HEADERS_TOO_LARGE),
            Err(httparse::Error::Version) => return Err(VERSION_NOT_SUPPORTED),
            Err(_) => return Err(BAD_REQUEST),
        };
        let is_http_10 = parsed.version == Some(0);
        let mut request = Self {
            is_head: parsed.method == Some("HEAD"),
            is_http_10,
            keep_alive: !is_http_10,
            body: Body::Length(0),
        };
        let mut length = None;
        let mut chunked = false;
        let mut hosts = 0;
        let mut wants_continue = false;
        for Header { name, value } in parsed.headers.iter() {
            if name.eq_ignore_ascii_case("host") {
                hosts += 1;
            } else if name.eq_ignore_ascii_case("connection") {
                for token in tokens(value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        request.keep_alive = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") && is_http_10 {
                        request.keep_alive = true;
                    }
                }
            } else if name.eq_ignore_ascii_case("content-length") {
                let this = number(value)?;
                if length.is_some_and(|length| length != this) {
                    return Err(BAD_REQUEST);
                }
                length = Some(this);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || is_http_10 {
                    return Err(BAD_REQUEST);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(NOT_IMPLEMENTED);
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case("expect") {
                wants_continue = value.eq_ignore_ascii_case(b"100-continue") && !is_http_10;
            }
        }
        if hosts > 1 || (hosts == 0 && !is_http_10) {
            return Err(BAD_REQUEST);
        }
        match (chunked, length) {
            // Two lengths: somebody on the way may believe the other one.
            (true, Some(_)) => return Err(BAD_REQUEST),
            (true, None) => request.body = Body::Chunks(Chunk::Size, 0),
            (false, length) => request.body = Body::Length(length.unwrap_or(0)),
        }
        let has_body = !matches!(request.body, Body::Length(0));
        if matches!(request.body, Body::Length(length) if length > MAX_BODY) {
            return Err(CONTENT_TOO_LARGE);
        }
        Ok(Some((head, request, wants_continue && has_body)))
    }

    fn answer(&self, last: bool) -> Next {
        const KEEP: &str = answer!("HTTP/1.1", "");
        const KEEP_10: &str = answer!("HTTP/1.1", "Connection: keep-alive\r\n");
        const CLOSE: &str = answer!("HTTP/1.1", "Connection: close\r\n");
        let keep = self.keep_alive && !last;
        let answer = match (keep, self.is_http_10) {
            (true, false) => KEEP,
            (true, true) => KEEP_10,
            (false, _) => CLOSE,
        };
        let body = if self.is_head { BODY.len() } else { 0 };
        let answer = &answer.as_bytes()[..answer.len() - body];
        if keep {
            Next::Answer(answer)
        } else {
            Next::Last(answer)
        }
    }
}

impl Body {
    /// How many bytes of `input` belong to the body, and whether they end it.
    fn skip(&mut self, input: &[u8]) -> Result<(usize, bool), &'static [u8]> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self {
                Self::Length(left) | Self::Chunks(Chunk::Data(left), _) => {
                    let n = (*left).min(rest.len() as u64);
                    *left -= n;
                    used += n as usize;
                    let ended = *left == 0;
                    match self {
                        Self::Chunks(chunk, _) if ended => *chunk = Chunk::DataEnd,
                        _ => return Ok((used, ended)),
                    }
                }
                Self::Chunks(chunk @ Chunk::Size, total) => {
                    match httparse::parse_chunk_size(rest) {
                        Ok(Status::Complete((n, size))) => {
                            used += n;
                            *total = total.saturating_add(size);
                            if *total > MAX_BODY {
                                return Err(CONTENT_TOO_LARGE);
                            }
                            *chunk = if size == 0 {
                                Chunk::Trailers
                            } else {
                                Chunk::Data(size)
                            };
                        }
                        Ok(Status::Partial) if rest.len() < MAX_CHUNK_LINE => {
                            return Ok((used, false));
                        }
                        _ => return Err(BAD_REQUEST),
                    }
                }
                Self::Chunks(chunk @ Chunk::DataEnd, _) => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        *chunk = Chunk::Size;
                    }
                    [] | [b'\r'] => return Ok((used, false)),
                    _ => return Err(BAD_REQUEST),
                },
                Self::Chunks(Chunk::Trailers, _) => {
                    let mut trailers = [EMPTY_HEADER; MAX_HEADERS];
                    return match httparse::parse_headers(rest, &mut trailers) {
                        Ok(Status::Complete((n, _))) if n <= MAX_HEAD => Ok((used + n, true)),
                        Ok(Status::Partial) if rest.len() < MAX_HEAD => Ok((used, false)),
                        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(HEADERS_TOO_LARGE),
                        Err(_) => Err(BAD_REQUEST),
                    };
                }
            }
        }
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// A length: digits only.
fn number(value: &[u8]) -> Result<u64, &'static [u8]> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD_REQUEST);
    }
    // Digits that are no u64 are a large number.
    Ok(std::str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u64::MAX))
}
