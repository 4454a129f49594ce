//! Runs many small worlds on loops that are looked over at their end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringloop::driver::epoll::EpollOptions;
use ringloop::driver::uring::UringOptions;
use ringloop::{Builder, DriverKind};

use crate::lab::{Lab, lab_on};
use crate::{Rng, Seeds};

/// Runs `world` for so many [`Seeds`] on two loops (see [`lab`](crate::lab)) on that driver: one has
/// default options, the other few receive buffers. Adds up what `world` counts.
///
/// # Panics
/// When a world panics, or a loop has something left.
pub fn worlds<F, W>(kind: DriverKind, count: usize, world: W) -> usize
where
    F: Future<Output = usize> + 'static,
    W: Fn(Lab, Rng) -> F + Clone + Send + 'static,
{
    let sum = Arc::new(AtomicUsize::new(0));
    for buffers in [UringOptions::default().buffers, 8] {
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
        let (world, sum) = (world.clone(), sum.clone());
        lab_on(make, move |lab| async move {
            for seed in Seeds::new(count / 2) {
                let counted = world(lab.clone(), seed.rng()).await;
                sum.fetch_add(counted, Ordering::Relaxed);
            }
        });
    }
    sum.load(Ordering::Relaxed)
}

/// Runs [`worlds`] that must count something: else they prove nothing.
///
/// # Panics
/// As [`worlds`], and when `what` they count happened in none of them.
pub fn races<F, W>(kind: DriverKind, count: usize, what: &str, world: W)
where
    F: Future<Output = usize> + 'static,
    W: Fn(Lab, Rng) -> F + Clone + Send + 'static,
{
    let times = worlds(kind, count, world);
    println!("{times} times {what}");
    assert!(times > 0, "not once {what}: this proves nothing");
}
