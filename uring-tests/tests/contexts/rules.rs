//! The variables themselves: set, reset, what is inherited, and values whose code does odd things.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringloop::task::{TokenError, current};
use ringloop::{Context, ContextVar, EventLoopExt, copy_context, yield_now};
use uring_tests::lab::lab;
use uring_tests::on_both_drivers;

static VAR: ContextVar<i32> = ContextVar::new("var");
static OTHER: ContextVar<i32> = ContextVar::new("other").with_default(|| 9);
static OWN: ContextVar<&str> = ContextVar::new("own").not_inherited();

on_both_drivers! {
    fn set_and_reset(kind: DriverKind) {
        lab(kind, |_| async move {
            assert_eq!((VAR.get(), OTHER.get()), (None, Some(9)));
            let first = VAR.set(1);
            let second = VAR.set(2);
            assert_eq!(second.old_value(), Some(1));
            let other = OTHER.set(3);
            assert_eq!(other.old_value(), None, "a default is no value");
            assert_eq!(VAR.reset(other).unwrap_err(), TokenError::OtherVariable);
            assert_eq!((VAR.get(), OTHER.get()), (Some(2), Some(3)));
            VAR.reset(second).unwrap();
            assert_eq!(VAR.get(), Some(1));
            yield_now().await.unwrap();
            VAR.reset(first).unwrap();
            assert_eq!(VAR.get(), None);
            assert_eq!(format!("{:?}", current().unwrap().get_context()), "Context {\"other\"}");
        });
    }

    fn a_token_is_good_in_its_own_context_only(kind: DriverKind) {
        lab(kind, |l| async move {
            let token = VAR.set(1);
            let elsewhere = Context::new();
            let refused = elsewhere.run(|| VAR.reset(token)).unwrap_err();
            assert_eq!(refused, TokenError::OtherContext);
            assert_eq!((VAR.get(), VAR.get_in(&elsewhere)), (Some(1), None));

            let token = VAR.set(2);
            let task = async move { VAR.reset(token).unwrap_err() };
            let refused = l.event_loop.create_task(task).unwrap().await.unwrap();
            assert_eq!(refused, TokenError::OtherContext);

            let token = elsewhere.run(|| VAR.set(3));
            elsewhere.run(|| VAR.reset(token)).unwrap();
            assert_eq!(VAR.get_in(&elsewhere), None, "in a later run of the same context it is");
        });
    }

    fn a_context_runs_as_it_is_and_may_nest(kind: DriverKind) {
        lab(kind, |_| async move {
            VAR.set(1);
            let context = copy_context();
            let copy = context.copy();
            context.run(|| {
                VAR.set(2);
                context.run(|| { VAR.set(3); });
                assert_eq!(VAR.get(), Some(3));
                copy.run(|| assert_eq!(VAR.get(), Some(1)));
                assert_eq!(VAR.get(), Some(3));
            });
            assert_eq!(VAR.get(), Some(1));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                context.run(|| std::panic::resume_unwind(Box::new(())))
            }));
            assert!(panicked.is_err());
            assert_eq!(VAR.get(), Some(1), "left by a panic, too");
        });
    }

    fn what_is_not_inherited_stays_with_its_task(kind: DriverKind) {
        lab(kind, |l| async move {
            let l = l.event_loop.clone();
            OWN.set("mine");
            VAR.set(1);
            let read = || (OWN.get(), VAR.get());
            let seen = l.create_task(async move { read() }).unwrap().await.unwrap();
            assert_eq!(seen, (None, Some(1)));
            assert_eq!(copy_context().run(read), (None, Some(1)));
            assert_eq!(ringloop::ContextSnapshot::new().run(read), (None, Some(1)));
            let told = Rc::new(std::cell::Cell::new(None));
            let tell = told.clone();
            l.call_soon(move || tell.set(Some(read()))).unwrap();
            yield_now().await.unwrap();
            assert_eq!(told.get(), Some((None, Some(1))));
            // What heirs get is found anew after each change.
            VAR.set(2);
            assert_eq!(copy_context().run(read), (None, Some(2)));
            assert_eq!(read(), (Some("mine"), Some(2)), "awaits do not lose it");
        });
    }

    fn values_go_when_the_last_who_has_them_goes(kind: DriverKind) {
        static HELD: ContextVar<Arc<()>> = ContextVar::new("held");
        lab(kind, |l| async move {
            let value = Arc::new(());
            HELD.set(value.clone());
            let child = l.event_loop.create_task(async { drop(HELD.set(Arc::new(()))) });
            let callback = l.event_loop.call_soon(|| drop(HELD.set(Arc::new(())))).unwrap();
            drop(HELD.set(Arc::new(())));
            assert_eq!(Arc::strong_count(&value), 2, "child and callback share a copy");
            callback.cancel();
            child.unwrap().await.unwrap();
            assert_eq!(Arc::strong_count(&value), 1);
        });
    }

    fn code_of_values_may_use_variables(kind: DriverKind) {
        static ODD: ContextVar<Odd> = ContextVar::new("odd");
        struct Odd(Arc<AtomicUsize>);
        impl Clone for Odd {
            fn clone(&self) -> Self {
                VAR.set(VAR.get().unwrap_or(0) + 1);
                drop(ODD.set(Self(self.0.clone())));
                Self(self.0.clone())
            }
        }
        impl Drop for Odd {
            fn drop(&mut self) {
                VAR.set(VAR.get().unwrap_or(0) + 100);
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        lab(kind, |l| async move {
            let ended = Arc::new(AtomicUsize::new(0));
            let count = ended.clone();
            let task = l.event_loop.create_task(async move {
                drop(ODD.set(Odd(count.clone())));
                drop(ODD.get());
                // One clone, and two that ended: the old value and the one read.
                assert_eq!(VAR.get(), Some(201));
                ODD.with(|odd| {
                    assert!(odd.is_some());
                    drop(ODD.set(Odd(count.clone())));
                    drop(odd.cloned());
                });
                count.load(Ordering::Relaxed)
            });
            let before = task.unwrap().await.unwrap();
            assert_eq!(ended.load(Ordering::Relaxed), before + 1, "the last one with its task");
        });
    }

    fn a_value_that_panics_at_its_end_is_reported(kind: DriverKind) {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("at the end");
            }
        }
        static BOMB: ContextVar<Bomb> = ContextVar::new("bomb");
        lab(kind, |l| async move {
            drop(l.event_loop.create_task(async { drop(BOMB.set(Bomb)) }).unwrap());
            l.event_loop.call_soon(|| drop(BOMB.set(Bomb))).unwrap();
            l.turns(2).await;
            let reports = l.reports();
            assert_eq!(reports.len(), 2);
            for report in reports {
                assert_eq!(report.exception.unwrap().to_string(), "at the end");
            }
        });
    }
}
