//! What a wait waits for, as its node keeps it: in 16 bytes, because idle connections are many.
//!
//! **Guarantees.** A name comes out as it went in. What is only looked at by listings (the id of an
//! awaited task) is found then, not kept.

use super::arena::NONE;
use super::id::TaskId;
use super::tasks::Tasks;
use super::wait::WaitsFor;
use std::ptr::without_provenance;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sleep,
    /// Slot and generation of a task of the same loop.
    Join,
    /// The id of a task.
    Task,
    /// A name and a descriptor.
    Io,
    /// A name.
    Other,
}

/// See the module. `data` is the beginning of a `&'static str` of `len` bytes where `kind` says so,
/// else a number without provenance.
#[derive(Clone, Copy)]
pub(super) struct Noted {
    data: *const u8,
    fd: i32,
    len: u16,
    kind: Kind,
}

const _: () = assert!(size_of::<Noted>() <= 16);

/// What stands for a name that is longer than can be noted.
const LONG: &str = "something with a very long name";

impl Noted {
    #[inline]
    const fn named(kind: Kind, name: &'static str, fd: i32) -> Self {
        let name = if name.len() > u16::MAX as usize {
            LONG
        } else {
            name
        };
        Self {
            data: name.as_ptr(),
            fd,
            len: name.len() as u16,
            kind,
        }
    }

    #[inline]
    const fn numbered(kind: Kind, number: u64) -> Self {
        Self {
            data: without_provenance(number as usize),
            fd: 0,
            len: 0,
            kind,
        }
    }

    /// A wait that is no join.
    #[inline]
    pub(super) fn wait(what: WaitsFor) -> Self {
        match what {
            WaitsFor::Sleep => Self::numbered(Kind::Sleep, 0),
            WaitsFor::Task(id) => Self::numbered(Kind::Task, id.get()),
            WaitsFor::Io { name, fd } => Self::named(Kind::Io, name, fd),
            WaitsFor::Other(name) => Self::named(Kind::Other, name, 0),
        }
    }

    /// The wait for the end of the task in this slot.
    #[inline]
    pub(super) const fn join(slot: u32, generation: u32) -> Self {
        Self::numbered(Kind::Join, (generation as u64) << 32 | slot as u64)
    }

    #[inline]
    fn number(self) -> u64 {
        self.data.addr() as u64
    }

    /// Slot and generation of the awaited task; the slot is NONE for other waits.
    #[inline]
    pub(super) fn joined(self) -> (u32, u32) {
        match self.kind {
            Kind::Join => (self.number() as u32, (self.number() >> 32) as u32),
            _ => (NONE, 0),
        }
    }

    /// The name; empty when it has none.
    fn name(self) -> &'static str {
        match self.kind {
            Kind::Io | Kind::Other => {
                // SAFETY: `named`, which alone makes these kinds, took beginning and length from a
                // `&'static str`.
                unsafe {
                    let bytes = std::slice::from_raw_parts(self.data, self.len as usize);
                    std::str::from_utf8_unchecked(bytes)
                }
            }
            Kind::Sleep | Kind::Join | Kind::Task => "",
        }
    }
}

impl Tasks {
    /// What was noted, in full.
    pub(super) fn what(&self, noted: Noted) -> WaitsFor {
        let task = |id: Option<TaskId>| id.map_or(WaitsFor::Other("task"), WaitsFor::Task);
        match noted.kind {
            Kind::Sleep => WaitsFor::Sleep,
            Kind::Task => task(TaskId::from_bits(noted.number())),
            Kind::Join => {
                let (index, generation) = noted.joined();
                let awaited = self.arena.get(index);
                let awaited = awaited.filter(|slot| slot.generation() == generation);
                task(awaited.and_then(|slot| slot.id()))
            }
            Kind::Io => WaitsFor::Io {
                name: noted.name(),
                fd: noted.fd,
            },
            Kind::Other => WaitsFor::Other(noted.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_as_they_went_in() {
        let name: &'static str = Box::leak("é".repeat(400).into_boxed_str());
        assert_eq!(Noted::wait(WaitsFor::Other(name)).name(), name);
        let io = Noted::wait(WaitsFor::Io {
            name: "recv",
            fd: -1,
        });
        assert_eq!((io.name(), io.fd), ("recv", -1));
        let long: &'static str = Box::leak("é".repeat(40_000).into_boxed_str());
        assert_eq!(Noted::wait(WaitsFor::Other(long)).name(), LONG);
        assert_eq!(Noted::wait(WaitsFor::Sleep).joined().0, NONE);
        assert_eq!(Noted::join(7, 9).joined(), (7, 9));
        assert_eq!(Noted::join(7, 9).name(), "");
    }
}
