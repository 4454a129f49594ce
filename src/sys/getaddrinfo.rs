//! The system's resolver: `getaddrinfo(3)` with flags, and `getnameinfo(3)`. Both block.
//!
//! std's `ToSocketAddrs` gives no access to family, flags and canonical name.

use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What to look up. Numbers are those of `getaddrinfo(3)`; 0 leaves them open.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Name or literal address; `None` for the wildcard or loopback address.
    pub host: Option<String>,
    /// Number or service name; `None` for port 0.
    pub service: Option<String>,
    /// `AF_*`.
    pub family: i32,
    /// `SOCK_*`.
    pub socket_type: i32,
    /// `IPPROTO_*`.
    pub protocol: i32,
    /// `AI_*`.
    pub flags: i32,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Found {
    /// Address with port.
    pub address: SocketAddr,
    /// `SOCK_*`.
    pub socket_type: i32,
    /// `IPPROTO_*`.
    pub protocol: i32,
    /// With `AI_CANONNAME`, in the first answer.
    pub canonical_name: Option<String>,
}

/// The resolver's own error; an `io::Error` carries it, or an errno where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverError {
    code: i32,
    text: String,
}

impl ResolverError {
    /// The `EAI_*` number.
    pub fn code(&self) -> i32 {
        self.code
    }
}

impl fmt::Display for ResolverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ResolverError {}

/// The error of an `EAI_*` number, about `what`.
fn error(code: i32, what: &str) -> io::Error {
    if code == libc::EAI_SYSTEM {
        return io::Error::last_os_error();
    }
    // SAFETY: gai_strerror returns a pointer to a constant, NUL-terminated text for every number.
    let text = unsafe { CStr::from_ptr(libc::gai_strerror(code)) }.to_string_lossy();
    let kind = match code {
        // The name, or this kind of record for it, does not exist.
        libc::EAI_NONAME | libc::EAI_NODATA => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    let text = format!("cannot resolve {what}: {text}");
    io::Error::new(kind, ResolverError { code, text })
}

fn c_string(text: Option<&str>) -> io::Result<Option<CString>> {
    text.map(CString::new).transpose().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a name must not hold a NUL byte",
        )
    })
}

/// The list that getaddrinfo made; freed on drop.
struct List(*mut libc::addrinfo);

impl Drop for List {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by getaddrinfo, freed only here.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

/// Looks names up. Blocks for as long as the system's resolver does.
///
/// # Errors
/// [`ResolverError`] inside an `io::Error`, or the errno of the resolver's own system calls;
/// `InvalidInput` for a NUL byte in a name.
pub fn getaddrinfo(query: &Query) -> io::Result<Vec<Found>> {
    let host = c_string(query.host.as_deref())?;
    // Both NULL would be refused.
    let service = c_string(Some(query.service.as_deref().unwrap_or("0")))?;
    // SAFETY: all zeroes is a valid addrinfo: numbers left open, null pointers.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = query.family;
    hints.ai_socktype = query.socket_type;
    hints.ai_protocol = query.protocol;
    hints.ai_flags = query.flags;
    let mut list = List(std::ptr::null_mut());
    let pointer = |name: &Option<CString>| name.as_ref().map_or(std::ptr::null(), |n| n.as_ptr());
    // SAFETY: names are NUL-terminated and, like the hints, outlive the call; the result goes into
    // `list`, which owns it.
    let code = unsafe {
        libc::getaddrinfo(
            pointer(&host),
            pointer(&service),
            &raw const hints,
            &raw mut list.0,
        )
    };
    if code != 0 {
        let name = query.host.as_deref().unwrap_or("");
        let service = query.service.as_deref().unwrap_or("0");
        return Err(error(code, &format!("{name:?} port {service}")));
    }
    let mut found = Vec::new();
    let mut next = list.0;
    // SAFETY: getaddrinfo gave a list of valid entries that ends with null; it lives in `list`.
    while let Some(info) = unsafe { next.as_ref() } {
        found.extend(answer(info));
        next = info.ai_next;
    }
    Ok(found)
}

/// One entry of the list; `None` when its family is not IP.
fn answer(info: &libc::addrinfo) -> Option<Found> {
    let address = match info.ai_family {
        libc::AF_INET => {
            // SAFETY: an entry of family AF_INET holds a sockaddr_in.
            let raw = unsafe { info.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: an entry of family AF_INET6 holds a sockaddr_in6.
            let raw = unsafe { info.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(raw.sin6_addr.s6_addr),
                u16::from_be(raw.sin6_port),
                raw.sin6_flowinfo,
                raw.sin6_scope_id,
            ))
        }
        _ => return None,
    };
    let canonical_name = (!info.ai_canonname.is_null()).then(|| {
        // SAFETY: where it is not null, it is a NUL-terminated text that lives as long as the entry.
        unsafe { CStr::from_ptr(info.ai_canonname) }
            .to_string_lossy()
            .into_owned()
    });
    Some(Found {
        address,
        socket_type: info.ai_socktype,
        protocol: info.ai_protocol,
        canonical_name,
    })
}

/// Longest host name and service name, as `<netdb.h>` has them.
const MAX_HOST: usize = 1025;
const MAX_SERVICE: usize = 32;

/// The names of an address: host and service. `flags` are `NI_*`. Blocks as [`getaddrinfo`] does.
///
/// # Errors
/// As [`getaddrinfo`].
pub fn getnameinfo(address: SocketAddr, flags: i32) -> io::Result<(String, String)> {
    let raw = SockaddrStorage::from(address);
    let mut host = [0 as c_char; MAX_HOST];
    let mut service = [0 as c_char; MAX_SERVICE];
    // SAFETY: the address is valid for its length, the buffers for theirs, and all outlive the call.
    let code = unsafe {
        libc::getnameinfo(
            raw.as_ptr(),
            raw.len(),
            host.as_mut_ptr(),
            MAX_HOST as libc::socklen_t,
            service.as_mut_ptr(),
            MAX_SERVICE as libc::socklen_t,
            flags,
        )
    };
    if code != 0 {
        return Err(error(code, &format!("the address {address}")));
    }
    let text = |buffer: &[c_char]| {
        let bytes: Vec<u8> = buffer
            .iter()
            .map(|&byte| byte as u8)
            .take_while(|&byte| byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok((text(&host), text(&service)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(host: &str, service: &str) -> io::Result<Vec<Found>> {
        getaddrinfo(&Query {
            host: Some(host.to_owned()),
            service: Some(service.to_owned()),
            socket_type: libc::SOCK_STREAM,
            flags: libc::AI_NUMERICHOST,
            ..Query::default()
        })
    }

    #[test]
    fn both_families_are_read() {
        let found = literal("127.0.0.1", "80").expect("a literal address");
        assert_eq!(
            found[0].address,
            "127.0.0.1:80".parse().expect("an address")
        );
        assert_eq!(found[0].protocol, libc::IPPROTO_TCP);
        let found = literal("::1", "81").expect("a literal address");
        assert_eq!(found[0].address, "[::1]:81".parse().expect("an address"));
    }

    #[test]
    fn errors_say_what_and_why() {
        let error = literal("no number", "80").expect_err("not a literal");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let inner = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<ResolverError>());
        assert_eq!(inner.map(ResolverError::code), Some(libc::EAI_NONAME));
        assert!(error.to_string().contains("\"no number\""), "{error}");
        let error = literal("a\0b", "80").expect_err("holds a NUL byte");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn addresses_have_names() {
        let address = "127.0.0.1:80".parse().expect("an address");
        let flags = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
        let names = getnameinfo(address, flags).expect("numbers need no resolver");
        assert_eq!(names, ("127.0.0.1".to_owned(), "80".to_owned()));
    }
}
