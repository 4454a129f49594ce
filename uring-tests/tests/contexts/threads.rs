//! Values cross threads with what is sent, and not otherwise.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::thread;

use ringloop::{ContextSnapshot, ContextVar, EventLoopExt, copy_context};
use uring_tests::lab::lab;
use uring_tests::on_both_drivers;

static VAR: ContextVar<i32> = ContextVar::new("var");

on_both_drivers! {
    fn a_thread_begins_with_nothing_and_has_values_of_its_own(kind: DriverKind) {
        lab(kind, |_| async move {
            VAR.set(1);
            let other = thread::spawn(|| {
                let before = VAR.get();
                VAR.set(2);
                (before, VAR.get())
            });
            assert_eq!(other.join().unwrap(), (None, Some(2)));
            assert_eq!(VAR.get(), Some(1));
        });
    }

    fn a_call_from_a_thread_brings_that_threads_values(kind: DriverKind) {
        lab(kind, |l| async move {
            VAR.set(1);
            let handle = l.event_loop.handle().unwrap();
            let (tell, told) = channel();
            thread::spawn(move || {
                let send = tell.clone();
                handle.call_soon_threadsafe(move || send.send(VAR.get()).unwrap()).unwrap();
                VAR.set(2);
                let send = tell.clone();
                let called = handle.call_soon_threadsafe(move || {
                    send.send(VAR.get()).unwrap();
                    VAR.set(3);
                });
                assert_eq!(called.unwrap().get_context().run(|| VAR.get()), Some(2));
                let context = copy_context();
                context.run(|| VAR.set(4));
                let context = context.snapshot();
                handle.call_soon_threadsafe_in(&context, move || tell.send(VAR.get()).unwrap())
                    .unwrap();
                assert_eq!(VAR.get(), Some(2));
            }).join().unwrap();
            let seen = Rc::new(RefCell::new(Vec::new()));
            l.until("three calls came", || {
                seen.borrow_mut().extend(told.try_iter());
                seen.borrow().len() == 3
            }).await;
            assert_eq!(seen.take(), [None, Some(2), Some(4)]);
            assert_eq!(VAR.get(), Some(1));
        });
    }

    fn a_call_on_the_loops_own_thread_takes_the_current_values(kind: DriverKind) {
        lab(kind, |l| async move {
            let (tell, told) = channel();
            VAR.set(1);
            let send = tell.clone();
            l.event_loop.call_soon_threadsafe(move || send.send(VAR.get()).unwrap()).unwrap();
            let empty = ringloop::Context::new().snapshot();
            l.event_loop
                .call_soon_threadsafe_in(&empty, move || tell.send(VAR.get()).unwrap())
                .unwrap();
            VAR.set(2);
            l.turns(2).await;
            assert_eq!(told.try_iter().collect::<Vec<_>>(), [Some(1), None]);
        });
    }

    fn a_snapshot_runs_anywhere_and_stays_as_it_was(kind: DriverKind) {
        lab(kind, |_| async move {
            VAR.set(1);
            let snapshot = ContextSnapshot::new();
            VAR.set(2);
            let far = snapshot.clone();
            let other = thread::spawn(move || {
                far.run(|| VAR.set(5));
                let context = far.to_context();
                context.run(|| VAR.set(6));
                (far.run(|| VAR.get()), VAR.get_in(&context), VAR.get())
            });
            assert_eq!(other.join().unwrap().0, Some(1));
            assert_eq!(snapshot.run(|| VAR.get()), Some(1));
            assert_eq!(VAR.get(), Some(2));
        });
    }

    /// The thread's own values are dropped with it, and what they do at that time finds no variable.
    fn a_threads_values_go_with_it(kind: DriverKind) {
        struct AtItsEnd(std::sync::mpsc::Sender<Option<i32>>);
        impl Drop for AtItsEnd {
            fn drop(&mut self) {
                VAR.set(8);
                let _ = self.0.send(VAR.get());
            }
        }
        static END: ContextVar<AtItsEnd> = ContextVar::new("end");
        lab(kind, |_| async move {
            let (tell, told) = channel();
            thread::spawn(move || {
                VAR.set(7);
                END.set(AtItsEnd(tell));
            }).join().unwrap();
            assert_eq!(told.recv(), Ok(None));
        });
    }
}
