//! Drivers in front of others.

use std::io;

use ringloop::Builder;
use ringloop::driver::{Completion, Completions, Driver, DriverKind, Key, Op, OpTable, Park};

/// Inside `impl Driver`: what is passed on to the driver in the field of that name. That is what no
/// driver in front of another does itself, and the methods that are named.
///
/// ```
/// use ringloop::driver::{Completions, Driver, OpTable, Park};
/// use std::io;
///
/// struct Counts {
///     inner: Box<dyn Driver>,
///     parks: usize,
/// }
///
/// impl Driver for Counts {
///     uring_tests::forward_driver!(inner: submit cancel wants_poll now);
///
///     fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
///         self.parks += 1;
///         self.inner.park(table, until, out)
///     }
/// }
/// ```
#[macro_export]
macro_rules! forward_driver {
    ($inner:ident: $($method:ident)*) => {
        fn kind(&self) -> ringloop::driver::DriverKind {
            self.$inner.kind()
        }
        fn report(&self) -> String {
            self.$inner.report()
        }
        fn unparker(&self) -> std::sync::Arc<dyn ringloop::driver::Unpark> {
            self.$inner.unparker()
        }
        fn pool(&self) -> &std::rc::Rc<ringloop::driver::Pool> {
            self.$inner.pool()
        }
        fn counters(&self) -> ringloop::driver::Counters {
            self.$inner.counters()
        }
        fn shut_down(&mut self, leaked: usize) {
            self.$inner.shut_down(leaked);
        }
        $($crate::forward_driver!(@$method $inner);)*
    };
    (@submit $inner:ident) => {
        unsafe fn submit(&mut self, key: ringloop::driver::Key, op: &mut ringloop::driver::Op) {
            // SAFETY: passed on as it came; who makes up completions does not pass on.
            unsafe { self.$inner.submit(key, op) };
        }
    };
    (@cancel $inner:ident) => {
        fn cancel(&mut self, key: ringloop::driver::Key) {
            self.$inner.cancel(key);
        }
    };
    (@wants_poll $inner:ident) => {
        fn wants_poll(&self) -> bool {
            self.$inner.wants_poll()
        }
    };
    (@now $inner:ident) => {
        fn now(&self) -> u64 {
            self.$inner.now()
        }
    };
}

/// A driver that answers some operations itself: results that the kernel does not give on demand.
pub struct Scripted<F> {
    inner: Box<dyn Driver>,
    answer: F,
    answers: Completions,
}

impl<F: FnMut(&Op) -> Option<i32>> Scripted<F> {
    /// In front of a driver of that kind: what `answer` gives a result for completes with it, and
    /// nothing else happens.
    ///
    /// # Panics
    /// When the driver is not to be had.
    pub fn new(kind: DriverKind, answer: F) -> Self {
        let inner = Builder::new().driver(kind).build_driver();
        Self {
            inner: inner.expect("the driver is to be had"),
            answer,
            answers: Completions::new(),
        }
    }
}

impl<F: FnMut(&Op) -> Option<i32>> Driver for Scripted<F> {
    // Of an operation that is answered already, the inner driver knows nothing: a stale key.
    forward_driver!(inner: cancel now);

    unsafe fn submit(&mut self, key: Key, op: &mut Op) {
        match (self.answer)(op) {
            Some(result) => self.answers.push(Completion::last(key, result)),
            // SAFETY: passed on; completions are made up only for what was not.
            None => unsafe { self.inner.submit(key, op) },
        }
    }

    fn park(&mut self, table: &mut OpTable, until: Park, out: &mut Completions) -> io::Result<()> {
        let until = if self.answers.is_empty() {
            until
        } else {
            Park::Poll
        };
        out.append(&mut self.answers);
        self.inner.park(table, until, out)
    }

    fn wants_poll(&self) -> bool {
        !self.answers.is_empty() || self.inner.wants_poll()
    }
}
