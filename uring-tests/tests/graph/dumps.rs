//! Dumps, by hand and on a signal.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStderr, Command, Stdio};

use ringloop::debug::{dump, dump_of};
use ringloop::task::TaskOptions;
use ringloop::{Builder, DriverKind, EventLoopExt, block_on, get_running_loop, sleep, yield_now};
use uring_tests::lab::wait_until_asleep;
use uring_tests::scene::Scene;
use uring_tests::tasks::HOUR;
use uring_tests::{example, on_both_drivers};

/// A program and its dumps, which it writes to standard error.
struct Program {
    scene: Scene,
    dumps: BufReader<ChildStderr>,
}

impl Program {
    fn of(command: &mut Command) -> Self {
        let mut scene = Scene::of(command.stderr(Stdio::piped()));
        let dumps = BufReader::new(scene.child.stderr.take().expect("piped"));
        Self { scene, dumps }
    }

    /// Returns when it is ready.
    fn start(scene: &str, kind: DriverKind) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dumped"));
        let mut program = Self::of(command.args([scene, &kind.to_string()]));
        program.scene.says("ready");
        program
    }

    fn signal(&self) {
        self.scene.signal(libc::SIGUSR1);
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

    fn ends(mut self, last_word: &str) {
        self.scene.says(last_word);
        self.scene.says("");
        let mut rest = String::new();
        self.dumps
            .read_to_string(&mut rest)
            .expect("it writes text");
        assert!(self.scene.ended().success(), "{rest}");
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
            let slow = sleep(HOUR);
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
        program.scene.go_on();
        program.ends("end");
    }

    /// Seen from outside, and from inside once it turns again.
    fn a_signal_shows_the_task_that_blocks_the_loop(kind: DriverKind) {
        let mut program = Program::start("stuck", kind);
        // It says that it is ready before it blocks.
        wait_until_asleep(program.scene.child.id().cast_signed());
        program.signal();
        let text = program.dump_until("current task: ");
        assert!(text.contains("has not answered"), "{text}");
        assert!(text.contains("sleeps in a system call"), "{text}");
        assert!(text.contains("current task: <Task pending"), "{text}");
        let text = program.dump_until("  <Task pending name='the sleeper'");
        assert!(text.contains("2 tasks:"), "{text}");
        program.scene.go_on();
        let text = program.dump_until("ringloop: end");
        assert!(text.contains("operations"), "{text}");
        program.scene.go_on();
        program.ends("end");
    }

    /// The loop that drops the guard can not answer meanwhile, and is not blamed for that.
    fn a_guard_does_not_wait_for_the_loop_that_drops_it(kind: DriverKind) {
        loop {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dumped"));
            let mut program = Program::of(command.args(["turns off", &kind.to_string()]));
            let said = program.scene.line();
            program.scene.says("");
            let mut text = String::new();
            program.dumps.read_to_string(&mut text).expect("it writes text");
            assert!(program.scene.ended().success(), "{text}");
            if said == "the machine stood still\n" {
                // Then the loop may be blamed.
                continue;
            }
            assert_eq!(said, "end\n");
            assert!(!text.contains("has not answered"), "{text}");
            break;
        }
    }

    /// The program of the book's chapter about stuck servers.
    fn the_stuck_example_shows_where_it_hangs(kind: DriverKind) {
        let mut command = Command::new(example("stuck"));
        let mut program = Program::of(command.env("RINGLOOP_DRIVER", kind.to_string()));
        let line = program.scene.line();
        assert_eq!(line, format!("kill -USR1 {}\n", program.scene.child.id()));
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
        program.scene.signal(libc::SIGINT);
        program.ends("interrupted");
    }
}
