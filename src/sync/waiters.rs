//! The line in which futures wait for a primitive: one for all primitives.
//!
//! **Guarantees.** First in, first out. Joining, leaving and waking the first are O(1). A place is
//! used again when its future left, so a line takes memory only while more futures wait than ever
//! did, and none for those that were dropped. A future that was given something keeps its place,
//! out of the line, until it takes that or leaves; [`Waiters::remove`] says what it had been given.
//!
//! ```text
//!            add                 give                 remove
//!   (free) ───────▶ in line ───────────▶ given to ──────────────▶ (free)
//!                      │                                            ▲
//!                      └──────────────── remove ────────────────────┘
//! ```
//!
//! **Code of others** runs when a waker is cloned, dropped or woken. Never under the borrow of the
//! list: wakers are taken out of it first, and what has to be decided for several waiters at once is
//! decided before the first of them is woken.
//!
//! **Who may touch it.** `leaf.rs` adds and removes; the primitives give.

use crate::task::call_all;
use std::cell::{Cell, RefCell};
use std::iter;
use std::task::Waker;

/// No place.
const NONE: u32 = u32::MAX;

/// A future's place in a line. Not `Clone`: who holds it removes it.
#[derive(Debug)]
pub(super) struct Place(u32);

struct Entry {
    /// Whom to wake; there exactly while the entry is in line.
    waker: Option<Waker>,
    given: Option<u32>,
    prev: u32,
    /// In line the next one, else the next free one.
    next: u32,
}

struct List {
    entries: Vec<Entry>,
    free: u32,
    head: u32,
    tail: u32,
}

impl List {
    fn entry(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    fn push(&mut self, waker: Waker) -> u32 {
        let entry = Entry {
            waker: Some(waker),
            given: None,
            prev: self.tail,
            next: NONE,
        };
        let mut index = self.free;
        if let Some(place) = self.entries.get_mut(index as usize) {
            self.free = place.next;
            // A free entry has no waker, so nothing of others is dropped here.
            *place = entry;
        } else {
            index = self.entries.len() as u32;
            self.entries.push(entry);
        }
        match self.tail {
            NONE => self.head = index,
            tail => self.entry(tail).next = index,
        }
        self.tail = index;
        index
    }

    /// Takes an entry out of the line.
    fn unlink(&mut self, index: u32) -> Option<Waker> {
        let entry = self.entry(index);
        let waker = entry.waker.take()?;
        let (prev, next) = (entry.prev, entry.next);
        match prev {
            NONE => self.head = next,
            prev => self.entry(prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => self.entry(next).prev = prev,
        }
        Some(waker)
    }

    /// Frees an entry. Returns what was given to it, and its waker if it stood in line.
    fn free(&mut self, index: u32) -> (Option<u32>, Option<Waker>) {
        let waker = self.unlink(index);
        let free = std::mem::replace(&mut self.free, index);
        let entry = self.entry(index);
        entry.next = free;
        (entry.given.take(), waker)
    }

    /// The first in line that was given nothing yet. Others stand before it only while `give_all`
    /// wakes them.
    fn first(&mut self) -> u32 {
        let mut index = self.head;
        while index != NONE && self.entry(index).given.is_some() {
            index = self.entry(index).next;
        }
        index
    }
}

pub(super) struct Waiters {
    list: RefCell<List>,
    /// Places that futures hold.
    held: Cell<u32>,
}

impl Waiters {
    pub(super) const fn new() -> Self {
        Self {
            list: RefCell::new(List {
                entries: Vec::new(),
                free: NONE,
                head: NONE,
                tail: NONE,
            }),
            held: Cell::new(0),
        }
    }

    /// Nobody is in line, and nobody was given something that it has yet to take.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.get() == 0
    }

    /// How many wait and were given nothing yet.
    pub(super) fn waiting(&self) -> usize {
        let list = self.list.borrow();
        let waits = |entry: &&Entry| entry.waker.is_some() && entry.given.is_none();
        list.entries.iter().filter(waits).count()
    }

    /// Joins the end of the line.
    pub(super) fn add(&self, waker: Waker) -> Place {
        self.held.set(self.held.get() + 1);
        Place(self.list.borrow_mut().push(waker))
    }

    fn is_given(&self, place: &Place) -> bool {
        self.list.borrow_mut().entry(place.0).given.is_some()
    }

    /// Leaves. Returns what was given to the place.
    pub(super) fn remove(&self, place: Place) -> Option<u32> {
        let (given, waker) = self.list.borrow_mut().free(place.0);
        self.held.set(self.held.get() - 1);
        drop(waker);
        given
    }

    /// Leaves with what was given to the place; gives the place back if nothing was.
    pub(super) fn claim(&self, place: Place) -> Result<u32, Place> {
        let (given, waker) = {
            let mut list = self.list.borrow_mut();
            let Some(given) = list.entry(place.0).given else {
                return Err(place);
            };
            // In line still, if `give_all` has yet to wake it.
            (given, list.free(place.0).1)
        };
        self.held.set(self.held.get() - 1);
        drop(waker);
        Ok(given)
    }

    /// The future at that place was polled with this waker.
    pub(super) fn refresh(&self, place: &Place, waker: &Waker) {
        let same = match &self.list.borrow_mut().entry(place.0).waker {
            Some(old) => old.will_wake(waker),
            None => false,
        };
        if same {
            return;
        }
        let mut new = Some(waker.clone());
        {
            let mut list = self.list.borrow_mut();
            let entry = list.entry(place.0);
            if entry.waker.is_some() {
                std::mem::swap(&mut entry.waker, &mut new);
            }
        }
        // In line it is the old one. Else the clone's own code gave something to this place and
        // woke the old one: now who polled last has to know.
        if let Some(waker) = new {
            if self.is_given(place) {
                waker.wake();
            } else {
                drop(waker);
            }
        }
    }

    /// Gives `value` to the first in line and wakes it. False: nobody is in line.
    #[inline]
    pub(super) fn give(&self, value: u32) -> bool {
        !self.is_empty() && self.give_first(value)
    }

    fn give_first(&self, value: u32) -> bool {
        let waker = {
            let mut list = self.list.borrow_mut();
            let first = list.first();
            if first == NONE {
                return false;
            }
            list.entry(first).given = Some(value);
            list.unlink(first)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Gives something to everyone who is in line now: their position. Then wakes them in order.
    pub(super) fn give_all(&self) {
        if self.is_empty() {
            return;
        }
        {
            let mut list = self.list.borrow_mut();
            let (mut index, mut position) = (list.first(), 0);
            while index != NONE {
                let entry = list.entry(index);
                entry.given = Some(position);
                position += 1;
                index = entry.next;
            }
        }
        call_all(iter::from_fn(|| self.next_given()), Waker::wake);
    }

    /// Takes the first out of line, if it was given something.
    fn next_given(&self) -> Option<Waker> {
        let mut list = self.list.borrow_mut();
        let head = list.head;
        if head == NONE || list.entry(head).given.is_none() {
            return None;
        }
        list.unlink(head)
    }
}
