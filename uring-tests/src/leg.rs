//! In which container leg this process runs, and what the kernel answers there.
//!
//! The script `container.sh` names the leg in `RINGLOOP_TEST_LEG` and, where io_uring is blocked,
//! sets `RINGLOOP_TEST_URING=blocked`. The test `leg_is_what_it_says` proves that the name is true.

use std::io;

use ringloop::driver::uring::{UringDriver, UringOptions};
use ringloop::ring::{Cause, Refusal};

/// Where the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// No container: whatever the machine gives.
    Host,
    /// A container whose seccomp profile allows io_uring.
    Allowed,
    /// A container whose seccomp profile answers ENOSYS, as podman's stock profile does.
    BlockedEnosys,
    /// A container whose seccomp profile answers EPERM, as Docker's does.
    BlockedEperm,
    /// A container that allows io_uring but only 64 KiB of locked memory.
    Memlock,
}

impl Leg {
    /// The leg that `RINGLOOP_TEST_LEG` names.
    ///
    /// # Panics
    /// When the name is unknown, or when `RINGLOOP_TEST_URING` contradicts it.
    pub fn current() -> Self {
        let leg = match std::env::var("RINGLOOP_TEST_LEG").as_deref() {
            Err(_) => Self::Host,
            Ok("allowed") => Self::Allowed,
            Ok("blocked-enosys") => Self::BlockedEnosys,
            Ok("blocked-eperm") => Self::BlockedEperm,
            Ok("memlock") => Self::Memlock,
            Ok(other) => panic!("RINGLOOP_TEST_LEG={other} is not a leg"),
        };
        let said = match std::env::var("RINGLOOP_TEST_URING").as_deref() {
            Err(_) => false,
            Ok("blocked") => true,
            Ok(other) => panic!("RINGLOOP_TEST_URING={other}: only \"blocked\" is known"),
        };
        assert!(
            leg == Self::Host || leg.refusal().is_some() == said,
            "RINGLOOP_TEST_LEG and RINGLOOP_TEST_URING contradict each other"
        );
        leg
    }

    /// The errno that io_uring_setup gives here, if the leg refuses it.
    pub fn refusal(self) -> Option<i32> {
        match self {
            Self::BlockedEnosys => Some(libc::ENOSYS),
            Self::BlockedEperm => Some(libc::EPERM),
            Self::Host | Self::Allowed | Self::Memlock => None,
        }
    }

    /// Whether io_uring is known to be refused: by the leg, or by whoever set
    /// `RINGLOOP_TEST_URING=blocked` on a machine without it.
    pub fn blocks_uring(self) -> bool {
        self.refusal().is_some() || std::env::var_os("RINGLOOP_TEST_URING").is_some()
    }
}

/// Asks the kernel for a ring with so many entries, and closes it again.
///
/// # Errors
/// What the kernel answers.
pub fn raw_uring_setup(entries: u32) -> io::Result<()> {
    // 120 bytes of zeroes: struct io_uring_params, no flags.
    let mut params = [0u64; 15];
    // SAFETY: `params` is valid for the 120 bytes that the kernel reads and writes.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else knows it.
    unsafe { libc::close(fd as i32) };
    Ok(())
}

/// Proves that io_uring is refused here: by the kernel, with the errno the leg announces, and by
/// the driver, with the cause and a remedy.
///
/// # Panics
/// When io_uring can be had after all, so that a leg which blocks nothing fails.
pub fn assert_uring_refused() {
    let leg = Leg::current();
    let Err(error) = raw_uring_setup(8) else {
        panic!("io_uring is said to be blocked here, but the kernel gives a ring");
    };
    let Err(refused) = UringDriver::new(UringOptions::default()) else {
        panic!("the kernel refuses a ring, but the driver starts");
    };
    let refusal = Refusal::in_error(&refused).expect("the driver names the cause");
    assert_eq!(error.raw_os_error(), Some(refusal.errno()), "{error}");
    if leg.refusal().is_some() {
        assert_eq!(error.raw_os_error(), leg.refusal(), "{error}");
        assert_eq!(refusal.cause(), Cause::Seccomp, "{refusal}");
    }
    let text = refused.to_string();
    assert!(text.contains("remedy:"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
