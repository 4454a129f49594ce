//! File operations on threads: who owns the buffer when.
//!
//! Not on both drivers: it is about one.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::{Fd, Op};
use ringloop::sys::threads::{KEEP_IDLE, Threads};
use uring_tests::drive::Rig;
use uring_tests::{Meeting, TempDir, on_one_driver, with_rig};

fn open(dir: &TempDir, name: &str, flags: i32) -> Op {
    use std::os::unix::ffi::OsStringExt;
    Op::OpenAt {
        path: CString::new(dir.join(name).into_os_string().into_vec()).unwrap(),
        flags,
        mode: 0o600,
    }
}

fn write_at(fd: &Fd, bytes: &[u8], offset: u64) -> Op {
    Op::write_at(fd.clone(), bytes.to_vec(), offset)
}

fn read_at(fd: &Fd, len: usize, offset: u64) -> Op {
    Op::read_at(fd.clone(), vec![0; len], offset)
}

with_rig! { Epoll:
    fn files_are_opened_written_synced_and_read(rig = EpollOptions::default()) {
        let dir = TempDir::new();
        let key = rig.submit(open(&dir, "file", libc::O_RDWR | libc::O_CREAT));
        let file = Fd::new(rig.wait(key).fd.unwrap());
        assert_eq!(rig.run(write_at(&file, b"0123456789", 5)).result, 10);
        for data_only in [false, true] {
            assert_eq!(rig.run(Op::Fsync { fd: file.clone(), data_only }).result, 0);
        }
        let key = rig.submit(read_at(&file, 100, 10));
        let event = rig.wait(key);
        assert_eq!(event.result, 5);
        let Some(Op::ReadAt { part, .. }) = event.op else { panic!("another operation") };
        assert_eq!(part.buf.len(), 100);
        assert_eq!(&part.buf[..5], b"56789");
        assert_eq!(rig.run(read_at(&file, 1, 15)).result, 0);
        assert_eq!(rig.run(read_at(&file, 1, u64::MAX)).result, -libc::EINVAL);
        assert_eq!(rig.run(open(&dir, "missing", libc::O_RDONLY)).result, -libc::ENOENT);
    }
}

on_one_driver! { Epoll:
    fn a_queued_job_can_be_cancelled_and_a_running_one_completes() {
        let threads = Threads::new("one", 1, KEEP_IDLE);
        let mut rig = Rig::from(EpollOptions {
            threads: Some(threads.clone()),
            ..EpollOptions::default()
        });
        let (gate, behind) = Meeting::between_two();
        threads.submit(Box::new(move || behind.meet())).unwrap();
        let dir = TempDir::new();
        let file = std::fs::File::create_new(dir.join("file")).unwrap();
        let file = Fd::new(OwnedFd::from(file));
        let first = rig.submit(write_at(&file, b"first", 0));
        let second = rig.submit(write_at(&file, b"second", 0));
        rig.settle();
        rig.cancel(first);
        let event = rig.wait(first);
        assert_eq!(event.result, -libc::ECANCELED);
        // The buffer came back with it.
        let Some(Op::WriteAt { part, .. }) = event.op else {
            panic!("another operation")
        };
        assert_eq!(&*part.buf, b"first");
        gate.meet();
        assert_eq!(rig.result(second), 6);
        // Too late: the operation is gone.
        rig.cancel(second);
        rig.close();
        // The pool was lent, not given.
        threads.submit(Box::new(|| {})).unwrap();
        assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"second");
    }

    /// A job that does not end is named, and its buffer is the job's own.
    fn closing_does_not_wait_for_ever_for_a_thread() {
        let mut rig = Rig::from(EpollOptions::default());
        let dir = TempDir::new();
        let path = dir.join("fifo");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        // Opening a pipe for reading waits for a writer. Until a thread has begun, it can be cancelled.
        let lost = loop {
            rig.submit(open(&dir, "fifo", libc::O_RDONLY));
            rig.settle();
            let lost = rig.give_up(100_000_000);
            if !lost.is_empty() {
                break lost;
            }
        };
        assert_eq!(lost, ["openat"]);
        // Lets the thread go; what it opened is closed.
        drop(std::fs::File::options().write(true).open(path).unwrap());
        rig.close();
    }
}
