//! The ways to end: whichever it is, no memory that was freed is written to, no lease changes, and no
//! peer is sent what was not written.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ringloop::driver::{Engine, Park};
use ringloop::task::exit_loop;
use ringloop::{AbstractEventLoop, BaseEventLoop, Builder, DriverKind, EventLoopExt};
use uring_tests::{Seeds, isolated, on_both_drivers};

use crate::disk::Disk;
use crate::quarantine::{sweep, watch_or_sanitize};
use crate::scene::{Leases, new_loop, set};

/// Rounds of each test.
const ROUNDS: usize = 4;

fn some_loop(kind: DriverKind) -> Rc<BaseEventLoop> {
    new_loop(
        Builder::new()
            .driver(kind)
            .build_driver()
            .expect("it is to be had"),
    )
}

/// Ends loops with much in flight by `end`, in a process of its own.
fn rounds(kind: DriverKind, end: fn(Rc<BaseEventLoop>)) {
    isolated(|| {
        let disk = Disk::open();
        watch_or_sanitize();
        for seed in Seeds::new(ROUNDS) {
            let mut rng = seed.rng();
            let event_loop = some_loop(kind);
            let (leases, mut outside) = set(&event_loop, &disk, &mut rng);
            end(event_loop);
            leases.check();
            outside.check();
            drop(outside);
            leases.check();
            drop(leases);
            disk.wait(&mut rng);
            assert_eq!(sweep(), 0, "freed memory was written to");
        }
        // What was written later.
        disk.wait(&mut Seeds::new(1).next().expect("one").rng());
        assert_eq!(sweep(), 0, "freed memory was written to");
    });
}

/// What a thread has when it ends, in the order in which it is dropped.
#[derive(Default)]
struct Last {
    event_loop: Option<Rc<BaseEventLoop>>,
    leases: Leases,
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(event_loop) = self.event_loop.take() {
            drop(event_loop);
            self.leases.check();
        }
    }
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

on_both_drivers! {
    fn a_loop_that_is_closed_frees_nothing_the_kernel_uses(kind: DriverKind) {
        rounds(kind, |event_loop| {
            event_loop.close().expect("it does not run");
            let stats = event_loop.core().expect("a base loop").stats();
            assert_eq!(stats.leaked_operations, 0);
        });
    }

    fn a_loop_that_is_dropped_frees_nothing_the_kernel_uses(kind: DriverKind) {
        rounds(kind, drop);
    }

    fn a_loop_that_is_forgotten_frees_nothing_the_kernel_uses(kind: DriverKind) {
        rounds(kind, std::mem::forget);
    }

    /// What does not come back at once stays where it is.
    fn a_loop_that_closes_without_waiting_frees_nothing_the_kernel_uses(kind: DriverKind) {
        rounds(kind, |event_loop| {
            event_loop.set_close_deadline(Duration::ZERO);
            event_loop.close().expect("it does not run");
            let stats = event_loop.core().expect("a base loop").stats();
            assert!(stats.leaked_operations > 0, "it waited");
        });
    }

    /// An engine without a loop, which nobody closes.
    fn an_engine_that_is_dropped_frees_nothing_the_kernel_uses(kind: DriverKind) {
        isolated(|| {
            let disk = Disk::open();
            watch_or_sanitize();
            for seed in Seeds::new(ROUNDS) {
                let mut rng = seed.rng();
                let driver = Builder::new().driver(kind).build_driver();
                let mut engine = Engine::new(driver.expect("it is to be had"));
                let mut tries = 0..100;
                let in_flight = tries.any(|_| {
                    let reads = disk.read(&mut rng, |op, target| engine.start(op, target));
                    engine.turn(Park::Poll).expect("the driver works");
                    reads.in_flight() > 0
                });
                assert!(in_flight, "the disk is too fast for this test");
                drop(engine);
                disk.wait(&mut rng);
                assert_eq!(sweep(), 0, "freed memory was written to");
            }
            assert_eq!(sweep(), 0, "freed memory was written to");
        });
    }

    /// The panic is the program's own, beside the loop.
    fn a_panic_that_drops_the_loop_frees_nothing_the_kernel_uses(kind: DriverKind) {
        rounds(kind, |event_loop| {
            let panicked = catch_unwind(AssertUnwindSafe(move || {
                let _event_loop = event_loop;
                panic!("on purpose");
            }));
            panicked.expect_err("it panics");
        });
    }

    /// The panic comes from inside, through the run of the loop.
    fn a_panic_through_the_run_frees_nothing_the_kernel_uses(kind: DriverKind) {
        rounds(kind, |event_loop| {
            let panicked = catch_unwind(AssertUnwindSafe(move || {
                event_loop.call_soon(|| exit_loop("out")).expect("it is open");
                event_loop.run_forever()
            }));
            panicked.expect_err("the panic leaves the loop");
        });
    }

    /// The loop goes with the thread, after its other locals may have gone.
    fn a_thread_that_ends_with_its_loop_frees_nothing_the_kernel_uses(kind: DriverKind) {
        isolated(|| {
            watch_or_sanitize();
            for seed in Seeds::new(ROUNDS) {
                let mut rng = seed.rng();
                let mut inner = seed.rng();
                let thread = std::thread::spawn(move || {
                    if seed.rng().chance(1, 2) {
                        // Known before all other locals of the thread, it goes after them.
                        LAST.set(Last::default());
                    }
                    let event_loop = some_loop(kind);
                    let (leases, outside) = set(&event_loop, &Disk::open(), &mut inner);
                    LAST.set(Last {
                        event_loop: Some(event_loop),
                        leases,
                    });
                    outside
                });
                let mut outside = thread.join().expect("the scene is set");
                outside.check();
                Disk::open().wait(&mut rng);
                assert_eq!(sweep(), 0, "freed memory was written to");
            }
            assert_eq!(sweep(), 0, "freed memory was written to");
        });
    }
}
