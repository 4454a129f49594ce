//! The exception handler, and debug mode.

use std::cell::RefCell;
use std::fmt;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ringloop::driver::DriverKind as Kind;
use ringloop::event_loop::{ExceptionContext, try_get_running_loop};
use ringloop::task::exit_loop;
use ringloop::transport::DefaultTransports;
use ringloop::{
    AbstractEventLoop, BaseEventLoop, Builder, EventLoopExt, create_task, get_running_loop,
};
use uring_tests::order::{Dropped, Order};
use uring_tests::tasks::exited;
use uring_tests::watch::{Told, Watch};
use uring_tests::{TempDir, isolated, on_both_drivers};

/// What `f` writes to standard error. Only in a process of its own.
fn standard_error_of(f: impl FnOnce()) -> String {
    let directory = TempDir::new();
    let path = directory.join("stderr");
    let file = std::fs::File::create(&path).unwrap();
    // SAFETY: takes no pointer.
    let saved = unsafe { libc::dup(2) };
    // SAFETY: takes no pointer.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), 2) }, 2);
    f();
    // SAFETY: takes no pointer.
    unsafe { libc::dup2(saved, 2) };
    // SAFETY: the descriptor was made above and nobody else knows it.
    unsafe { libc::close(saved) };
    let mut text = String::new();
    std::fs::File::open(path)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// A loop whose default handler is its own.
struct OwnDefault {
    base: BaseEventLoop,
    handle: Box<dyn Fn(&ExceptionContext)>,
}

impl OwnDefault {
    fn made(kind: Kind, handle: impl Fn(&ExceptionContext) + 'static) -> Rc<dyn AbstractEventLoop> {
        let driver = Builder::new().driver(kind).build_driver().unwrap();
        Rc::new_cyclic(|me: &Weak<Self>| Self {
            base: BaseEventLoop::new(driver, Rc::new(DefaultTransports), me.clone()),
            handle: Box::new(handle),
        })
    }
}

impl AbstractEventLoop for OwnDefault {
    fn base(&self) -> Option<&dyn AbstractEventLoop> {
        Some(&self.base)
    }

    fn default_exception_handler(&self, context: &ExceptionContext) {
        (self.handle)(context);
    }
}

fn turn(l: &Rc<dyn AbstractEventLoop>) {
    l.stop();
    l.run_forever().unwrap();
}

/// An error that can not even be shown.
struct Unspeakable;

impl fmt::Debug for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("unspeakable")
    }
}

impl fmt::Display for Unspeakable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Unspeakable {}

on_both_drivers! {
    fn err_01_the_default_handler_writes_failures_of_callbacks(kind: DriverKind) {
        isolated(|| {
            let text = standard_error_of(|| {
                let l = Builder::new().driver(kind).build().unwrap();
                l.call_soon(|| panic!("in a ready callback")).unwrap();
                l.call_later(Duration::ZERO, || panic!("in a timer")).unwrap();
                turn(&l);
                l.close().unwrap();
            });
            let reports: Vec<_> = text.matches("Exception in callback event_loop::reports::").collect();
            assert_eq!(reports.len(), 2, "{text}");
            assert!(text.contains("exception: panic: in a ready callback"), "{text}");
            assert!(text.contains("exception: panic: in a timer"), "{text}");
        });
    }

    fn err_02_a_tasks_unread_failure_is_reported_when_it_is_dropped(kind: DriverKind) {
        let l = Watch::new(kind);
        let task = l.create_task(async { panic!("unread") as u8 }).unwrap();
        task.set_name("unlucky");
        l.turn();
        assert!(l.told().is_empty());
        drop(task);
        let expected = Told {
            message: "Task exception was never retrieved".into(),
            exception: Some("unread".into()),
            task: Some("unlucky".into()),
            handle: None,
        };
        assert_eq!(l.told(), [expected]);
        // Read, or with nobody left to read it.
        let mut task = l.create_task(async { panic!("read") as u8 }).unwrap();
        l.turn();
        assert!(task.result().unwrap().is_err());
        drop(task);
        assert!(l.told().is_empty());
        drop(l.create_task(async { panic!("detached") as u8 }).unwrap());
        l.turn();
        assert_eq!(l.messages(), ["Task exception was never retrieved"]);
    }

    fn err_04_a_custom_handler_gets_the_exact_report_inside_the_loop(kind: DriverKind) {
        let defaults = Order::default();
        let note = defaults.clone();
        let l = OwnDefault::made(kind, move |context| note.add(context.message.clone()));
        assert!(l.get_exception_handler().is_none());
        let seen: Rc<RefCell<Vec<_>>> = Rc::default();
        let (keep, me) = (seen.clone(), Rc::downgrade(&l));
        l.set_exception_handler(Some(Rc::new(move |context| {
            let here = try_get_running_loop().is_ok_and(|l| Rc::downgrade(&l).ptr_eq(&me));
            let exception = context.exception.as_ref().map(ToString::to_string);
            keep.borrow_mut().push((context.message.clone(), exception, here));
        })));
        assert!(l.get_exception_handler().is_some());
        l.call_soon(|| {
            let context = ExceptionContext::error("by hand", std::io::Error::other("cause"));
            get_running_loop().call_exception_handler(context);
        })
        .unwrap();
        turn(&l);
        assert_eq!(seen.take(), [("by hand".to_owned(), Some("cause".to_owned()), true)]);
        assert!(defaults.take().is_empty());
        l.set_exception_handler(None);
        assert!(l.get_exception_handler().is_none());
        l.call_exception_handler(ExceptionContext::new("to the default"));
        assert_eq!(defaults.take(), ["to the default"]);
        assert!(seen.take().is_empty());
        l.close().unwrap();
    }

    fn err_05_a_failing_handler_is_reported_to_the_default_one(kind: DriverKind) {
        let defaults = Order::default();
        let note = defaults.clone();
        let l = OwnDefault::made(kind, move |context| {
            let inner = context.context.as_ref().map(|inner| inner.message.clone());
            note.add((context.message.clone(), context.exception.as_ref().unwrap().to_string(), inner));
        });
        l.set_exception_handler(Some(Rc::new(|_| panic!("broken handler"))));
        let order = Order::default();
        l.call_soon(|| get_running_loop().call_exception_handler(ExceptionContext::new("original")))
            .unwrap();
        l.call_soon(order.note("goes on")).unwrap();
        turn(&l);
        assert_eq!(
            defaults.take(),
            [(
                "Unhandled error in exception handler".to_owned(),
                "broken handler".to_owned(),
                Some("original".to_owned()),
            )]
        );
        assert_eq!(order.take(), ["goes on"]);
        l.close().unwrap();
    }

    fn err_06_a_failing_default_handler_is_written_down(kind: DriverKind) {
        isolated(|| {
            let text = standard_error_of(|| {
                let l = OwnDefault::made(kind, |_| panic!("broken default"));
                l.call_exception_handler(ExceptionContext::new("first original"));
                l.set_exception_handler(Some(Rc::new(|_| panic!("broken handler"))));
                l.call_exception_handler(ExceptionContext::new("second original"));
                l.close().unwrap();
                // The default of the library, too, when what it shall write can not be written.
                let l = Builder::new().driver(kind).build().unwrap();
                l.call_exception_handler(ExceptionContext::error("third original", Unspeakable));
                l.close().unwrap();
            });
            let first = "Exception in default exception handler\n  exception: panic: broken default\n  \
                         context: first original\n";
            assert!(text.contains(first), "{text}");
            let second = "Exception in default exception handler while handling an unexpected error in \
                          custom exception handler\n  exception: panic: broken default\n  context: \
                          second original\n";
            assert!(text.contains(second), "{text}");
            let third = "exception: panic: unspeakable\n  context: third original\n";
            assert!(text.contains(third), "{text}");
        });
    }

    /// Base errors pass every handler.
    fn err_05_a_loop_exit_out_of_a_handler_leaves_the_loop(kind: DriverKind) {
        let l = Watch::new(kind);
        l.set_exception_handler(Some(Rc::new(|_| exit_loop("from the handler"))));
        l.call_soon(|| panic!("reported")).unwrap();
        assert_eq!(exited::<&str, _>(|| l.turn()), "from the handler");
        l.set_exception_handler(None);
        let default = OwnDefault::made(kind, |_| exit_loop("from the default"));
        default.call_soon(|| panic!("reported")).unwrap();
        assert_eq!(exited::<&str, _>(|| turn(&default)), "from the default");
        default.close().unwrap();
    }

    fn dbg_01_debug_mode_is_set_and_read(kind: DriverKind) {
        for debug in [true, false] {
            let l = Builder::new().driver(kind).debug(debug).build().unwrap();
            assert_eq!(l.get_debug(), debug);
            l.set_debug(!debug);
            assert_eq!(l.get_debug(), !debug);
            l.close().unwrap();
        }
    }

    /// For tasks that are made in the next moment, on a loop that runs.
    fn dbg_01_debug_mode_may_change_at_any_time(kind: DriverKind) {
        let l = Builder::new().driver(kind).build().unwrap();
        let inside = l.clone();
        let outcome = l.run_until_complete(async move {
            for debug in [false, true, false] {
                inside.set_debug(debug);
                let line = line!() + 1;
                let task = create_task(async {});
                let place = format!(" created at {}:{line}:", file!());
                assert_eq!(format!("{task:?}").contains(&place), debug);
                task.await.unwrap();
            }
        });
        outcome.unwrap();
        l.close().unwrap();
    }

    fn dbg_02_the_default_comes_from_the_environment(kind: DriverKind) {
        isolated(|| {
            let debug_with = |value: Option<&str>| {
                // SAFETY: this process runs one test; its other threads do not read the environment.
                unsafe {
                    match value {
                        Some(value) => std::env::set_var("RINGLOOP_DEBUG", value),
                        None => std::env::remove_var("RINGLOOP_DEBUG"),
                    }
                }
                let l = Builder::new().driver(kind).build().unwrap();
                let ignoring = Builder::new().driver(kind).debug(false).build().unwrap();
                assert!(!ignoring.get_debug());
                let debug = l.get_debug();
                l.close().unwrap();
                ignoring.close().unwrap();
                debug
            };
            assert!(!debug_with(None));
            assert!(!debug_with(Some("")));
            assert!(debug_with(Some("1")));
        });
    }

    fn dbg_03_a_slow_callback_or_step_is_reported_with_its_duration(kind: DriverKind) {
        let l = Watch::by_hand(kind);
        let slow = |nanos: u64| {
            let seen = l.seen.clone();
            move || seen.advance(nanos)
        };
        // Not without debug mode.
        l.call_soon(slow(5_000_000_000)).unwrap();
        l.turn();
        assert!(l.told().is_empty());
        l.set_debug(true);
        l.call_soon(slow(99_999_999)).unwrap();
        l.turn();
        assert!(l.told().is_empty());
        l.call_soon(slow(100_000_000)).unwrap();
        l.turn();
        let told = l.messages().remove(0);
        assert!(told.starts_with("Executing event_loop::reports::dbg_03_"), "{told}");
        assert!(told.ends_with(" took 0.100 seconds"), "{told}");
        // A step of a task, by the task; and a bound of the program's own.
        l.base.set_slow_callback_duration(Duration::from_millis(2));
        let step = slow(1_234_567_890);
        let task = l.create_task(async move { step() }).unwrap();
        task.set_name("lazy");
        l.turn();
        let told = l.messages().remove(0);
        assert!(told.starts_with("Executing <Task pending name='lazy'"), "{told}");
        assert!(told.ends_with(" took 1.234 seconds"), "{told}");
        // Also when it fails, and when it leaves the loop.
        let step = slow(2_000_000);
        l.call_soon(move || {
            step();
            panic!("slow and broken");
        })
        .unwrap();
        let step = slow(2_000_000);
        l.call_soon(move || {
            step();
            exit_loop(())
        })
        .unwrap();
        exited::<(), _>(|| l.turn());
        let told = l.messages();
        assert_eq!(told.len(), 3);
        assert!(told[0].starts_with("Exception in callback"));
        assert!(told[1..].iter().all(|told| told.ends_with(" took 0.002 seconds")), "{told:?}");
    }

    /// Failures of tasks, callbacks and destructors: each reported, and the loop goes on.
    fn panics_are_reported_and_the_loop_goes_on(kind: DriverKind) {
        struct Bomb(&'static str);
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("{} went off", self.0);
            }
        }
        let l = Watch::new(kind);
        let order = Order::default();
        l.call_soon(|| panic!("callback")).unwrap();
        drop(l.create_task(async { panic!("task") as u8 }).unwrap());
        let bomb = Bomb("captured");
        l.call_soon(move || drop(bomb)).unwrap();
        let bomb = Bomb("in a body");
        let dropped = l.create_task(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        });
        drop(l.create_task(async { Bomb("an output") }).unwrap());
        let survivor = l.create_task({
            let order = order.clone();
            async move {
                ringloop::yield_now().await.unwrap();
                order.add("survivor");
            }
        });
        l.turn();
        dropped.as_ref().unwrap().abort();
        l.turn();
        drop(dropped);
        l.call_soon(order.note("goes on")).unwrap();
        l.turn();
        assert_eq!(order.take(), ["survivor", "goes on"]);
        assert!(survivor.unwrap().done());
        let told: Vec<_> = l.told().into_iter().map(|told| told.exception.unwrap()).collect();
        assert_eq!(
            told,
            ["callback", "task", "captured went off", "an output went off", "in a body went off"]
        );
    }

    /// Panics of destructors while the loop closes stop nothing either.
    fn panics_of_destructors_do_not_stop_closing(kind: DriverKind) {
        struct Bomb(Dropped<&'static str>);
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("{} went off", self.0.1);
            }
        }
        struct Target(#[expect(dead_code, reason = "held for its destructor")] Bomb);
        impl ringloop::driver::Complete for Target {
            fn complete(self: Rc<Self>, _event: ringloop::driver::Event) {}
        }
        let l = Watch::new(kind);
        let order = Order::default();
        let bomb = |what| Bomb(Dropped(order.clone(), what));
        let in_callback = bomb("callback");
        l.call_soon(move || drop(in_callback)).unwrap();
        let in_body = bomb("body");
        drop(l.create_task(async move { drop(in_body) }).unwrap());
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        for _ in 0..2 {
            let fd = ringloop::driver::Fd::new(near.try_clone().unwrap().into());
            let op = ringloop::driver::Op::Poll { fd, events: libc::POLLIN as u32 };
            let target = ringloop::driver::Target::Callback(Rc::new(Target(bomb("target"))));
            l.core().submit(op, target);
        }
        l.close().unwrap();
        assert!(l.is_closed());
        assert_eq!(l.stats().live_operations, 0);
        assert_eq!(l.stats().leaked_operations, 0);
        assert_eq!(order.take(), ["callback", "body", "target", "target"]);
        assert_eq!(
            l.messages(),
            [
                "panic while dropping a callback",
                "Task was destroyed but it is pending!",
                "panic while dropping a task's body or result",
                "panic while dropping a transport or its protocol",
                "panic while dropping a transport or its protocol",
            ]
        );
    }
}
