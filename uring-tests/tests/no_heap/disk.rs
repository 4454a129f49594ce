//! Reads past the page cache. The kernel can not take them back: it writes to their buffers when the
//! disk has answered, whatever has become of the ring (cookbook: trap T2).
//!
//! The file is this program itself, which is large enough, and is there in a container as well. On
//! a file system in memory such reads are done at once; if it stands on one, a library serves.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringloop::driver::{Buf, Complete, Event, Fd, Key, Op, Target};
use uring_tests::Rng;

/// Bytes in one read.
const READ: usize = 512 << 10;
/// What offsets, lengths and addresses are multiples of.
const ALIGN: usize = 4096;
/// Reads at once.
const READS: usize = 16;

/// See the module.
#[derive(Clone)]
pub struct Disk {
    file: Rc<File>,
    len: u64,
}

impl Disk {
    /// Opens the first of this program's files that can be read so: itself, or a library.
    ///
    /// # Panics
    /// When none can.
    pub fn open() -> Self {
        let program = std::env::current_exe().expect("the test binary has a path");
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        let mapped = maps
            .lines()
            .filter_map(|line| line.find('/').map(|at| &line[at..]));
        let mut why = String::new();
        for path in std::iter::once(program).chain(mapped.map(PathBuf::from)) {
            match Self::of(&path) {
                Ok(disk) => return disk,
                Err(error) => why += &format!("\n{}: {error}", path.display()),
            }
        }
        panic!("nothing to read past the page cache; set CARGO_TARGET_DIR to a disk{why}");
    }

    fn of(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_DIRECT).open(path)?;
        file.read_exact_at(&mut Buf::aligned(ALIGN, ALIGN), 0)?;
        let len = file.metadata()?.len();
        if file_system(&file)? == libc::TMPFS_MAGIC {
            return Err(io::Error::other("it stands in memory"));
        }
        if len < 3 * READ as u64 {
            return Err(io::Error::other(format!("{len} bytes are too few")));
        }
        Ok(Self {
            file: Rc::new(file),
            len,
        })
    }

    fn some_offset(&self, rng: &mut Rng) -> u64 {
        let most = (self.len as usize - READ) / ALIGN;
        (rng.below(most) * ALIGN) as u64
    }

    /// Starts reads; nobody waits for them.
    pub fn read(&self, rng: &mut Rng, mut start: impl FnMut(Op, Target) -> Key) -> Rc<Reads> {
        let reads = Rc::new(Reads(Cell::new(READS)));
        let copy: OwnedFd = self.file.try_clone().expect("a descriptor is free").into();
        let fd = Fd::new(copy);
        for _ in 0..READS {
            let op = Op::read_at(fd.clone(), Buf::aligned(READ, ALIGN), self.some_offset(rng));
            start(op, Target::Callback(reads.clone()));
        }
        reads
    }

    /// Reads as much itself, and waits for it: what was in flight before it is answered by then.
    pub fn wait(&self, rng: &mut Rng) {
        let mut buf = Buf::aligned(READ, ALIGN);
        for _ in 0..READS {
            let offset = self.some_offset(rng);
            self.file
                .read_exact_at(&mut buf, offset)
                .expect("within the file");
        }
    }
}

/// The type of the file system it stands on.
fn file_system(file: &File) -> io::Result<i64> {
    let mut about = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the place is valid for writing.
    if unsafe { libc::fstatfs(file.as_raw_fd(), about.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain memory, zeroed and then written to.
    Ok(unsafe { about.assume_init() }.f_type)
}

/// How many reads have not completed.
pub struct Reads(Cell<usize>);

impl Reads {
    pub fn in_flight(&self) -> usize {
        self.0.get()
    }
}

impl Complete for Reads {
    fn complete(self: Rc<Self>, event: Event) {
        assert_eq!(event.result, READ as i32, "a whole read");
        self.0.set(self.0.get() - 1);
    }
}
