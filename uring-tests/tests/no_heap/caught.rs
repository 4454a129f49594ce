//! Wrong ends, which must be found.

use std::io;
use std::process::Command;

use ringloop::driver::{Completion, Completions, Driver, Key, OpTable, Park};
use ringloop::{AbstractEventLoop, Builder, DriverKind};
use uring_tests::{Rng, current_test, forward_driver, isolated, on_both_drivers, on_one_driver};

use crate::disk::Disk;
use crate::quarantine::{sweep, watch};
use crate::scene::{new_loop, set};

/// A driver that takes a cancel for the end of an operation, as more than one runtime did: the table
/// then frees what the kernel goes on writing to.
struct Careless {
    inner: Box<dyn Driver>,
    answers: Vec<Completion>,
}

impl Driver for Careless {
    // What the contract of `submit` says is not kept: that is what this driver is for.
    forward_driver!(inner: submit wants_poll now);

    fn cancel(&mut self, key: Key) {
        self.answers.push(Completion::last(key, -libc::ECANCELED));
    }

    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
        if self.answers.is_empty() {
            return self.inner.park(table, until, out);
        }
        out.append(&mut self.answers);
        Ok(())
    }
}

/// Set in the process that ends wrongly.
const MARK: &str = "RINGLOOP_TEST_CARELESS";
/// What it says when it was found.
const CAUGHT: &str = "caught: freed memory was written to";

/// Ends loops wrongly until that is found, and this process with it.
fn end_wrongly() -> ! {
    let disk = Disk::open();
    let mut rng = Rng::new();
    watch();
    for _ in 0..50 {
        let driver = Builder::new().driver(DriverKind::Uring).build_driver();
        let driver = Careless {
            inner: driver.expect("it is to be had"),
            answers: Vec::new(),
        };
        let event_loop = new_loop(Box::new(driver));
        let (leases, outside) = set(&event_loop, &disk, &mut rng);
        event_loop.close().expect("it does not run");
        drop((event_loop, leases, outside));
        disk.wait(&mut rng);
        if sweep() > 0 {
            println!("{CAUGHT}");
            std::process::exit(0);
        }
    }
    println!("nothing was found");
    std::process::exit(1);
}

on_one_driver! { Uring:
    /// Not on epoll: threads that read files own their buffers, whatever the driver says.
    fn a_driver_that_believes_its_cancels_is_caught() {
        if std::env::var_os(MARK).is_some() {
            end_wrongly();
        }
        let binary = std::env::current_exe().expect("the test binary has a path");
        let output = Command::new(binary)
            .args([current_test().as_str(), "--exact", "--nocapture"])
            .env(MARK, "1")
            .output()
            .expect("the test binary starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", output.status);
        assert!(said.contains(CAUGHT), "this test finds nothing: {said}");
    }
}

on_both_drivers! {
    /// A write to receive buffers that were given back is found, and so is one to a freed block.
    fn writes_to_what_was_given_back_are_caught(kind: DriverKind) {
        isolated(|| {
            watch();
            let driver = Builder::new().driver(kind).build_driver();
            let event_loop = new_loop(driver.expect("it is to be had"));
            let mut rng = Rng::new();
            let disk = Disk::open();
            let (leases, outside) = set(&event_loop, &disk, &mut rng);
            let buffer = leases.some_address();
            event_loop.close().expect("it does not run");
            drop((event_loop, outside));
            assert_eq!(sweep(), 0);
            drop(leases);
            assert_eq!(sweep(), 0);
            // SAFETY: the quarantine keeps the memory, and nobody else uses it.
            unsafe { buffer.write_volatile(1) };
            assert_eq!(sweep(), 1, "a write to a receive buffer that was unmapped");
            let mut block = vec![0u8; 100];
            let start = block.as_mut_ptr();
            drop(block);
            // SAFETY: as above.
            unsafe { start.add(99).write_volatile(1) };
            assert_eq!(sweep(), 1, "a write to a block that was freed");
        });
    }
}
