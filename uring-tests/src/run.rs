//! Runs one variant of one test.
//!
//! **Guarantees.** The io_uring variant runs on io_uring or, where the leg says that io_uring is
//! blocked, proves that demanding it is refused; it is never skipped. A test that takes longer
//! than the watchdog allows ends the process with a message on standard error, past any capture, and
//! with the last panics: one of them may have left the test waiting.

use std::cell::RefCell;
use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use ringloop::driver::DriverKind;

use crate::isolated;
use crate::leg::{Leg, assert_uring_refused};

/// Seconds a test may take, unless `RINGLOOP_TEST_WATCHDOG` says otherwise (slow instrumented builds).
const WATCHDOG_SECONDS: u64 = 240;

/// Panics that the watchdog shows.
const KEPT: usize = 5;

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static CURRENT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What a test may return.
pub trait Outcome {
    /// The value of a test that passed without running its body.
    fn passed() -> Self;
}

impl Outcome for () {
    fn passed() {}
}

impl<E> Outcome for Result<(), E> {
    fn passed() -> Self {
        Ok(())
    }
}

/// The name of the test that runs on this thread, as the test harness knows it.
///
/// # Panics
/// Outside a test declared with [`on_both_drivers!`](crate::on_both_drivers).
pub fn current_test() -> String {
    let name = CURRENT.with_borrow(String::clone);
    assert!(!name.is_empty(), "only inside on_both_drivers!");
    name
}

/// What the expansion of [`on_both_drivers!`](crate::on_both_drivers) calls; `path` is the full
/// path of the test function.
pub fn run_variant<T: Outcome>(path: &str, kind: DriverKind, body: fn(DriverKind) -> T) -> T {
    let name = path.split_once("::").map_or(path, |(_crate, rest)| rest);
    CURRENT.set(name.to_owned());
    let _watchdog = Watchdog::start(name);
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        heed_interrupts();
        keep_panics();
    });
    if kind == DriverKind::Uring && Leg::current().blocks_uring() {
        assert_uring_refused();
        return T::passed();
    }
    body(kind)
}

/// What runs in the background of a shell ignores SIGINT, and so would the programs that tests start
/// and interrupt.
fn heed_interrupts() {
    // SAFETY: the default action is a valid one; no test of this process relies on another.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
}

/// What a panic says is captured by the harness, and lost with the process.
fn keep_panics() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        shown(panic);
        let mut kept = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(panic.to_string());
    }));
}

/// Ends the process unless it is dropped in time.
struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    fn start(name: &str) -> Self {
        let seconds: u64 = match std::env::var("RINGLOOP_TEST_WATCHDOG") {
            Ok(text) => text.parse().expect("RINGLOOP_TEST_WATCHDOG is in seconds"),
            Err(_) => WATCHDOG_SECONDS,
        };
        // Before that of the process which started it and shows what it said.
        let seconds = match std::env::var_os(isolated::MARK) {
            Some(_) => seconds - seconds / 6,
            None => seconds,
        };
        let name = name.to_owned();
        let (alive, gone) = channel::<()>();
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                let waited = gone.recv_timeout(Duration::from_secs(seconds));
                if waited == Err(RecvTimeoutError::Timeout) {
                    // Written to the stream itself: what the harness captures would be lost.
                    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = writeln!(
                        std::io::stderr(),
                        "\nwatchdog: test {name} still runs after {seconds} s; the process ends; \
                         the last panics:\n{}",
                        panics.join("\n")
                    );
                    std::process::abort();
                }
            })
            .expect("the watchdog needs a thread");
        Self { _alive: alive }
    }
}
