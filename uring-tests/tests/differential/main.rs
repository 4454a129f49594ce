//! One random script of operations, run on both drivers, must give the same completions.
//!
//! Not on both drivers: each test runs both and compares them.
//!
//! A script (`script.rs`) is drawn from a seed before anything runs. A world (`world.rs`) performs it
//! on one driver with sockets, listeners and files of its own, checks what must hold on any driver
//! (every byte in its place, no byte and no connection lost, what is ready completes) and logs, for
//! each descriptor and direction, the results that the script alone determines. The two logs must be
//! equal.
//!
//! What the script does not determine is not logged: how a multishot receive cuts the stream into
//! pieces; a cancel that races with what the peer did after the last time everything was at rest
//! (either answer is right, and the bytes tell that nothing was lost); counts on TCP, where the
//! kernel tunes its buffers; which of a reader and a writer hears of a reset.
//!
//! A failure prints the seed; `RINGLOOP_TEST_SEED=… cargo test --test differential` repeats it.

mod files;
mod listen;
mod script;
mod sock;
mod world;

use ringloop::driver::DriverKind;
use script::script;
use uring_tests::{Rng, on_one_driver};
use world::World;

/// Scripts in one run, and steps in each.
const SCRIPTS: usize = 12;
const STEPS: usize = 400;

fn compare(_: DriverKind) {
    let mut rng = Rng::new();
    for number in 0..SCRIPTS {
        let steps = script(&mut rng, STEPS);
        let [uring, epoll] = [DriverKind::Uring, DriverKind::Epoll].map(|kind| {
            println!("script {number} on {kind}");
            World::run(kind, &steps)
        });
        assert_eq!(
            uring.keys().collect::<Vec<_>>(),
            epoll.keys().collect::<Vec<_>>(),
        );
        for (name, lines) in &uring {
            let other = &epoll[name];
            let same = lines.iter().zip(other).take_while(|(one, two)| one == two);
            let same = same.count();
            assert!(
                lines == other,
                "script {number}, {name}, after\n  {:?}\nio_uring says\n  {:?}\nepoll says\n  {:?}",
                &lines[same.saturating_sub(4)..same],
                lines.get(same),
                other.get(same),
            );
        }
    }
}

on_one_driver! { Uring:
    fn both_drivers_answer_a_random_script_alike() {
        compare(DriverKind::Uring);
    }
}
