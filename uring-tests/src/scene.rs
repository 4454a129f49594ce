//! Programs that tests talk to, for signals belong to the process: both ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringloop::DriverKind;

/// In the program: `SCENE DRIVER`, its arguments.
///
/// # Panics
/// When it has others.
pub fn arguments() -> (String, DriverKind) {
    let mut args = std::env::args().skip(1);
    let scene = args.next().expect("the first argument is the scene");
    let kind = args.next().expect("the second argument is the driver");
    (scene, kind.parse().expect("a driver"))
}

/// In the program: says a line.
///
/// # Panics
/// When nobody reads it.
pub fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("somebody reads");
}

/// In the program: blocks the thread until the test has it [go on](Scene::go_on).
///
/// # Panics
/// When the test is gone.
pub fn stop() {
    let line = std::io::stdin().lines().next();
    line.expect("somebody writes").expect("text");
}

/// Sends a signal to a child that was not waited for.
///
/// # Panics
/// When there is no such signal.
pub fn signal(child: &Child, signal: i32) {
    let signal = Signal::try_from(signal).expect("a signal");
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("the number is the child's own");
}

/// In the test: a running program. It ends with the test.
pub struct Scene {
    /// Its process.
    pub child: Child,
    said: BufReader<ChildStdout>,
}

impl Scene {
    /// Starts a program in one scene.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: &str, scene: &str, kind: DriverKind) -> Self {
        Self::of(Command::new(program).args([scene, &kind.to_string()]))
    }

    /// Starts a program.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, said }
    }

    /// The next line it says.
    ///
    /// # Panics
    /// When it is no text.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it writes text");
        line
    }

    /// The next line is this one; at the end, an empty one.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn says(&mut self, expected: &str) {
        assert_eq!(self.line().trim_end(), expected);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When there is no such signal.
    pub fn signal(&self, number: i32) {
        signal(&self.child, number);
    }

    /// Lets it go on from a stop.
    ///
    /// # Panics
    /// When it is gone.
    pub fn go_on(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"\n").expect("it reads");
    }

    /// How it ended.
    ///
    /// # Panics
    /// When it cannot be told.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It has ended, or the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
