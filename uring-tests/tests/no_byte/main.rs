//! No byte is lost to a read, or a write, that does not end.
//!
//! Thousands of small worlds, each from a seed: a read is given up at some place around the moment
//! at which its bytes come, in one of the four ways in which a read can be given up, again and again,
//! and at the end every byte has come out once and in order. Each test counts how often the bytes
//! were there when a read was given up, and fails when they never were: it would prove nothing.
//!
//! What failed is repeated with `RINGLOOP_TEST_SEED`, and `RINGLOOP_TEST_ROUNDS=100` makes a hundred
//! times as many worlds (see `Seeds`).

mod owned;
mod streams;
mod transports;
mod writes;

use uring_tests::Rng;

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
