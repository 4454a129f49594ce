//! What one cancel scope, or a task itself, knows about the requests made to it.
//!
//! ```text
//!            ask                first await that would suspend
//!   idle ───────────▶ kept ──────────────────────────────────────▶ delivered
//!     │                 ▲ the last marked node went unread             ▲
//!     │  ask            │                                              │
//!     └───────────▶ marked (n nodes) ──── a node reads its mark ───────┘
//!   uncancel to 0: kept and marked ─▶ idle
//! ```
//!
//! **Guarantees.** A request asked for while another is undelivered is the same request: the first
//! message wins. The values a request was delivered as share its [`Request`], so the number of
//! references tells whether one is alive.

use super::cancelled::{Cancelled, Request};
use super::id::TaskId;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub(super) struct Requests {
    /// Requests minus `uncancel`s; of a task only.
    pub(super) count: u32,
    /// Waits for the first await that would suspend.
    pub(super) kept: bool,
    /// Waits for nothing but foreign awaits: the body is to be dropped; of a scope only.
    pub(super) drop_body: bool,
    /// Delivered at least once.
    pub(super) delivered: bool,
    /// Nodes that carry the request and did not read it yet.
    pub(super) marked: u32,
    last: Option<Arc<Request>>,
    /// Others of which values may live: earlier ones, unprompted ones, those of closed child scopes.
    others: Vec<Arc<Request>>,
}

fn is_alive(request: &Arc<Request>) -> bool {
    Arc::strong_count(request) > 1
}

impl Requests {
    /// A request is made.
    pub(super) fn ask(&mut self, task: Option<TaskId>, message: Option<Arc<str>>) {
        if self.is_undelivered() {
            return;
        }
        self.delivered = false;
        let request = Arc::new(Request { task, message });
        if let Some(last) = self.last.replace(request)
            && is_alive(&last)
        {
            self.track(last);
        }
    }

    /// Whether the last request reached nobody yet.
    pub(super) fn is_undelivered(&self) -> bool {
        self.kept || (self.marked > 0 && !self.delivered)
    }

    /// Forgets where the last request is; it is as if it was made now.
    pub(super) fn restart(&mut self) {
        self.kept = false;
        self.marked = 0;
        self.delivered = false;
    }

    /// A value of the last request.
    pub(super) fn value(&mut self) -> Cancelled {
        let request = self.last.get_or_insert_with(|| {
            Arc::new(Request {
                task: None,
                message: None,
            })
        });
        Cancelled(request.clone())
    }

    /// The message of the last request, or of an unprompted value that lives.
    pub(super) fn message(&self) -> Option<Arc<str>> {
        self.last
            .iter()
            .chain(&self.others)
            .find_map(|request| request.message.clone())
    }

    /// Counts the values of one more request.
    pub(super) fn track(&mut self, request: Arc<Request>) {
        self.others.retain(is_alive);
        self.others.push(request);
    }

    /// Whether a value lives.
    pub(super) fn is_carried(&self) -> bool {
        self.last.iter().chain(&self.others).any(is_alive)
    }

    /// How many values live.
    pub(super) fn held(&self) -> usize {
        let all = self.last.iter().chain(&self.others);
        all.map(|request| Arc::strong_count(request) - 1).sum()
    }

    /// How many values of the last request live.
    pub(super) fn held_of_last(&self) -> usize {
        self.last
            .as_ref()
            .map_or(0, |request| Arc::strong_count(request) - 1)
    }

    /// The requests of which values live, for the scope outside.
    pub(super) fn into_alive(self) -> impl Iterator<Item = Arc<Request>> {
        self.last.into_iter().chain(self.others).filter(is_alive)
    }
}
