//! The program of the chapter on loops of one's own.

use uring_tests::{DriverKind, on_one_driver, said};

on_one_driver! { Epoll:
    // Not on both drivers: the loop of that program has none.
    fn a_loop_of_ones_own_does_everything() {
        let expected = [
            "told by a timer",
            "an hour in a millisecond: timed out",
            "the task was cancelled: not needed",
            "another thread was told 42",
        ];
        assert_eq!(said("own_loop", DriverKind::Epoll), expected);
    }
}
