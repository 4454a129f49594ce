//! Seeded pseudo-random numbers, so that a failure can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// A xorshift64* generator. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Seeded from `RINGLOOP_TEST_SEED`, else from the clock. Prints the seed, which the harness
    /// shows when the test fails.
    ///
    /// # Panics
    /// When `RINGLOOP_TEST_SEED` is not a number.
    pub fn new() -> Self {
        let seed = match std::env::var("RINGLOOP_TEST_SEED") {
            Ok(text) => text.parse().expect("RINGLOOP_TEST_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |since| since.as_nanos() as u64),
        };
        println!("seed: RINGLOOP_TEST_SEED={seed}");
        Self::with_seed(seed)
    }

    /// Seeded with `seed`; equal seeds give equal numbers.
    pub fn with_seed(seed: u64) -> Self {
        // One step of splitmix64 spreads small seeds; the state must not be 0.
        let mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self {
            state: (mixed ^ (mixed >> 31)) | 1,
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to `bound` - 1. The bias is below 2⁻³² for the small bounds of tests.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "no number is below 0");
        (self.next_u64() % bound as u64) as usize
    }

    /// True `of` times in `outof`.
    pub fn chance(&mut self, of: usize, outof: usize) -> bool {
        self.below(outof) < of
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for piece in bytes.chunks_mut(8) {
            let next = self.next_u64().to_le_bytes();
            piece.copy_from_slice(&next[..piece.len()]);
        }
        bytes
    }
}

impl Default for Rng {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers() {
        let (mut one, mut two) = (Rng::with_seed(7), Rng::with_seed(7));
        assert_eq!(one.bytes(64), two.bytes(64));
        assert_ne!(one.next_u64(), Rng::with_seed(8).next_u64());
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_it() {
        let mut rng = Rng::with_seed(0);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[rng.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
