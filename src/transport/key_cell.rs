//! The key of an operation in flight, or none, in eight bytes.

use crate::driver::Key;
use std::cell::Cell;

/// See the module.
pub(super) struct KeyCell(Cell<Key>);

/// No operation has this key: indices end before.
const NONE: Key = Key {
    index: u32::MAX,
    generation: 0,
};

impl KeyCell {
    pub(super) const fn none() -> Self {
        Self(Cell::new(NONE))
    }

    #[inline]
    pub(super) fn is_some(&self) -> bool {
        self.0.get().index != NONE.index
    }

    #[inline]
    pub(super) fn get(&self) -> Option<Key> {
        self.is_some().then(|| self.0.get())
    }

    #[inline]
    pub(super) fn set(&self, key: Key) {
        self.0.set(key);
    }

    #[inline]
    pub(super) fn clear(&self) {
        self.0.set(NONE);
    }

    pub(super) fn take(&self) -> Option<Key> {
        let key = self.get();
        self.clear();
        key
    }
}
