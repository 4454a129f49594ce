//! Why there is no ring, and what to do about it.
//!
//! **Guarantees.** [`Refusal::of`] is a function of observed [`Facts`] alone; [`Facts::observe`]
//! gathers them after a set-up that failed. Every text names a cause and a remedy.
//!
//! | `io_uring_setup` | and | cause |
//! |---|---|---|
//! | `EPERM` | `io_uring_enter(-1)` answers `EPERM` or `ENOSYS` too | seccomp |
//! | `EPERM` | `io_uring_enter(-1)` answers `EBADF`, the sysctl says 1 or 2 | sysctl |
//! | `EPERM` | neither, a filter is on | seccomp, of the set-up call alone |
//! | `EPERM`, `EACCES` | none of these | a security module |
//! | `ENOSYS` | a filter is on | seccomp |
//! | `ENOSYS` | no filter | the kernel has no io_uring |
//! | `ENOMEM` | a limit on locked memory | memlock |
//! | `ENOMEM` | no limit | memory |
//! | `EINVAL` | every rung was tried | too old |
//! | `EMFILE`, `ENFILE` | | descriptors |

use std::fmt;
use std::io;

/// What was observed when a set-up failed.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What `io_uring_setup` (or the registration that failed) answered.
    pub errno: i32,
    /// What `io_uring_enter` answers to descriptor -1: `EBADF` where nothing filters it.
    pub enter_errno: i32,
    /// `/proc/sys/kernel/io_uring_disabled`, where it exists (Linux 6.6).
    pub sysctl: Option<String>,
    /// `Seccomp:` of `/proc/thread-self/status`: 2 means that a filter is on for this thread.
    pub seccomp: Option<u32>,
    /// The soft limit on locked memory in bytes; `None` is no limit.
    pub memlock: Option<u64>,
    /// The locked memory that was asked for, in bytes.
    pub asked: u64,
    /// What the kernel lacks, when that is why.
    pub missing: Option<&'static str>,
}

/// Who or what stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A seccomp filter, as containers have it.
    Seccomp,
    /// The sysctl `kernel.io_uring_disabled`.
    Sysctl,
    /// A security module (SELinux, AppArmor …).
    SecurityModule,
    /// `RLIMIT_MEMLOCK` is used up.
    Memlock,
    /// Memory is short, though no limit on locked memory applies.
    Memory,
    /// The kernel is older than Linux 6.1, or lacks something of it.
    TooOld,
    /// The kernel was built without io_uring, or is not Linux's own.
    NotBuilt,
    /// No descriptor is left.
    Descriptors,
    /// An errno that no rule explains.
    Other,
}

/// io_uring refused: the inner value of the error that starting a driver returns.
#[derive(Clone, Debug)]
pub struct Refusal {
    cause: Cause,
    facts: Facts,
}

impl Facts {
    /// Looks around after `error`; `asked` is the locked memory of the last try.
    pub fn observe(error: &io::Error, asked: u64) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(0),
            enter_errno: enter_nothing(),
            sysctl: std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .ok()
                .map(|text| text.trim().to_owned()),
            seccomp: std::fs::read_to_string("/proc/thread-self/status")
                .ok()
                .and_then(|status| seccomp_mode(&status)),
            memlock: memlock_limit(),
            asked,
            missing: None,
        }
    }
}

/// `io_uring_enter(-1, …)`: EBADF, unless something answers before the kernel's own check.
fn enter_nothing() -> i32 {
    // SAFETY: no ring is named and no memory is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            -1,
            0,
            0,
            0,
            std::ptr::null::<u8>(),
            0,
        )
    };
    if result < 0 {
        super::queues::errno()
    } else {
        0
    }
}

fn seccomp_mode(status: &str) -> Option<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))?;
    line.trim().parse().ok()
}

fn memlock_limit() -> Option<u64> {
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).ok()?;
    (soft != libc::RLIM_INFINITY).then_some(soft)
}

impl Refusal {
    /// Tells the causes apart; see the module's table.
    pub fn of(facts: &Facts) -> Self {
        let filtered = facts.seccomp == Some(2);
        let cause = match facts.errno {
            libc::EPERM if matches!(facts.enter_errno, libc::EPERM | libc::ENOSYS) => {
                Cause::Seccomp
            }
            libc::EPERM if matches!(facts.sysctl.as_deref(), Some("1" | "2")) => Cause::Sysctl,
            libc::EPERM if filtered => Cause::Seccomp,
            libc::EPERM | libc::EACCES => Cause::SecurityModule,
            libc::ENOSYS if filtered => Cause::Seccomp,
            libc::ENOSYS => Cause::NotBuilt,
            libc::ENOMEM if facts.memlock.is_some() => Cause::Memlock,
            libc::ENOMEM => Cause::Memory,
            libc::EINVAL => Cause::TooOld,
            libc::EMFILE | libc::ENFILE => Cause::Descriptors,
            _ => Cause::Other,
        };
        Self {
            cause,
            facts: facts.clone(),
        }
    }

    /// A kernel that lacks something this driver can not do without.
    pub fn too_old(missing: &'static str, errno: i32) -> Self {
        Self {
            cause: Cause::TooOld,
            facts: Facts {
                errno,
                missing: Some(missing),
                ..Facts::default()
            },
        }
    }

    /// Who or what stands in the way.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What the kernel answered.
    pub fn errno(&self) -> i32 {
        self.facts.errno
    }

    /// The error to return: this value inside, with the kind that fits the errno.
    pub fn into_error(self) -> io::Error {
        let kind = match self.cause {
            Cause::TooOld | Cause::NotBuilt => io::ErrorKind::Unsupported,
            Cause::Seccomp | Cause::Sysctl | Cause::SecurityModule => {
                io::ErrorKind::PermissionDenied
            }
            _ => io::Error::from_raw_os_error(self.facts.errno).kind(),
        };
        io::Error::new(kind, self)
    }

    /// The refusal inside an error, if there is one.
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        let errno = errno_name(facts.errno);
        write!(f, "io_uring is not available: ")?;
        match self.cause {
            Cause::Seccomp => {
                write!(
                    f,
                    "a seccomp filter blocks it ({errno}), as the default profiles of containers do; remedy: run \
                     with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (or with \
                     --security-opt seccomp=unconfined), or choose the epoll driver"
                )?;
                if let Some(value @ ("1" | "2")) = facts.sysctl.as_deref() {
                    write!(
                        f,
                        "; the sysctl kernel.io_uring_disabled is {value} as well"
                    )?;
                }
                Ok(())
            }
            Cause::Sysctl if facts.sysctl.as_deref() == Some("2") => write!(
                f,
                "the sysctl kernel.io_uring_disabled is 2, off for every process ({errno}); remedy: \
                 sysctl kernel.io_uring_disabled=0 (or 1 and a group), or choose the epoll driver"
            ),
            Cause::Sysctl => write!(
                f,
                "the sysctl kernel.io_uring_disabled is 1, off for unprivileged processes ({errno}); remedy: run as \
                 a member of the group named by kernel.io_uring_group, or with CAP_SYS_ADMIN, or set the sysctl to \
                 0, or choose the epoll driver"
            ),
            Cause::SecurityModule => write!(
                f,
                "the kernel denied it ({errno}) though no seccomp filter and no sysctl forbids it, so a security \
                 module (SELinux, AppArmor …) does; remedy: allow io_uring in its policy, or choose the epoll driver"
            ),
            Cause::Memlock => write!(
                f,
                "locked memory is used up ({errno}): {} KiB were asked for and RLIMIT_MEMLOCK is {} KiB per user, \
                 all processes together; remedy: raise it (ulimit -l, LimitMEMLOCK=, --ulimit memlock=), start fewer \
                 loops, or choose the epoll driver",
                facts.asked.div_ceil(1024),
                facts.memlock.unwrap_or(0) / 1024
            ),
            Cause::Memory => write!(
                f,
                "the kernel has no memory for a ring of {} KiB ({errno}), and RLIMIT_MEMLOCK is not the reason; \
                 remedy: raise the memory limit of the control group, start fewer loops, or choose the epoll driver",
                facts.asked.div_ceil(1024)
            ),
            Cause::TooOld => write!(
                f,
                "the kernel is too old, it lacks {} ({errno}); remedy: Linux 6.1 or later, or choose the epoll driver",
                facts.missing.unwrap_or("DEFER_TASKRUN")
            ),
            Cause::NotBuilt => write!(
                f,
                "the kernel has no io_uring ({errno}): older than Linux 5.1, built without CONFIG_IO_URING, or a \
                 sandbox such as gVisor; remedy: Linux 6.1 or later with io_uring, or choose the epoll driver"
            ),
            Cause::Descriptors => write!(
                f,
                "no descriptor is left ({errno}); remedy: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=) or, for \
                 ENFILE, the sysctl fs.file-max"
            ),
            Cause::Other => write!(
                f,
                "the kernel answered {errno}, which is not known to happen; remedy: choose the epoll driver and \
                 report this"
            ),
        }
    }
}

/// The name of an errno, for people who search for it.
fn errno_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that forbids nothing.
    fn open(errno: i32) -> Facts {
        Facts {
            errno,
            enter_errno: libc::EBADF,
            sysctl: Some("0".into()),
            seccomp: Some(0),
            memlock: None,
            asked: 84 * 1024,
            missing: None,
        }
    }

    #[track_caller]
    fn check(facts: &Facts, cause: Cause, words: &[&str]) {
        let refusal = Refusal::of(facts);
        assert_eq!(refusal.cause(), cause);
        let text = refusal.to_string();
        for word in words.iter().chain(&["remedy:"]) {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        assert!(!text.contains('\n'), "one line");
        let error = Refusal::of(facts).into_error();
        assert_eq!(Refusal::in_error(&error).map(Refusal::cause), Some(cause));
    }

    #[test]
    fn seccomp_that_answers_eperm() {
        let facts = Facts {
            enter_errno: libc::EPERM,
            seccomp: Some(2),
            ..open(libc::EPERM)
        };
        check(
            &facts,
            Cause::Seccomp,
            &["seccomp", "EPERM", "io_uring_setup", "epoll"],
        );
        // The sysctl may be set as well: both are said.
        let both = Facts {
            sysctl: Some("2".into()),
            ..facts
        };
        check(
            &both,
            Cause::Seccomp,
            &["seccomp", "kernel.io_uring_disabled is 2 as well"],
        );
    }

    #[test]
    fn seccomp_that_answers_enosys() {
        let facts = Facts {
            enter_errno: libc::ENOSYS,
            seccomp: Some(2),
            ..open(libc::ENOSYS)
        };
        check(&facts, Cause::Seccomp, &["seccomp", "ENOSYS"]);
    }

    #[test]
    fn seccomp_of_the_set_up_call_alone() {
        let facts = Facts {
            seccomp: Some(2),
            ..open(libc::EPERM)
        };
        check(&facts, Cause::Seccomp, &["seccomp"]);
    }

    #[test]
    fn sysctl() {
        let one = Facts {
            sysctl: Some("1".into()),
            // A filter that lets io_uring through does not hide the sysctl.
            seccomp: Some(2),
            ..open(libc::EPERM)
        };
        check(
            &one,
            Cause::Sysctl,
            &["kernel.io_uring_disabled is 1", "kernel.io_uring_group"],
        );
        let two = Facts {
            sysctl: Some("2".into()),
            ..open(libc::EPERM)
        };
        check(
            &two,
            Cause::Sysctl,
            &["kernel.io_uring_disabled is 2", "every process"],
        );
    }

    #[test]
    fn security_module() {
        check(
            &open(libc::EPERM),
            Cause::SecurityModule,
            &["SELinux", "EPERM"],
        );
        check(
            &open(libc::EACCES),
            Cause::SecurityModule,
            &["SELinux", "EACCES"],
        );
    }

    #[test]
    fn locked_memory() {
        let facts = Facts {
            memlock: Some(64 * 1024),
            ..open(libc::ENOMEM)
        };
        check(
            &facts,
            Cause::Memlock,
            &[
                "84 KiB",
                "64 KiB",
                "per user, all processes together",
                "ulimit -l",
            ],
        );
        check(
            &open(libc::ENOMEM),
            Cause::Memory,
            &["84 KiB", "control group"],
        );
    }

    #[test]
    fn kernel() {
        check(
            &open(libc::EINVAL),
            Cause::TooOld,
            &["DEFER_TASKRUN", "Linux 6.1"],
        );
        check(&open(libc::ENOSYS), Cause::NotBuilt, &["CONFIG_IO_URING"]);
        let refusal = Refusal::too_old("multishot receive", libc::EINVAL);
        assert!(refusal.to_string().contains("multishot receive"));
        assert_eq!(refusal.into_error().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn descriptors() {
        check(&open(libc::EMFILE), Cause::Descriptors, &["RLIMIT_NOFILE"]);
        check(&open(libc::ENFILE), Cause::Descriptors, &["fs.file-max"]);
    }

    #[test]
    fn the_unknown() {
        check(&open(libc::EIO), Cause::Other, &["EIO"]);
    }

    #[test]
    fn facts_of_this_process_can_be_read() {
        let facts = Facts::observe(&io::Error::from_raw_os_error(libc::EPERM), 1);
        assert_ne!(facts.enter_errno, 0);
        assert!(facts.seccomp.is_some());
        assert_eq!(
            seccomp_mode("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
            Some(2)
        );
    }
}
