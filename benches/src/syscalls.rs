//! Counts the system calls of a process, with `perf` (in the kernel, so that the process keeps its
//! pace) or else with `strace`.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `perf stat` on the tracepoint at the entry of all system calls.
    Perf,
    /// `strace -c`, which slows the process down.
    Strace,
}

impl Tool {
    /// The one that works here.
    pub fn find() -> Option<Tool> {
        let works = |program: &str, arguments: &[&str]| {
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        if works("perf", &["stat", "-e", "raw_syscalls:sys_enter", "true"]) {
            Some(Tool::Perf)
        } else if works("strace", &["-c", "true"]) {
            Some(Tool::Strace)
        } else {
            None
        }
    }

    /// What to call it in a table.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Perf => "perf stat",
            Tool::Strace => "strace -c",
        }
    }

    /// Counts what process `id` calls while `work` runs.
    pub fn count<T>(
        self,
        id: u32,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Option<u64>)> {
        let id = id.to_string();
        let mut command = match self {
            Tool::Perf => {
                let mut command = Command::new("perf");
                command.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &id]);
                command
            }
            Tool::Strace => {
                let mut command = Command::new("strace");
                command.args(["-f", "-c", "-U", "calls,name", "-p", &id]);
                command
            }
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut errors = BufReader::new(child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
        match self {
            Tool::Perf => perf_counts(&child)?,
            Tool::Strace => {
                // Its first line says that it is attached.
                let mut line = String::new();
                errors.read_line(&mut line)?;
            }
        }
        let result = work();
        // SAFETY: no pointers; the child is not waited for yet, so its id is its own.
        unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        let mut said = String::new();
        errors.read_to_string(&mut said)?;
        child.wait()?;
        Ok((result?, self.read(&said)))
    }

    fn read(self, said: &str) -> Option<u64> {
        match self {
            Tool::Perf => said
                .lines()
                .find(|line| line.contains("raw_syscalls:sys_enter"))
                .and_then(|line| line.split(',').next()?.parse().ok()),
            Tool::Strace => said
                .lines()
                .find(|line| line.trim_end().ends_with("total"))
                .and_then(|line| line.split_whitespace().next()?.parse().ok()),
        }
    }
}

/// Waits until perf counts: it then sleeps in poll, and its events are open.
fn perf_counts(child: &Child) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    let events = format!("/proc/{}/fd", child.id());
    while Instant::now() < end {
        let open = std::fs::read_dir(&events).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                std::fs::read_link(entry.path())
                    .is_ok_and(|to| to.to_string_lossy().contains("perf_event"))
            })
        });
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        let sleeps = stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('S'));
        if open && sleeps {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(io::Error::other("perf does not start to count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_understood() {
        let perf = "1234,,raw_syscalls:sys_enter,500000,100.00,,\n";
        assert_eq!(Tool::Perf.read(perf), Some(1234));
        let strace = "    calls syscall\n--------- --------\n       12 io_uring_enter\n--------- --------\n       12 total\n";
        assert_eq!(Tool::Strace.read(strace), Some(12));
        assert_eq!(Tool::Perf.read("nothing"), None);
    }
}
