//! Handles of scheduled callbacks.

use super::timers::TimerId;
use crate::task::{Bell, CallKey, Callbacks, Context};
use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

/// What a callback is called and where it was scheduled.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    /// The path of the function the closure stands in, as the compiler writes it.
    pub(super) name: &'static str,
    pub(super) created: &'static Location<'static>,
}

impl Origin {
    /// That of every bell.
    #[cold]
    pub(super) fn of_bell() -> Self {
        Self {
            name: std::any::type_name::<Bell>(),
            created: Location::caller(),
        }
    }

    /// The text of reports and handles. The place is added in debug mode only.
    pub(super) fn text(self, debug: bool) -> String {
        let Self { name, created } = self;
        if debug {
            format!("{name} created at {created}")
        } else {
            name.to_owned()
        }
    }
}

/// What a loop offers to the handles it gave out.
pub(super) trait HandleOwner {
    /// Drops the callback at once if it did not run yet.
    fn cancel_callback(&self, key: CallKey, timer: Option<TimerId>);
    /// As `cancel_callback`, for a timer that nobody else knows: its entry need not stay until it is
    /// tidied up.
    fn discard_timer(&self, key: CallKey, timer: TimerId);
    /// Whether the callback neither ran nor was cancelled.
    fn is_callback_waiting(&self, key: CallKey) -> bool;
    /// The context in which the callback will run, while it waits.
    fn callback_context(&self, key: CallKey) -> Option<Context>;
    /// Whether texts show where the callback was scheduled.
    fn is_debug(&self) -> bool;
}

/// For loops that keep their callbacks in an arena and nothing else.
impl HandleOwner for Callbacks {
    fn cancel_callback(&self, key: CallKey, _: Option<TimerId>) {
        self.cancel(key);
    }

    fn discard_timer(&self, key: CallKey, _: TimerId) {
        self.cancel(key);
    }

    fn is_callback_waiting(&self, key: CallKey) -> bool {
        self.is_waiting(key)
    }

    fn callback_context(&self, key: CallKey) -> Option<Context> {
        self.context(key)
    }

    fn is_debug(&self) -> bool {
        false
    }
}

/// A callback scheduled by `call_soon`. asyncio: `Handle`.
///
/// Dropping the handle does not cancel the callback.
pub struct Handle {
    owner: Rc<dyn HandleOwner>,
    key: CallKey,
    cancelled: Cell<bool>,
    /// `None`: a bell's.
    origin: Option<Origin>,
}

impl Handle {
    #[inline]
    pub(super) fn new(owner: Rc<dyn HandleOwner>, key: CallKey, origin: Option<Origin>) -> Self {
        Self {
            owner,
            key,
            cancelled: Cell::new(false),
            origin,
        }
    }

    /// The handle of a callback that waits in `callbacks`, for a loop of your own.
    #[track_caller]
    pub fn of(callbacks: &Rc<Callbacks>, key: CallKey) -> Self {
        let origin = Origin {
            name: callbacks.name(key).unwrap_or_default(),
            created: callbacks.created(key).unwrap_or(Location::caller()),
        };
        Self::new(callbacks.clone(), key, Some(origin))
    }

    /// Cancels the callback: it does not run, and what it captured is dropped at once. Harmless when
    /// it ran already or was cancelled before.
    pub fn cancel(&self) {
        self.cancel_at(None);
    }

    fn cancel_at(&self, timer: Option<TimerId>) {
        if !self.cancelled.replace(true) {
            self.owner.cancel_callback(self.key, timer);
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Whether the callback neither ran nor was cancelled. (asyncio has no counterpart.)
    pub fn is_waiting(&self) -> bool {
        self.owner.is_callback_waiting(self.key)
    }

    /// The context in which the callback will run; `None` once it ran or was cancelled.
    /// asyncio (3.12): `Handle.get_context()`.
    pub fn get_context(&self) -> Option<Context> {
        self.owner.callback_context(self.key)
    }

    fn text(&self) -> String {
        let origin = self.origin.unwrap_or_else(Origin::of_bell);
        origin.text(self.owner.is_debug())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = if self.cancelled() { " cancelled" } else { "" };
        write!(f, "<Handle{cancelled} {}>", self.text())
    }
}

/// A callback scheduled by `call_later` or `call_at`. asyncio: `TimerHandle`.
///
/// Ordered by deadline. Dropping the handle does not cancel the callback.
pub struct TimerHandle {
    handle: Handle,
    timer: TimerId,
}

impl TimerHandle {
    #[inline]
    pub(super) fn new(handle: Handle, timer: TimerId) -> Self {
        Self { handle, timer }
    }

    /// The handle of a callback that waits in `callbacks` for that time, for a loop of your own: its
    /// timer entry finds the callback gone when it was cancelled.
    #[track_caller]
    pub fn of(callbacks: &Rc<Callbacks>, key: CallKey, when: u64) -> Self {
        Self::new(Handle::of(callbacks, key), TimerId::of_others(when))
    }

    /// The deadline, in nanoseconds of the loop's clock.
    pub fn when(&self) -> u64 {
        self.timer.when
    }

    /// As [`Handle::cancel`].
    pub fn cancel(&self) {
        self.handle.cancel_at(Some(self.timer));
    }

    /// Cancels a timer whose handle nobody looks at any more.
    #[inline]
    pub(super) fn discard(&self) {
        self.handle.owner.discard_timer(self.handle.key, self.timer);
    }

    /// As [`Handle::cancelled`].
    pub fn cancelled(&self) -> bool {
        self.handle.cancelled()
    }

    /// As [`Handle::is_waiting`].
    pub fn is_waiting(&self) -> bool {
        self.handle.is_waiting()
    }

    /// As [`Handle::get_context`].
    pub fn get_context(&self) -> Option<Context> {
        self.handle.get_context()
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = if self.cancelled() { " cancelled" } else { "" };
        let (when, text) = (self.when(), self.handle.text());
        write!(f, "<TimerHandle{cancelled} when={when}ns {text}>")
    }
}

/// Equal when deadline, callback and cancelled flag are.
impl PartialEq for TimerHandle {
    fn eq(&self, other: &Self) -> bool {
        self.when() == other.when()
            && self.handle.key == other.handle.key
            && Rc::ptr_eq(&self.handle.owner, &other.handle.owner)
            && self.cancelled() == other.cancelled()
    }
}

impl PartialOrd for TimerHandle {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        use std::cmp::Ordering;
        match self.when().cmp(&other.when()) {
            Ordering::Equal if self != other => None,
            order => Some(order),
        }
    }
}

/// The deadline alone decides, as in asyncio.
impl std::hash::Hash for TimerHandle {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.when().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::CallOnce;

    /// As of a sleep that was cancelled, on a loop of one's own.
    #[test]
    fn a_discarded_timer_of_another_loop_drops_its_callback() {
        let callbacks = Rc::new(Callbacks::new());
        let captured = Rc::new(());
        let kept = captured.clone();
        let key = callbacks.insert(&mut CallOnce::new(move || drop(kept)));
        let timer = TimerHandle::of(&callbacks, key, 5);
        assert!(timer.is_waiting());
        timer.discard();
        assert!(!timer.is_waiting());
        assert_eq!(Rc::strong_count(&captured), 1);
        timer.discard();
        assert!(format!("{timer:?}").starts_with("<TimerHandle when=5ns "));
    }
}
