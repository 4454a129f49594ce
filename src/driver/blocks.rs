//! Where what a thread's descriptors share stands: a block for each, and the stashes.
//!
//! **Guarantees.** A block does not move, and is nobody else's until it is given back. Blocks stand close
//! together, in chunks: of the system's allocator each would take twice its size. All is made with a
//! thread's first block and freed with its last one, so it does not matter when the thread's variables
//! are destroyed, and what is leaked stays whole.
//!
//! ```text
//!  Fd, Fd ─▶ block ┐            ┌ vacant blocks
//!  Fd ─────▶ block ┴─ chunks ─ Blocks ─ stashes, by the block of their descriptor
//! ```
//!
//! **Who may touch it.** [`Fd`](super::Fd), which belongs to one thread. Nothing here calls code of
//! others, so nothing comes here again while it is borrowed.

use super::fd::{Inner, Stash};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Blocks in a chunk.
const CHUNK: usize = 64;

type Chunk = [MaybeUninit<Inner>; CHUNK];

#[derive(Default)]
struct Blocks {
    /// Each made by `Box::leak`: the blocks are only reached through their own pointers.
    chunks: Vec<NonNull<Chunk>>,
    vacant: Vec<NonNull<Inner>>,
    used: usize,
    stashes: BTreeMap<NonNull<Inner>, Box<Stash>>,
}

thread_local! {
    /// Made by `Box::leak`; there while a block is used. (No destructor: it can be reached as long as the
    /// thread runs.)
    static BLOCKS: Cell<Option<NonNull<Blocks>>> = const { Cell::new(None) };
}

impl Blocks {
    #[cold]
    fn add_chunk(&mut self) {
        let chunk = NonNull::from(Box::leak(Box::new(
            [const { MaybeUninit::uninit() }; CHUNK],
        )));
        self.chunks.push(chunk);
        let first = chunk.cast::<Inner>();
        // SAFETY: within the chunk.
        let blocks = (0..CHUNK).rev().map(|at| unsafe { first.add(at) });
        self.vacant.extend(blocks);
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: made by `Box::leak`; no block in it is used any more, or it would not be freed.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}

/// Works on this thread's blocks, made if there are none.
#[inline]
fn with<R>(f: impl FnOnce(&mut Blocks) -> R) -> R {
    let blocks = BLOCKS.get().unwrap_or_else(|| {
        let blocks = NonNull::from(Box::leak(Box::default()));
        BLOCKS.set(Some(blocks));
        blocks
    });
    // SAFETY: freed only by `give_back`, which forgets it. One thread has it, and by the header this is
    // the only reference.
    f(unsafe { &mut *blocks.as_ptr() })
}

/// A block for this value.
pub(super) fn take(inner: Inner) -> NonNull<Inner> {
    with(|blocks| {
        if blocks.vacant.is_empty() {
            blocks.add_chunk();
        }
        let Some(block) = blocks.vacant.pop() else {
            unreachable!("a chunk was added")
        };
        blocks.used += 1;
        // SAFETY: a vacant block is nobody's, and stands in a chunk that is not freed.
        unsafe { block.write(inner) };
        block
    })
}

/// The value of a block that goes back, and its stash; to be dropped.
///
/// # Safety
/// The block was made by [`take`] in this thread, and nobody uses it from now on.
pub(super) unsafe fn give_back(block: NonNull<Inner>) -> (Inner, Option<Box<Stash>>) {
    // SAFETY: the caller's contract: it holds a value, which is not used there any more.
    let inner = unsafe { block.read() };
    let (stash, last) = with(|blocks| {
        let stash = match inner.is_disturbed() {
            true => blocks.stashes.remove(&block),
            false => None,
        };
        blocks.vacant.push(block);
        blocks.used -= 1;
        (stash, blocks.used == 0)
    });
    if last && let Some(blocks) = BLOCKS.take() {
        // SAFETY: made by `Box::leak`, and forgotten. No block is used, so nobody else points there.
        drop(unsafe { Box::from_raw(blocks.as_ptr()) });
    }
    (inner, stash)
}

/// Works on the stash that belongs to a used block, made if there is none; whether it is kept, which it
/// is unless it is empty. `f` calls no code of others.
pub(super) fn with_stash<R>(block: NonNull<Inner>, f: impl FnOnce(&mut Stash) -> R) -> (R, bool) {
    with(|blocks| {
        let stash = blocks.stashes.entry(block).or_default();
        let result = f(stash);
        let kept = !stash.is_empty();
        if !kept {
            blocks.stashes.remove(&block);
        }
        (result, kept)
    })
}

#[cfg(test)]
mod tests {
    use super::{BLOCKS, CHUNK};
    use crate::driver::Fd;
    use std::cell::RefCell;
    use std::collections::HashSet;
    use std::io::{PipeWriter, Read, pipe};
    use std::thread;

    #[test]
    fn blocks_are_used_again_and_all_go_with_the_last_one() {
        // The thread of its own has no blocks but these.
        let test = || {
            let (_reader, writer) = pipe().unwrap();
            let make = || Fd::new(writer.try_clone().unwrap().into());
            let mut kept: Vec<Fd> = (0..3 * CHUNK).map(|_| make()).collect();
            let blocks = |fds: &[Fd]| fds.iter().map(Fd::address).collect::<HashSet<_>>();
            let before = blocks(&kept);
            assert_eq!(before.len(), 3 * CHUNK);
            kept[0].stash_bytes(b"kept");
            let mut nth = 0;
            kept.retain(|_| {
                nth += 1;
                nth % 3 == 1
            });
            kept.extend((0..2 * CHUNK).map(|_| make()));
            assert_eq!(blocks(&kept), before);
            let mut bytes = [0; 8];
            assert_eq!(kept[0].take_bytes(&mut bytes), Some(4));
            assert_eq!(&bytes[..4], b"kept");
            kept[1].stash_bytes(b"lost with it");
            let last = kept.pop();
            drop(kept);
            assert!(BLOCKS.get().is_some());
            drop(last);
            assert!(BLOCKS.get().is_none());
        };
        thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_stash_goes_with_its_descriptor() {
        let test = || {
            let (_reader, writer) = pipe().unwrap();
            let make = || Fd::new(writer.try_clone().unwrap().into());
            let _keeps_the_blocks = make();
            let old = make();
            let block = old.address();
            old.stash_bytes(b"old");
            drop(old);
            let new = make();
            assert_eq!(new.address(), block);
            new.stash_bytes(b"new");
            let mut bytes = [0; 8];
            assert_eq!(new.take_bytes(&mut bytes), Some(3));
            assert_eq!(&bytes[..3], b"new");
        };
        thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_descriptor_in_a_variable_of_its_thread_is_closed() {
        thread_local! {
            static HELD: RefCell<Option<Fd>> = const { RefCell::new(None) };
        }
        let (mut reader, writer) = pipe().unwrap();
        let hold = |writer: PipeWriter| HELD.set(Some(Fd::new(writer.into())));
        thread::spawn(move || hold(writer)).join().unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}
