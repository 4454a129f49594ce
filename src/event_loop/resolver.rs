//! Names to addresses, off the loop.
//!
//! A literal address with a numeric port needs no resolver; everything else runs in a thread of the
//! loop's. Connecting and serving ask the *outermost* loop, so a loop that wraps this one may
//! bring its own resolver.

use super::abstract_event_loop::AbstractEventLoop;
use super::error::LoopError;
use super::executor;
use crate::sys::getaddrinfo::{self as system, Found, Query};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Weak;
use std::task::Poll;

pub use crate::sys::getaddrinfo::ResolverError;

/// An address family, or any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// Either family. C: `AF_UNSPEC`.
    #[default]
    Any,
    /// IPv4. C: `AF_INET`.
    V4,
    /// IPv6. C: `AF_INET6`.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::Any => libc::AF_UNSPEC,
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }
}

/// A type of socket, or any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SocketType {
    /// Any type.
    #[default]
    Any,
    /// TCP. C: `SOCK_STREAM`.
    Stream,
    /// UDP. C: `SOCK_DGRAM`.
    Datagram,
    /// C: `SOCK_RAW`.
    Raw,
}

impl SocketType {
    fn number(self) -> i32 {
        match self {
            Self::Any => 0,
            Self::Stream => libc::SOCK_STREAM,
            Self::Datagram => libc::SOCK_DGRAM,
            Self::Raw => libc::SOCK_RAW,
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        match number {
            libc::SOCK_STREAM => Some(Self::Stream),
            libc::SOCK_DGRAM => Some(Self::Datagram),
            libc::SOCK_RAW => Some(Self::Raw),
            _ => None,
        }
    }
}

/// What answers are wanted; everything by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Address family.
    pub family: Family,
    /// Type of socket. asyncio: `type`.
    pub socket_type: SocketType,
    /// Protocol number (`IPPROTO_*`); 0 for any.
    pub proto: i32,
    /// `AI_*` bits of `getaddrinfo(3)`; a name that is not ASCII needs `AI_IDN`.
    pub flags: i32,
}

/// One answer. asyncio: the tuple of `getaddrinfo`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddrInfo {
    /// Address with port and, for IPv6, scope.
    pub address: SocketAddr,
    /// Type of socket.
    pub socket_type: SocketType,
    /// Protocol number.
    pub proto: i32,
    /// The host's canonical name: with `AI_CANONNAME`, in the first answer.
    pub canonical_name: Option<String>,
}

impl AddrInfo {
    /// The address's family.
    pub fn family(&self) -> Family {
        Family::of(&self.address)
    }

    fn from_found(found: Found) -> Option<Self> {
        Some(Self {
            address: found.address,
            socket_type: SocketType::from_number(found.socket_type)?,
            proto: found.protocol,
            canonical_name: found.canonical_name,
        })
    }
}

/// The number in a port; `None` for the name of a service.
fn numeric_port(port: &str) -> io::Result<Option<u16>> {
    if port.is_empty() {
        return Ok(Some(0));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // The system's resolver would take the number modulo 65536.
    let number = port.parse().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("port {port} is not 0-65535"),
        )
    })?;
    Ok(Some(number))
}

/// The answer that needs no resolver: for a literal address of the right family with a numeric
/// port, for streams and datagrams. Scoped addresses (`fe80::1%eth0`) and names of services do
/// need it.
fn literal(host: Option<&str>, port: &str, hints: Hints) -> io::Result<Option<AddrInfo>> {
    let port = numeric_port(port)?;
    let proto = match hints.socket_type {
        SocketType::Stream => libc::IPPROTO_TCP,
        SocketType::Datagram => libc::IPPROTO_UDP,
        SocketType::Any | SocketType::Raw => return Ok(None),
    };
    if ![0, libc::IPPROTO_TCP, libc::IPPROTO_UDP].contains(&hints.proto) {
        return Ok(None);
    }
    let (Some(host), Some(port)) = (host, port) else {
        return Ok(None);
    };
    let Ok(ip) = host.parse::<IpAddr>() else {
        return Ok(None);
    };
    let address = SocketAddr::new(ip, port);
    if hints.family != Family::Any && hints.family != Family::of(&address) {
        return Ok(None);
    }
    Ok(Some(AddrInfo {
        address,
        socket_type: hints.socket_type,
        proto,
        canonical_name: None,
    }))
}

/// `getaddrinfo` of the base loop.
pub(super) async fn getaddrinfo(
    event_loop: Weak<dyn AbstractEventLoop>,
    host: Option<String>,
    port: String,
    hints: Hints,
) -> io::Result<Vec<AddrInfo>> {
    if let Some(info) = literal(host.as_deref(), &port, hints)? {
        return Ok(vec![info]);
    }
    let query = Query {
        host,
        service: (!port.is_empty()).then_some(port),
        family: hints.family.number(),
        socket_type: hints.socket_type.number(),
        protocol: hints.proto,
        flags: hints.flags,
    };
    let found = in_executor(event_loop, move || system::getaddrinfo(&query)).await?;
    Ok(found.into_iter().filter_map(AddrInfo::from_found).collect())
}

/// `getnameinfo` of the base loop: host and service of an address. `flags` are `NI_*`.
pub(super) async fn getnameinfo(
    event_loop: Weak<dyn AbstractEventLoop>,
    address: SocketAddr,
    flags: i32,
) -> io::Result<(String, String)> {
    in_executor(event_loop, move || system::getnameinfo(address, flags)).await
}

async fn in_executor<T: Send + 'static>(
    event_loop: Weak<dyn AbstractEventLoop>,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let job = match event_loop.upgrade() {
        Some(event_loop) => executor::run(&*event_loop, job),
        None => return Err(LoopError::Closed.into()),
    };
    job.await?
}

/// The addresses of a host, for connecting and serving. Never empty.
pub(super) async fn resolve(
    event_loop: Weak<dyn AbstractEventLoop>,
    host: Option<String>,
    port: String,
    hints: Hints,
) -> io::Result<Vec<AddrInfo>> {
    if let Some(info) = literal(host.as_deref(), &port, hints)? {
        return Ok(vec![info]);
    }
    let name = host
        .as_ref()
        .map(|host| format!("{host:?}"))
        .unwrap_or_default();
    let asking = match event_loop.upgrade() {
        Some(event_loop) => event_loop.getaddrinfo(host, port, hints),
        None => return Err(LoopError::Closed.into()),
    };
    let infos = asking.await?;
    if infos.is_empty() {
        let text = format!("getaddrinfo({name}) returned empty list");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(infos)
}

/// The distinct addresses of several hosts, asked for at the same time, in their order. The first
/// error ends it.
pub(super) async fn resolve_all(
    event_loop: &Weak<dyn AbstractEventLoop>,
    hosts: Vec<Option<String>>,
    port: &str,
    hints: Hints,
) -> io::Result<Vec<AddrInfo>> {
    let ask = |host| Box::pin(resolve(event_loop.clone(), host, port.to_owned(), hints));
    let mut asking: Vec<_> = hosts.into_iter().map(ask).map(Some).collect();
    let mut answers: Vec<Vec<AddrInfo>> = vec![Vec::new(); asking.len()];
    poll_fn(|cx| {
        for (slot, answer) in asking.iter_mut().zip(&mut answers) {
            let Some(future) = slot else { continue };
            if let Poll::Ready(outcome) = future.as_mut().poll(cx) {
                *slot = None;
                match outcome {
                    Ok(infos) => *answer = infos,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        if asking.iter().all(Option::is_none) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await?;
    let mut distinct = Vec::new();
    for info in answers.into_iter().flatten() {
        if !distinct.contains(&info) {
            distinct.push(info);
        }
    }
    Ok(distinct)
}

/// Mixes families: `first - 1` more addresses of the first family, then one of each in turn. The
/// order within a family stays.
pub(super) fn interleave(infos: Vec<AddrInfo>, first: usize) -> Vec<AddrInfo> {
    let Some(family) = infos.first().map(AddrInfo::family) else {
        return infos;
    };
    let (mut same, other): (Vec<_>, Vec<_>) =
        infos.into_iter().partition(|info| info.family() == family);
    let rest = same.split_off(first.saturating_sub(1).min(same.len()));
    let (mut rest, mut other) = (rest.into_iter(), other.into_iter());
    let mut mixed = same;
    loop {
        let before = mixed.len();
        mixed.extend(rest.next());
        mixed.extend(other.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(family: Family) -> Hints {
        Hints {
            family,
            socket_type: SocketType::Stream,
            ..Hints::default()
        }
    }

    fn of(host: &str, port: &str, hints: Hints) -> Option<(String, i32)> {
        let info = literal(Some(host), port, hints).expect("a valid port")?;
        Some((info.address.to_string(), info.proto))
    }

    #[test]
    fn res_01_literal_addresses_need_no_resolver() {
        let tcp = libc::IPPROTO_TCP;
        let udp = libc::IPPROTO_UDP;
        let some = |text: &str, proto| Some((text.to_owned(), proto));
        assert_eq!(
            of("1.2.3.4", "1", stream(Family::Any)),
            some("1.2.3.4:1", tcp)
        );
        assert_eq!(
            of("1.2.3.4", "1", stream(Family::V4)),
            some("1.2.3.4:1", tcp)
        );
        assert_eq!(of("::3", "1", stream(Family::Any)), some("[::3]:1", tcp));
        let datagram = Hints {
            socket_type: SocketType::Datagram,
            ..Hints::default()
        };
        assert_eq!(of("1.2.3.4", "1", datagram), some("1.2.3.4:1", udp));
        // The protocol is forced to the one of the type.
        let odd = Hints {
            proto: udp,
            ..stream(Family::Any)
        };
        assert_eq!(of("1.2.3.4", "1", odd), some("1.2.3.4:1", tcp));
        // The resolver is needed: wrong family, scope, name, another type or protocol.
        assert_eq!(of("1.2.3.4", "1", stream(Family::V6)), None);
        assert_eq!(of("::3", "1", stream(Family::V4)), None);
        assert_eq!(of("::3%lo", "1", stream(Family::Any)), None);
        assert_eq!(of("localhost", "1", stream(Family::Any)), None);
        assert_eq!(of("1.2.3.4", "1", Hints::default()), None);
        let sctp = Hints {
            proto: libc::IPPROTO_SCTP,
            ..stream(Family::Any)
        };
        assert_eq!(of("1.2.3.4", "1", sctp), None);
        assert_eq!(
            literal(None, "1", stream(Family::Any)).expect("a valid port"),
            None
        );
    }

    #[test]
    fn res_02_ports_are_none_text_or_number() {
        for (port, expected) in [("", Some(0)), ("1", Some(1)), ("65535", Some(65535))] {
            let info = literal(Some("1.2.3.4"), port, stream(Family::Any)).expect("a valid port");
            assert_eq!(info.map(|info| info.address.port()), expected);
        }
        assert_eq!(of("1.2.3.4", "http", stream(Family::Any)), None);
        let error = literal(Some("1.2.3.4"), "65536", stream(Family::Any));
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(io::ErrorKind::InvalidInput)
        );
    }

    #[test]
    fn families_are_mixed_in_order() {
        let info = |text: &str| AddrInfo {
            address: text.parse().expect("an address"),
            socket_type: SocketType::Stream,
            proto: libc::IPPROTO_TCP,
            canonical_name: None,
        };
        let mixed = |first| {
            let given = ["1.1.1.1:1", "1.1.1.1:2", "[::1]:1", "1.1.1.1:3", "[::1]:2"];
            let mixed = interleave(given.into_iter().map(info).collect(), first);
            mixed
                .iter()
                .map(|info| info.address.to_string())
                .collect::<Vec<_>>()
        };
        let once = ["1.1.1.1:1", "[::1]:1", "1.1.1.1:2", "[::1]:2", "1.1.1.1:3"];
        assert_eq!(mixed(1), once);
        let twice = ["1.1.1.1:1", "1.1.1.1:2", "[::1]:1", "1.1.1.1:3", "[::1]:2"];
        assert_eq!(mixed(2), twice);
        let many = ["1.1.1.1:1", "1.1.1.1:2", "1.1.1.1:3", "[::1]:1", "[::1]:2"];
        assert_eq!(mixed(9), many);
        assert!(interleave(Vec::new(), 1).is_empty());
    }
}
