//! Texts, and the report of an error that nobody read.

use super::Future;
use super::callbacks::Waiter;
use super::state::{Inner, State};
use super::waiters::Waiters;
use crate::event_loop::exception::{Exception, ExceptionContext};
use std::fmt::{self, Debug, Write};

/// `<Future pending cb=[first, <n more>, last] created at …>`: asyncio's form.
impl<T: Debug> Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str("<Future ")?;
        if inner.state.get() == State::Finished {
            // None is there once it was taken.
            match inner.value.try_borrow().as_deref() {
                Ok(Some(value)) => write!(f, "finished result={value:?}")?,
                _ => f.write_str("finished")?,
            }
        } else {
            inner.write_state(f)?;
        }
        inner.write_rest(f)
    }
}

impl<T> Inner<T> {
    fn write_state(&self, f: &mut dyn Write) -> fmt::Result {
        match self.state.get() {
            State::Pending => f.write_str("pending"),
            State::Finished => f.write_str("finished"),
            State::Cancelled => f.write_str("cancelled"),
            State::Failed => match self.error.get() {
                Some(error) => write!(f, "finished exception={error:?}"),
                None => f.write_str("finished"),
            },
        }
    }

    fn write_rest(&self, f: &mut dyn Write) -> fmt::Result {
        let names = names(&self.waiters.borrow());
        match names.as_slice() {
            [] => {}
            [one] => write!(f, " cb=[{one}]")?,
            [one, two] => write!(f, " cb=[{one}, {two}]")?,
            [first, others @ .., last] => {
                write!(f, " cb=[{first}, <{} more>, {last}]", others.len())?;
            }
        }
        if self.event_loop.get_debug() {
            write!(f, " created at {}", self.created)?;
        }
        f.write_char('>')
    }
}

fn names<T>(waiters: &Waiters<Waiter<T>>) -> Vec<&'static str> {
    let name = |waiter: &Waiter<T>| match waiter {
        Waiter::Waker(_) => "wakeup",
        Waiter::Callback(callback) => callback.name,
    };
    waiters.iter().map(name).collect()
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        if self.unread.get()
            && let Some(error) = self.error.get()
        {
            let mut text = "<Future ".to_owned();
            // Writing to a string does not fail; an error whose own text fails leaves it short.
            let _ = self.write_state(&mut text);
            let _ = self.write_rest(&mut text);
            let mut context = ExceptionContext::new("Future exception was never retrieved");
            context.exception = Some(Exception::Error(Box::new(error.clone())));
            context.future = Some(text);
            self.event_loop.call_exception_handler(context);
        }
    }
}
