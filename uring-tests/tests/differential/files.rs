//! Files; one operation on each at a time, since both drivers leave their order open.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use ringloop::driver::{Event, Fd, Key, Op};
use uring_tests::TempDir;
use uring_tests::drive::{fd, pattern};

use super::script::FILES;
use super::world::{Base, Owner};

/// An operation in flight.
struct Flight {
    key: Key,
    /// Not flushed yet.
    fresh: bool,
    cancelled: bool,
    writes: bool,
}

pub struct Files {
    files: Vec<Fd>,
    flying: Vec<Option<Flight>>,
    opening: usize,
}

impl Files {
    pub fn new(dir: &TempDir) -> Self {
        let open = |number| {
            let path = dir.join(&format!("file {number}"));
            let mut options = std::fs::File::options();
            let file = options.read(true).write(true).create_new(true).open(path);
            fd(file.unwrap())
        };
        Self {
            files: (0..FILES).map(open).collect(),
            flying: (0..FILES).map(|_| None).collect(),
            opening: 0,
        }
    }

    fn submit(&mut self, base: &mut Base, on: usize, op: impl FnOnce(Fd) -> Op) {
        if self.flying[on].is_none() {
            let op = op(self.files[on].clone());
            let writes = matches!(op, Op::WriteAt { .. });
            let key = base.submit(op, Owner::File(on));
            self.flying[on] = Some(Flight {
                key,
                writes,
                fresh: true,
                cancelled: false,
            });
        }
    }

    pub fn write(&mut self, base: &mut Base, on: usize, len: usize, offset: u64) {
        self.submit(base, on, |fd| Op::write_at(fd, pattern(len), offset));
    }

    pub fn read(&mut self, base: &mut Base, on: usize, len: usize, offset: u64) {
        self.submit(base, on, |fd| Op::read_at(fd, vec![0; len], offset));
    }

    pub fn sync(&mut self, base: &mut Base, on: usize, data_only: bool) {
        self.submit(base, on, |fd| Op::Fsync { fd, data_only });
    }

    /// Only what changes nothing, since a write that was cancelled may have happened, and only what is
    /// not flushed, since it may be over already.
    pub fn cancel(&mut self, base: &mut Base, on: usize) {
        if let Some(flight) = &mut self.flying[on]
            && flight.fresh
            && !flight.writes
        {
            base.rig.cancel(flight.key);
            flight.cancelled = true;
        }
    }

    /// The driver was parked.
    pub fn flushed(&mut self) {
        for flight in self.flying.iter_mut().flatten() {
            flight.fresh = false;
        }
    }

    pub fn done(&mut self, base: &mut Base, on: usize, event: Event) {
        let flight = self.flying[on].take().expect("nothing in flight");
        if flight.cancelled {
            assert!(event.result >= 0 || event.result == -libc::ECANCELED);
            return;
        }
        let read = match &event.op {
            Some(Op::ReadAt { part, .. }) => {
                let bytes = &part.buf[..usize::try_from(event.result).unwrap_or(0)];
                checksum(bytes)
            }
            _ => 0,
        };
        let line = format!("{} ({read:x})", event.result);
        base.note(&format!("file {on}"), line);
    }

    pub fn open(&mut self, base: &mut Base, name: usize, flags: i32) {
        // Opens of a name in one flush are not ordered.
        if self.opening > 0 {
            return;
        }
        let path = base.dir.join(&format!("opened {name}")).into_os_string();
        let op = Op::OpenAt {
            path: CString::new(path.into_vec()).unwrap(),
            flags,
            mode: 0o600,
        };
        base.submit(op, Owner::Open);
        self.opening += 1;
    }

    pub fn opened(&mut self, base: &mut Base, event: Event) {
        self.opening -= 1;
        assert_eq!(event.fd.is_some(), event.result >= 0);
        base.note("open", event.result.min(0).to_string());
    }

    pub fn due(&self) -> Option<String> {
        let busy = self.opening > 0 || self.flying.iter().any(Option::is_some);
        busy.then(|| "files".to_owned())
    }

    /// Logs what stands in the files at the end.
    pub fn contents(&self, base: &mut Base) {
        for on in 0..FILES {
            let bytes = std::fs::read(base.dir.join(&format!("file {on}"))).unwrap();
            let line = format!("{} bytes ({:x})", bytes.len(), checksum(&bytes));
            base.note(&format!("file {on}"), line);
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
