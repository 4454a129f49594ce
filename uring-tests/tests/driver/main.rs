//! What every driver promises, driven by hand.

mod cancel;
mod descriptors;
mod full;
mod orphans;
mod park;
mod streams;

use ringloop::driver::{Fd, Key, Op};
use uring_tests::drive::{Rig, send};

/// A send that the park does not sleep on.
fn send_now(rig: &mut Rig, fd: &Fd, bytes: impl Into<Vec<u8>>) -> Key {
    let mut op = send(fd, bytes, true);
    if let Op::Send { urgent, .. } = &mut op {
        *urgent = true;
    }
    rig.submit(op)
}
