//! No start-up is lost: where io_uring is refused, a program starts on epoll and one line says why;
//! where it demands io_uring, it ends with the cause and the remedy.
//!
//! | file | who refuses |
//! |---|---|
//! | `leg.rs` | whoever refuses it here: in the containers of `container.sh`, their profiles |
//! | `memlock.rs` | a limit on locked memory |
//! | `filters.rs` | a seccomp filter, of each kind |
//! | `sysctl.rs` | the sysctl `kernel.io_uring_disabled`, at the system call and in its file |

mod filters;
mod leg;
mod memlock;
mod sysctl;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};

use ringloop::ring::{Cause, Refusal};
use ringloop::{Builder, DriverKind};
use uring_tests::{example, isolated_saying};

/// What the line that names the cause must hold.
fn words(cause: Cause) -> &'static str {
    match cause {
        Cause::Seccomp => "a seccomp filter blocks it",
        Cause::Sysctl => "the sysctl kernel.io_uring_disabled is",
        Cause::Memlock => "locked memory is used up",
        other => panic!("{other:?} is no cause that these tests make"),
    }
}

/// The text names this cause and no other one, with a remedy, in one line.
#[track_caller]
fn assert_names(text: &str, cause: Cause) {
    for other in [Cause::Seccomp, Cause::Sysctl, Cause::Memlock] {
        assert_eq!(
            text.contains(words(other)),
            other == cause,
            "{cause:?}: {text}"
        );
    }
    assert!(text.contains("remedy: "), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}

/// In a process of its own, in which `refuse` has io_uring refused: demanding it fails with this
/// cause and this errno, and a program that leaves the choice open runs on epoll and says so.
fn refused(refuse: impl FnOnce(), cause: Cause, errno: i32) {
    let said = isolated_saying(|| {
        refuse();
        let Err(error) = Builder::new().driver(DriverKind::Uring).build() else {
            panic!("io_uring is to be had: nothing was refused");
        };
        let refusal = Refusal::in_error(&error).expect("it names the cause");
        assert_eq!(refusal.errno(), errno, "{refusal}");
        assert_eq!(refusal.cause(), cause, "{refusal}");
        assert_names(&error.to_string(), cause);
        let event_loop = Builder::new().build().expect("epoll is always there");
        let core = event_loop.core().expect("a base loop");
        assert_eq!(core.driver_kind(), DriverKind::Epoll);
        event_loop.close().expect("it does not run");
    });
    if let Some(said) = said {
        let lines: Vec<_> = said
            .lines()
            .filter(|line| line.contains("epoll: "))
            .collect();
        let [line] = lines[..] else {
            panic!("not one line: {said}");
        };
        assert!(
            line.starts_with("ringloop runs on epoll: io_uring is not available: "),
            "{line}"
        );
        assert_names(line, cause);
    }
}

/// The echo server, as a program, on the driver of that name.
fn program(driver: &str) -> Command {
    let mut command = Command::new(example("echo"));
    command.args(["--listen", "127.0.0.1:0", "--driver", driver]);
    command.env_remove("RINGLOOP_DRIVER");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program does not start, and says why.
fn assert_does_not_start(mut program: Command) -> String {
    let output = program.output().expect("it is there");
    assert!(!output.status.success(), "it must not end well");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "",
        "it must not listen"
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program starts on that driver and echoes. What it writes to standard error.
fn assert_serves(mut program: Command, driver: DriverKind) -> String {
    let mut child = program.spawn().expect("it is there");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("its first line");
    let address = line
        .strip_prefix("listening on ")
        .and_then(|rest| rest.strip_suffix(&format!(" (driver: {driver})\n")));
    let echoed = address.map(|address| echoed(address, "hello"));
    child.kill().expect("it was not waited for");
    let output = child.wait_with_output().expect("it was killed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let echoed = echoed.unwrap_or_else(|| panic!("{line:?} is not {driver}: {said}"));
    assert_eq!(echoed.expect("it answers"), "hello", "{said}");
    said
}

/// What comes back.
fn echoed(address: &str, said: &str) -> io::Result<String> {
    let mut client = TcpStream::connect(address)?;
    client.write_all(said.as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    let mut echoed = String::new();
    client.read_to_string(&mut echoed)?;
    Ok(echoed)
}
