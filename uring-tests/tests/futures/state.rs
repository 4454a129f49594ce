//! States: what may be set, read and cancelled, and when.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;

use ringloop::event_loop::{Future, FutureError, InvalidStateError};
use ringloop::{EventLoopExt, LoopError};
use uring_tests::lab::Lab;
use uring_tests::on_both_drivers;

use crate::support::lab;

/// Why there is no result.
#[track_caller]
fn refused<T>(result: Result<T, FutureError>) -> InvalidStateError {
    match result {
        Err(FutureError::InvalidState(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("there is one"),
    }
}

/// The message of a cancelled future's answer.
#[track_caller]
fn message<T>(result: Result<T, FutureError>) -> Option<String> {
    match result {
        Err(FutureError::Cancelled(cancelled)) => cancelled.message().map(str::to_owned),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is not cancelled"),
    }
}

/// The message that a task gets that awaits it. (Its value is dropped inside the task, which is not
/// cancelled by it then.)
fn awaited(l: &Lab, future: &Future<i32>) -> Option<String> {
    let waiting = future.wait();
    l.run(async move { message(waiting.await) })
}

#[derive(Debug)]
struct Failure(u32);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failure {}", self.0)
    }
}

impl std::error::Error for Failure {}

on_both_drivers! {
    fn fut_01_it_starts_pending_and_cancel_makes_it_done(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        assert!(!future.done() && !future.cancelled());
        let same = future.clone();
        assert!(future.cancel());
        assert!(same.done() && same.cancelled());
        l.close();
    }

    fn fut_02_a_pending_future_has_neither_result_nor_error(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        let error = refused(future.result());
        assert_eq!(error, InvalidStateError::NotReady);
        assert_eq!(error.to_string(), "Result is not ready.");
        assert_eq!(refused(future.take_result()), InvalidStateError::NotReady);
        let error = refused(future.exception());
        assert_eq!(error, InvalidStateError::NoException);
        assert_eq!(error.to_string(), "Exception is not set.");
        assert!(!future.done());
        l.close();
    }

    /// Whatever ended it first, it stays as it is.
    fn fut_03_what_is_done_can_be_neither_set_nor_cancelled(kind: DriverKind) {
        let l = lab(kind);
        let ends: [fn(&Future<i32>); 3] = [
            |future| future.set_result(1).unwrap(),
            |future| future.set_exception(Failure(1)).unwrap(),
            |future| assert!(future.cancel_with("first")),
        ];
        for end in ends {
            let future = l.event_loop.create_future();
            end(&future);
            let before = format!("{future:?}");
            assert_eq!(future.set_result(2), Err(InvalidStateError::Done));
            assert_eq!(future.set_exception("second"), Err(InvalidStateError::Done));
            assert!(!future.cancel() && !future.cancel_with("second"));
            assert_eq!(format!("{future:?}"), before);
            assert!(future.done());
        }
        let future = l.event_loop.create_future();
        future.set_result(1).unwrap();
        assert_eq!(future.result().unwrap(), 1);
        assert!(future.exception().unwrap().is_none() && !future.cancelled());
        l.close();
    }

    fn fut_05_the_message_of_a_cancel_is_kept_and_delivered(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        assert_eq!(future.cancel_message(), None);
        assert!(future.cancel_with("why"));
        assert!(!future.cancel_with("too late"));
        assert_eq!(future.cancel_message().as_deref(), Some("why"));
        // As often as it is asked for.
        for _ in 0..2 {
            assert_eq!(message(future.result()).as_deref(), Some("why"));
            assert_eq!(message(future.exception()).as_deref(), Some("why"));
            assert_eq!(awaited(&l, &future).as_deref(), Some("why"));
        }
        let silent = l.event_loop.create_future::<i32>();
        assert!(silent.cancel());
        assert_eq!(silent.cancel_message(), None);
        assert_eq!(message(silent.result()), None);
        assert_eq!(awaited(&l, &silent), None);
        l.close();
    }

    fn fut_06_it_is_of_the_running_loop_or_of_the_given_one(kind: DriverKind) {
        let none = Future::<i32>::of_running_loop().map(drop);
        assert_eq!(none, Err(LoopError::NoRunningLoop));
        let (l, other) = (lab(kind), lab(kind));
        let given = Future::<i32>::new(l.event_loop.future_loop().unwrap());
        let created = l.event_loop.create_future::<i32>();
        assert!(Rc::ptr_eq(given.get_loop(), created.get_loop()));
        let inside = l.run(async { Future::<i32>::of_running_loop().unwrap() });
        assert!(Rc::ptr_eq(inside.get_loop(), created.get_loop()));
        assert_eq!(given.get_loop().loop_id(), Some(l.core().tasks().loop_id()));
        let elsewhere = other.event_loop.create_future::<i32>();
        assert_ne!(elsewhere.get_loop().loop_id(), given.get_loop().loop_id());
        assert!(given == given.clone() && given != created);
        drop((given, created, inside, elsewhere));
        l.close();
        other.close();
    }

    fn fut_20_it_is_the_same_error_however_often_it_is_read(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        future.set_exception(Failure(5)).unwrap();
        let first = future.exception().unwrap().expect("it failed");
        assert_eq!(first.downcast_ref::<Failure>().map(|failure| failure.0), Some(5));
        let others = [future.result(), l.run(future.wait()), future.take_result()];
        for other in others {
            let Err(FutureError::Exception(other)) = other else {
                panic!("it failed");
            };
            assert!(other.is_same(&first));
        }
        l.close();
    }

    /// An error that is an `io::Error` keeps its kind where it becomes one again, and its origin.
    fn fut_20_an_error_becomes_an_io_error_and_stays_what_it_is(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<()>();
        let cause = io::Error::new(io::ErrorKind::BrokenPipe, Failure(7));
        future.set_exception(cause).unwrap();
        let error: io::Error = future.result().unwrap_err().into();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(error.to_string(), "failure 7");
        let cancelled = l.event_loop.create_future::<()>();
        cancelled.cancel_with("stop");
        let error: io::Error = cancelled.result().unwrap_err().into();
        let found = ringloop::Cancelled::in_error(&error).expect("it is in there");
        assert_eq!(found.message(), Some("stop"));
        l.close();
    }

    fn fut_21_a_state_is_copied(kind: DriverKind) {
        let l = lab(kind);
        let new = || l.event_loop.create_future::<String>();
        let (source, copy) = (new(), new());
        assert_eq!(copy.copy_state(&source), Err(InvalidStateError::NotReady));
        source.set_result("value".to_owned()).unwrap();
        copy.copy_state(&source).unwrap();
        assert_eq!((source.result().unwrap(), copy.result().unwrap()), ("value".into(), "value".into()));
        assert_eq!(copy.copy_state(&source), Err(InvalidStateError::Done));
        // The error; the source's counts as read.
        let (source, copy) = (new(), new());
        source.set_exception(Failure(1)).unwrap();
        copy.copy_state(&source).unwrap();
        let (one, two) = (source.exception().unwrap(), copy.exception().unwrap());
        assert!(one.unwrap().is_same(&two.unwrap()));
        // The cancellation.
        let (source, copy) = (new(), new());
        source.cancel_with("over");
        copy.copy_state(&source).unwrap();
        assert_eq!(copy.cancel_message().as_deref(), Some("over"));
        // Nothing is copied to a future that was cancelled.
        let (source, copy) = (new(), new());
        copy.cancel();
        assert_eq!(copy.copy_state(&source), Err(InvalidStateError::NotReady));
        source.set_result(String::new()).unwrap();
        copy.copy_state(&source).unwrap();
        assert!(copy.cancelled());
        // What was taken is not there.
        let (source, copy) = (new(), new());
        source.set_result(String::new()).unwrap();
        source.take_result().unwrap();
        assert_eq!(copy.copy_state(&source), Err(InvalidStateError::Taken));
        assert!(!copy.done());
        l.close();
    }

    fn fut_25_a_result_is_set_unless_it_was_cancelled(kind: DriverKind) {
        let l = lab(kind);
        let cancelled = l.event_loop.create_future();
        cancelled.cancel();
        cancelled.set_result_unless_cancelled(1).unwrap();
        assert!(cancelled.cancelled());
        let future = l.event_loop.create_future();
        future.set_result_unless_cancelled(1).unwrap();
        assert_eq!(future.set_result_unless_cancelled(2), Err(InvalidStateError::Done));
        assert_eq!(future.result().unwrap(), 1);
        l.close();
    }

    /// Values that can not be cloned go to one reader.
    fn what_was_taken_is_gone(kind: DriverKind) {
        struct Unique(i32);
        let l = lab(kind);
        let future = l.event_loop.create_future();
        future.set_result(Unique(3)).unwrap();
        assert_eq!(l.run(future.take()).unwrap().0, 3);
        assert_eq!(refused(future.take_result()), InvalidStateError::Taken);
        assert_eq!(refused(l.run(future.take())), InvalidStateError::Taken);
        assert!(future.done() && !future.cancelled() && !future.cancel());
        assert_eq!(future.set_result(Unique(4)), Err(InvalidStateError::Done));
        l.close();
    }

    /// A value's own code may ask its future for everything.
    fn a_value_may_use_its_future_while_it_is_cloned_and_dropped(kind: DriverKind) {
        struct Curious(Rc<Cell<Option<Future<Curious>>>>, Rc<Cell<u32>>);
        impl Curious {
            fn ask(&self) {
                self.1.set(self.1.get() + 1);
                if let Some(future) = self.0.take() {
                    assert!(future.done() && !future.cancel());
                    assert!(future.exception().unwrap().is_none());
                    future.add_done_callback(|_| ());
                    assert_eq!(refused(future.take_result()), InvalidStateError::InUse);
                    drop(future.result().unwrap());
                    self.0.set(Some(future));
                }
            }
        }
        impl Clone for Curious {
            fn clone(&self) -> Self {
                self.ask();
                Self(Rc::default(), self.1.clone())
            }
        }
        let l = lab(kind);
        let future = l.event_loop.create_future();
        let (slot, asked) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
        future.set_result(Curious(slot.clone(), asked.clone())).unwrap();
        slot.set(Some(future.clone()));
        drop(future.result().unwrap());
        assert_eq!(asked.get(), 2);
        let taken = future.take_result().unwrap();
        assert_eq!(refused(future.result()), InvalidStateError::Taken);
        drop((taken, slot.take()));
        // A refused value goes as soon as it is refused, and may look at the future then.
        struct Looks(Option<Future<Looks>>);
        impl Drop for Looks {
            fn drop(&mut self) {
                if let Some(future) = &self.0 {
                    assert!(future.cancelled() && future.result_is_gone());
                }
            }
        }
        trait Gone {
            fn result_is_gone(&self) -> bool;
        }
        impl Gone for Future<Looks> {
            fn result_is_gone(&self) -> bool {
                self.take_result().is_err()
            }
        }
        let future = l.event_loop.create_future();
        future.cancel();
        let value = Looks(Some(future.clone()));
        assert_eq!(future.set_result(value), Err(InvalidStateError::Done));
        l.close();
    }
}
