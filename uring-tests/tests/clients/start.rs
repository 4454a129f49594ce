//! Starting where io_uring is blocked: a filter as containers have it, put in front of the example.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use uring_tests::example;

use super::APIS;

/// Has `io_uring_setup` answer this errno from now on, in this process and all it starts.
fn block_io_uring(errno: i32) -> io::Result<()> {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // The number of the system call stands first in what the filter sees.
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_io_uring_setup as u32,
            0,
            1,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | errno as u32,
            0,
            0,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls take plain numbers, the second also a program that lives during the call.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) != 0
    };
    if refused {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn blocked(name: &str, driver: &str, api: &str, errno: i32) -> Command {
    let mut command = Command::new(example(name));
    command.args(["--listen", "127.0.0.1:0", "--driver", driver, "--api", api]);
    command.env_remove("RINGLOOP_DRIVER");
    // SAFETY: between fork and exec only `prctl` is called; nothing is allocated.
    unsafe { command.pre_exec(move || block_io_uring(errno)) };
    command
}

// Not on both drivers: io_uring is blocked here, and epoll not asked for.
#[test]
fn demanding_blocked_io_uring_fails_with_cause_and_remedy() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        for name in ["echo", "http"] {
            let output = blocked(name, "uring", "stream", errno)
                .output()
                .expect("it starts");
            assert!(!output.status.success());
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "",
                "it does not listen"
            );
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                said.contains("io_uring") && said.contains("seccomp"),
                "{said}"
            );
            let remedy = ["epoll", "profile", "allow"]
                .iter()
                .any(|word| said.contains(word));
            assert!(remedy, "no remedy: {said}");
        }
    }
}

// Not on both drivers: the program chooses the driver.
#[test]
fn where_io_uring_is_blocked_epoll_serves_and_one_line_says_why() {
    for (api, errno) in APIS.into_iter().zip([libc::EPERM, libc::ENOSYS]) {
        let mut child = blocked("http", "auto", api, errno)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut first = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut first)
            .expect("a first line");
        assert!(first.ends_with(" (driver: epoll)\n"), "{first}");
        child.kill().expect("it runs");
        let said = child.wait_with_output().expect("it was killed").stderr;
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("epoll") && said.contains("seccomp"), "{said}");
    }
}

// Not on both drivers: no loop is made.
#[test]
fn wrong_options_are_explained() {
    for (arguments, complaint) in [
        (vec!["--listen"], "--listen needs a value"),
        (vec!["--listen", "nowhere"], "no port in nowhere"),
        (vec!["--driver", "kqueue"], "use auto, uring or epoll"),
        (vec!["--api", "rest"], "--api rest means nothing"),
        (vec!["--listen", "192.0.2.1:1"], "192.0.2.1"),
    ] {
        let output = Command::new(example("echo"))
            .args(&arguments)
            .output()
            .expect("it starts");
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
}
