//! No byte is lost to a read, or a write, that does not end.
//!
//! Thousands of small worlds, each from a seed: a read is given up at some place around the moment
//! at which its bytes come, in one of the four ways in which a read can be given up, again and again,
//! and at the end every byte has come out once and in order. Each test counts how often the bytes
//! were there when a read was given up, and fails when they never were: it would prove nothing.
//!
//! What failed is repeated with `RINGLOOP_TEST_SEED`, and `RINGLOOP_TEST_ROUNDS=100` makes a hundred
//! times as many worlds (see `Seeds`).

mod give_up;
mod owned;
mod streams;
mod transports;
mod writes;

use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::uring::UringOptions;
use ringloop::{Builder, DriverKind};
use std::future::Future;
use uring_tests::lab::{Lab, lab_on};
use uring_tests::{Rng, Seeds};

/// Runs `world` on loops on that driver, for so many seeds in all: on one with default options, and
/// on one with few receive buffers.
fn worlds<F, W>(kind: DriverKind, count: usize, world: W) -> usize
where
    F: Future<Output = usize> + 'static,
    W: Fn(Lab, Rng) -> F + Clone + Send + 'static,
{
    let mut total = 0;
    for buffers in [UringOptions::default().buffers, 8] {
        let world = world.clone();
        let raced = &mut total;
        let make = move || {
            let uring = UringOptions {
                buffers,
                ..UringOptions::default()
            };
            let epoll = EpollOptions {
                buffers,
                ..EpollOptions::default()
            };
            let builder = Builder::new().driver(kind);
            Lab::new(&builder.uring_options(uring).epoll_options(epoll))
        };
        let sum = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let add = sum.clone();
        lab_on(make, move |lab| async move {
            for seed in Seeds::new(count / 2) {
                let raced = world(lab.clone(), seed.rng()).await;
                add.fetch_add(raced, std::sync::atomic::Ordering::Relaxed);
            }
        });
        *raced += sum.load(std::sync::atomic::Ordering::Relaxed);
    }
    total
}

/// How much a peer has to say: mostly little, at times more than a reader lets wait.
fn some_length(rng: &mut Rng) -> usize {
    match rng.below(20) {
        0 => 150_000 + rng.below(100_000),
        1..5 => rng.below(40_000),
        _ => rng.below(3000),
    }
}

/// How much is said at once.
fn some_piece(rng: &mut Rng, length: usize) -> usize {
    let most = length / (1 + rng.below(8));
    1 + rng.below(1 + most)
}
