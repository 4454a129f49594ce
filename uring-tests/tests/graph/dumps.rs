//! Dumps, by hand and on a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use ringloop::debug::{dump, dump_of};
use ringloop::task::TaskOptions;
use ringloop::{Builder, DriverKind, EventLoopExt, block_on, get_running_loop, sleep, yield_now};
use uring_tests::{example, on_both_drivers, with_default_signal};

struct Program {
    child: Child,
    dumps: BufReader<ChildStderr>,
}

impl Program {
    /// Returns when it is ready.
    fn start(scene: &str, kind: DriverKind) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dumped"))
            .args([scene, &kind.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let said = child.stdout.as_mut().expect("piped");
        // Nothing is read ahead: the program says no more before it is asked to go on.
        BufReader::new(said)
            .read_line(&mut line)
            .expect("it writes text");
        assert_eq!(line, "ready\n");
        let dumps = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, dumps }
    }

    fn signal(&self) {
        // SAFETY: the child was not waited for, so the number is its own.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGUSR1) };
        assert_eq!(sent, 0);
    }

    /// What it wrote, up to the line that begins so.
    fn dump_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let count = self.dumps.read_line(&mut line).expect("it writes text");
            assert!(count > 0, "it ended after {text}");
            text.push_str(&line);
            if line.starts_with(end) {
                return text;
            }
        }
    }

    fn interrupt(&self) {
        // SAFETY: as above.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        assert_eq!(sent, 0);
    }

    fn go_on(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"\n").expect("it reads");
    }

    fn ends(mut self) {
        let mut rest = String::new();
        self.dumps
            .read_to_string(&mut rest)
            .expect("it writes text");
        assert!(self.child.wait().expect("it ends").success(), "{rest}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, or the test failed.
        let _ = self.child.kill();
    }
}

on_both_drivers! {
    fn grf_04_a_dump_names_driver_counts_and_tasks(kind: DriverKind) {
        let event_loop = Builder::new().driver(kind).debug(false).build().unwrap();
        let idle = dump_of(&*event_loop);
        assert!(idle.contains("0 tasks, 0 timers, 0 operations"), "{idle}");
        let text = block_on(&event_loop, async {
            let event_loop = get_running_loop();
            let options = TaskOptions::named("sleeper");
            let slow = sleep(Duration::from_secs(3600));
            drop(event_loop.create_task_with(slow, options).unwrap());
            yield_now().await.unwrap();
            dump();
            dump_of(&*event_loop)
        })
        .unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.contains(&format!("on {kind}")) && first.contains("2 tasks, 1 timers"), "{text}");
        assert!(text.contains("[running] the main future"), "{text}");
        let sleeper = text.lines().find(|line| line.starts_with("sleeper (")).unwrap();
        assert!(sleeper.contains(" [waiting] ") && sleeper.ends_with(": sleep"), "{sleeper}");
        // Where no loop runs, it says so.
        dump();
    }

    /// As often as the signal comes; afterwards it has its old meaning.
    fn a_signal_dumps_a_loop_that_waits(kind: DriverKind) {
        let mut program = Program::start("waits", kind);
        for _ in 0..2 {
            program.signal();
            let text = program.dump_until("ringloop: end");
            assert!(text.contains(&format!("on {kind}, iteration ")), "{text}");
            assert!(text.contains("[waiting] the main future: a job in another thread for "), "{text}");
        }
        program.go_on();
        program.ends();
    }

    /// Seen from outside, and from inside once it turns again.
    fn a_signal_shows_the_task_that_blocks_the_loop(kind: DriverKind) {
        let mut program = Program::start("stuck", kind);
        program.signal();
        let text = program.dump_until("current task: ");
        assert!(text.contains("has not answered"), "{text}");
        assert!(text.contains("sleeps in a system call"), "{text}");
        assert!(text.contains("current task: <Task pending"), "{text}");
        let text = program.dump_until("  <Task pending name='the sleeper'");
        assert!(text.contains("2 tasks:"), "{text}");
        program.go_on();
        let text = program.dump_until("ringloop: end");
        assert!(text.contains("operations"), "{text}");
        program.go_on();
        program.ends();
    }
}

on_both_drivers! {
    /// The program of the book's chapter about stuck servers.
    fn the_stuck_example_shows_where_it_hangs(kind: DriverKind) {
        let mut command = Command::new(example("stuck"));
        let mut child = with_default_signal(&mut command, libc::SIGINT)
            .env("RINGLOOP_DRIVER", kind.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it writes text");
        assert_eq!(line, format!("kill -USR1 {}\n", child.id()));
        let dumps = BufReader::new(child.stderr.take().expect("piped"));
        let mut program = Program { child, dumps };
        // The first dumps may come before everybody waits for what they will.
        loop {
            program.signal();
            let text = program.dump_until("ringloop: end");
            let waits = |task: &str, what: &str| {
                text.lines().any(|line| line.contains(task) && line.contains(what))
            };
            if waits("└── prices", "stuck::prices: a read of a stream on descriptor ")
                && waits("├── order 1", "stuck::order: Task-")
                && waits("└── heartbeat", "stuck::heartbeat: sleep for ")
                && waits("Task-1 ", "the main future: task group for ")
            {
                break;
            }
        }
        program.interrupt();
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("it writes text");
        assert_eq!(rest, "interrupted\n");
        program.ends();
    }
}
