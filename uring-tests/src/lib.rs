//! What the integration tests share.
//!
//! **Guarantees.** A test declared with [`on_both_drivers!`] runs on io_uring and on epoll, its
//! printed name says on which, it never passes without running (where io_uring is known to be
//! blocked, the io_uring variant proves that it is refused), and a test that hangs ends the
//! process with its name.
//!
//! | file | what |
//! |---|---|
//! | `run.rs` | runs one variant of one test: leg, name, watchdog |
//! | `leg.rs` | in which container leg this process is, and what the kernel answers there |
//! | `isolated.rs` | a test in a process of its own; its descriptors, its forks |
//! | | **loops and drivers** |
//! | `lab.rs` | a loop for one test, and the proof that nothing is left of it |
//! | `watch.rs` | a loop that is watched, and whose clock may be turned by hand |
//! | `wrapped.rs` | a loop that can be told to answer otherwise |
//! | `drive.rs` | drives a driver by hand |
//! | `layer.rs` | drivers in front of others |
//! | | **what tests say** |
//! | `tasks.rs` | what tests of tasks say in a word |
//! | `order.rs` | what happened, in order |
//! | `heap.rs` | an allocator that counts |
//! | `net.rs` | protocols and sockets for tests of connections and servers |
//! | `peer.rs` | the other end of a connection |
//! | `meeting.rs` | threads that wait for each other |
//! | `example.rs` | where the built examples are, and what they say |
//! | `scene.rs` | programs that tests talk to |
//! | `temp.rs` | a directory that goes away |
//! | | **what goes wrong** |
//! | `give_up.rs` | the ways in which a wait can be given up |
//! | `moments.rs` | every place of an iteration at which something can happen |
//! | `seccomp.rs` | system calls that a filter refuses |
//! | `signals.rs` | a storm of signals |
//! | | **by chance** |
//! | `rng.rs` | seeded pseudo-random numbers |
//! | `seeds.rs` | many small worlds, each from a seed that makes it again |
//! | `worlds.rs` | runs them on loops that are looked over at their end |

pub mod drive;
mod example;
pub mod give_up;
pub mod heap;
mod isolated;
pub mod lab;
pub mod layer;
mod leg;
mod meeting;
pub mod moments;
pub mod net;
pub mod order;
pub mod peer;
mod rng;
mod run;
pub mod scene;
pub mod seccomp;
mod seeds;
pub mod signals;
pub mod tasks;
mod temp;
pub mod watch;
pub mod worlds;
pub mod wrapped;

pub use example::{example, said};
pub use isolated::{forked, isolated, isolated_saying, limit_descriptors, open_fds};
pub use leg::{Leg, assert_uring_refused, raw_uring_setup};
pub use meeting::Meeting;
pub use ringloop::driver::DriverKind;
pub use rng::Rng;
pub use run::{Outcome, current_test, run_variant};
pub use seeds::{Seed, Seeds, rounds};
pub use temp::TempDir;

/// Declares tests that run on both drivers.
///
/// Each function becomes a module of its name with the tests `on_uring` and `on_epoll`, so that
/// the printed name is `can_17_x::on_uring`. The function takes the driver it shall run on and
/// returns nothing or a `Result`. Its name begins with the ids of the ledger rows it proves,
/// in small letters: `loop_01_loop_02_…`.
///
/// ```
/// use uring_tests::on_both_drivers;
///
/// on_both_drivers! {
///     /// What it shows.
///     fn sch_01_callbacks_run_in_order(kind: DriverKind) {
///         assert_ne!(kind, DriverKind::Auto);
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! on_both_drivers {
    ($(
        $(#[$meta:meta])*
        fn $name:ident($kind:ident: $type:ty $(,)?) $(-> $output:ty)? $body:block
    )+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            #[allow(unused_imports)]
            use $crate::DriverKind;

            fn body($kind: $type) $(-> $output)? $body

            #[test]
            fn on_uring() $(-> $output)? {
                let name = concat!(module_path!(), "::on_uring");
                $crate::run_variant(name, $crate::DriverKind::Uring, body)
            }

            #[test]
            fn on_epoll() $(-> $output)? {
                let name = concat!(module_path!(), "::on_epoll");
                $crate::run_variant(name, $crate::DriverKind::Epoll, body)
            }
        }
    )+};
}

/// Declares tests of what belongs to one driver, or to none (then `Epoll`, which is always there).
///
/// They have the same watchdog as those of [`on_both_drivers!`], and those of `Uring` prove the refusal
/// where io_uring is known to be blocked.
///
/// ```
/// uring_tests::on_one_driver! { Epoll:
///     /// What it shows.
///     fn epoll_is_always_there() {
///         uring_tests::drive::Rig::open(uring_tests::DriverKind::Epoll);
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! on_one_driver {
    ($kind:ident: $($(#[$meta:meta])* fn $name:ident() $body:block)+) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            fn body(_: $crate::DriverKind) $body
            let name = concat!(module_path!(), "::", stringify!($name));
            $crate::run_variant(name, $crate::DriverKind::$kind, body)
        }
    )+};
}

/// The same with a [`Rig`](drive::Rig) on a driver with these options, of which nothing may be left at
/// the end.
///
/// ```
/// use ringloop::driver::{Op, epoll::EpollOptions};
///
/// uring_tests::with_rig! { Epoll:
///     fn nothing_takes_no_time(rig = EpollOptions::default()) {
///         assert_eq!(rig.run(Op::Nop).result, 0);
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! with_rig {
    ($kind:ident: $($(#[$meta:meta])* fn $name:ident($rig:ident = $options:expr) $body:block)+) => {
        $crate::on_one_driver! { $kind: $(
            $(#[$meta])*
            fn $name() {
                let mut rig = $crate::drive::Rig::from($options);
                {
                    let $rig: &mut $crate::drive::Rig = &mut rig;
                    $body
                }
                rig.close();
            }
        )+}
    };
}
