//! SIGINT while a runner runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use ringloop::DriverKind;
use uring_tests::{on_both_drivers, with_default_signal};

/// The program, played in one scene. It ends with the test.
struct Scene {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Scene {
    fn start(scene: &str, kind: DriverKind) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_interrupted"));
        let mut child = with_default_signal(&mut command, libc::SIGINT)
            .args([scene, &kind.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, said }
    }

    fn says(&mut self, expected: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it writes text");
        assert_eq!(line.trim_end(), expected);
    }

    fn interrupt(&self) {
        // SAFETY: the child was not waited for, so the number is its own.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        assert_eq!(sent, 0);
    }

    /// Lets it go on from a stop.
    fn go_on(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"\n").expect("it reads");
    }

    fn ended(mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }

    fn ends_well(mut self) {
        self.says("default");
        self.says("end");
        assert!(self.ended().success());
    }

    fn ends_by_the_signal(mut self) {
        self.says("");
        assert_eq!(self.ended().signal(), Some(libc::SIGINT));
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It has ended, or the test failed.
        let _ = self.child.kill();
    }
}

on_both_drivers! {
    /// Waiting, and computing: then it is cancelled where it waits next.
    fn rnr_09_an_interrupt_cancels_the_main_task(kind: DriverKind) {
        let mut scene = Scene::start("wait", kind);
        scene.says("ready");
        scene.interrupt();
        scene.says("interrupted");
        scene.ends_well();
        let mut scene = Scene::start("compute", kind);
        scene.says("ready");
        scene.interrupt();
        scene.go_on();
        scene.says("interrupted");
        scene.ends_well();
    }

    /// And the runner can run again after one that was interrupted.
    fn rnr_09_an_interrupt_that_is_caught_lets_the_main_task_end(kind: DriverKind) {
        let mut scene = Scene::start("catch", kind);
        scene.says("ready");
        scene.interrupt();
        scene.says("cleaned up");
        scene.says("value 7");
        scene.ends_well();
        let mut scene = Scene::start("again", kind);
        scene.says("ready");
        scene.interrupt();
        scene.says("interrupted");
        scene.says("default");
        scene.says("ready");
        scene.interrupt();
        scene.says("cleaned up");
        scene.says("value 7");
        scene.ends_well();
    }

    /// Even while the main task computes and will never wait again.
    fn rnr_09_a_second_interrupt_ends_the_process(kind: DriverKind) {
        let mut scene = Scene::start("refuse", kind);
        scene.says("ready");
        scene.interrupt();
        scene.says("goes on");
        scene.interrupt();
        scene.ends_by_the_signal();
    }

    /// The main task ended without an await; or it has ended and the rest is being cleaned up.
    fn rnr_09_an_interrupt_that_nobody_hears_of_ends_the_process(kind: DriverKind) {
        let mut scene = Scene::start("deaf", kind);
        scene.says("ready");
        scene.interrupt();
        scene.go_on();
        scene.ends_by_the_signal();
        let mut scene = Scene::start("closing", kind);
        scene.says("value 1");
        scene.says("default");
        scene.says("ready");
        scene.interrupt();
        scene.ends_by_the_signal();
    }

    fn rnr_10_an_interrupt_of_a_task_cancelled_already_is_no_interrupt(kind: DriverKind) {
        let mut scene = Scene::start("cancelled", kind);
        scene.says("ready");
        scene.interrupt();
        scene.says("cancelled");
        scene.ends_well();
    }

    /// Ignored by the program, in another thread, without a descriptor for it.
    fn rnr_11_where_no_handler_is_possible_the_signal_keeps_its_meaning(kind: DriverKind) {
        let mut scene = Scene::start("ignored", kind);
        scene.says("ready");
        scene.interrupt();
        scene.interrupt();
        scene.go_on();
        scene.says("value 1");
        scene.says("not default");
        scene.says("end");
        assert!(scene.ended().success());
        for scene in ["thread", "descriptors"] {
            let mut scene = Scene::start(scene, kind);
            scene.says("ready");
            scene.interrupt();
            scene.ends_by_the_signal();
        }
    }
}
