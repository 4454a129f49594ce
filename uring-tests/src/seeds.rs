//! Many small worlds, each made from a seed of its own that makes it again.
//!
//! **Guarantees.** A test that fails in one of them says which. `RINGLOOP_TEST_SEED` makes that one
//! the first; `RINGLOOP_TEST_ROUNDS=10` makes ten times as many.

use crate::Rng;
use std::time::{SystemTime, UNIX_EPOCH};

/// The seeds of one test.
pub struct Seeds {
    next: u64,
    left: usize,
}

impl Seeds {
    /// So many, times `RINGLOOP_TEST_ROUNDS`.
    ///
    /// # Panics
    /// When `RINGLOOP_TEST_SEED` or `RINGLOOP_TEST_ROUNDS` is not a number.
    pub fn new(count: usize) -> Self {
        let next = match std::env::var("RINGLOOP_TEST_SEED") {
            Ok(text) => text.parse().expect("RINGLOOP_TEST_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |since| since.as_nanos() as u64),
        };
        Self {
            next,
            left: count * rounds(),
        }
    }
}

/// How many times as much as by default is to be done: `RINGLOOP_TEST_ROUNDS`, else 1.
///
/// # Panics
/// When it is not a number.
pub fn rounds() -> usize {
    match std::env::var("RINGLOOP_TEST_ROUNDS") {
        Ok(text) => text.parse().expect("RINGLOOP_TEST_ROUNDS is a number"),
        Err(_) => 1,
    }
}

impl Iterator for Seeds {
    type Item = Seed;

    fn next(&mut self) -> Option<Seed> {
        self.left = self.left.checked_sub(1)?;
        let seed = Seed(self.next);
        self.next = self.next.wrapping_add(1);
        Some(seed)
    }
}

/// The seed of one world; named when its world panics.
pub struct Seed(u64);

impl Seed {
    /// The numbers that make the world.
    pub fn rng(&self) -> Rng {
        Rng::with_seed(self.0)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("to begin with what failed: RINGLOOP_TEST_SEED={}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_another_one() {
        let seeds: Vec<u64> = Seeds { next: 7, left: 3 }.map(|seed| seed.0).collect();
        assert_eq!(seeds, [7, 8, 9]);
    }
}
