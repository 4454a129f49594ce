//! A server as a child process: pinned to a core, measured from outside.

use crate::page::Page;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server; dropped, it is killed.
pub struct Server {
    child: Child,
    port: u16,
    page: &'static Page,
    clock: libc::clockid_t,
}

/// Keeps the calling thread, and what it starts later, on one core.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: only writes to the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is live and its size is given.
    if unsafe { libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets the calling thread, and what it starts later, run before everything that is not of real
/// time. Needs a privilege.
pub fn before_others() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters are live.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What all servers of the largest cell and their clients need.
const MANY_FILES: u64 = 65_536;

/// Lifts the limit of open files: to what a full run needs where that is allowed, else the soft one
/// to the hard one. Gives the limit.
pub fn lift_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct is live.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let more = libc::rlimit {
        rlim_cur: limit.rlim_max.max(MANY_FILES),
        rlim_max: limit.rlim_max.max(MANY_FILES),
    };
    // SAFETY: the struct is live.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &more) } == 0 {
        return Ok(more.rlim_cur);
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the struct is live.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// The servers that a program was built with.
pub fn list(program: &Path) -> io::Result<Vec<String>> {
    let output = Command::new(program).arg("list").output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

impl Server {
    /// Starts a server and waits until it listens. `mode` is `echo` or `http`, `buffer` the bytes of
    /// a connection's buffer where each has its own; `counting` counts allocations from the start.
    pub fn start(
        program: &Path,
        name: &str,
        mode: &str,
        buffer: usize,
        core: usize,
        counting: bool,
    ) -> io::Result<Server> {
        let (fd, page) = Page::create()?;
        page.count(counting);
        let mut command = Command::new(program);
        command
            .args([name, mode])
            .args([buffer.to_string(), fd.as_raw_fd().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                pin(core)
            });
        }
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let mut clock = 0;
        // SAFETY: the result is live.
        let failed = unsafe { libc::clock_getcpuclockid(child.id() as i32, &mut clock) };
        let Some(port) = line.trim().parse().ok().filter(|_| failed == 0) else {
            let status = child.wait()?;
            return Err(io::Error::other(format!("{name} did not start: {status}")));
        };
        Ok(Server {
            child,
            port,
            page,
            clock,
        })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The counters of its allocator.
    pub fn page(&self) -> &'static Page {
        self.page
    }

    /// CPU time of all its threads, user and system, in nanoseconds.
    pub fn cpu(&self) -> io::Result<u64> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the result is live.
        if unsafe { libc::clock_gettime(self.clock, &mut time) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    /// Bytes of its anonymous memory that are in RAM.
    pub fn memory(&self) -> io::Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id()))?;
        rollup
            .lines()
            .find_map(|line| line.strip_prefix("Anonymous:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("smaps_rollup has no line Anonymous"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kernel thread that does a core's network work when there is too much of it. What it does
/// while a server is driven is counted as the server's.
pub struct Softirqs(Option<String>);

impl Softirqs {
    /// Looks for that thread.
    pub fn of(core: usize) -> Softirqs {
        let name = format!("ksoftirqd/{core}");
        let found = fs::read_dir("/proc").ok().and_then(|entries| {
            entries.flatten().map(|entry| entry.path()).find(|path| {
                fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
            })
        });
        Softirqs(found.map(|path| path.join("schedstat").to_string_lossy().into_owned()))
    }

    /// Its CPU time in nanoseconds; 0 where it cannot be read.
    pub fn cpu(&self) -> u64 {
        self.0
            .as_ref()
            .and_then(|path| fs::read_to_string(path).ok())
            .and_then(|line| line.split(' ').next()?.parse().ok())
            .unwrap_or(0)
    }
}
