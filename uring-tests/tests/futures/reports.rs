//! The report of an error that nobody read, and texts.

use ringloop::EventLoopExt;
use ringloop::event_loop::{Exception, ExceptionContext, Future};
use uring_tests::on_both_drivers;

use crate::support::{lab, poll, turn};
use std::task::Waker;

const NEVER: &str = "Future exception was never retrieved";

fn failed(l: &uring_tests::lab::Lab) -> Future<i32> {
    let future = l.event_loop.create_future();
    future.set_exception("broken").unwrap();
    future
}

fn exception(report: &ExceptionContext) -> String {
    match &report.exception {
        Some(Exception::Error(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

on_both_drivers! {
    fn fut_14_what_is_abandoned_or_unread_without_an_error_is_not_reported(kind: DriverKind) {
        let l = lab(kind);
        drop(l.event_loop.create_future::<i32>());
        let future = l.event_loop.create_future();
        future.set_result(1).unwrap();
        drop(future);
        let future = l.event_loop.create_future::<i32>();
        future.cancel();
        drop(future);
        let future = l.event_loop.create_future();
        future.set_result(1).unwrap();
        assert_eq!(future.result().unwrap(), 1);
        drop(future);
        assert_eq!(l.messages(), [""; 0]);
        l.close();
    }

    /// When its last handle goes; and only then.
    fn fut_15_an_unread_error_is_reported_once(kind: DriverKind) {
        let l = lab(kind);
        for debug in [false, true] {
            let future = l.event_loop.create_future::<i32>();
            let place = format!(" created at {}:{}:", file!(), line!() - 1);
            future.set_exception("broken").unwrap();
            drop(future.clone());
            future.add_done_callback(|_| ());
            turn(&l);
            assert_eq!(l.messages(), [""; 0]);
            l.event_loop.set_debug(debug);
            drop(future);
            l.event_loop.set_debug(false);
            let mut reports = l.reports();
            let report = reports.remove(0);
            assert!(reports.is_empty());
            assert_eq!(report.message, NEVER);
            assert_eq!(exception(&report), "broken");
            let text = report.future.expect("the future's text");
            assert!(text.starts_with("<Future finished exception="), "{text}");
            assert_eq!(text.contains(&place), debug, "{text}");
        }
        l.close();
    }

    /// Also when the loop is gone: who reads standard error sees it.
    fn fut_15_the_report_of_a_closed_loop_is_made_too(kind: DriverKind) {
        let l = lab(kind);
        let future = failed(&l);
        l.event_loop.close().unwrap();
        drop(future);
        assert_eq!(l.messages(), [NEVER]);
        let future = failed(&l);
        l.close();
        drop(future);
    }

    fn fut_16_reading_or_cancelling_suppresses_the_report(kind: DriverKind) {
        let l = lab(kind);
        let reads: [fn(&Future<i32>); 6] = [
            |future| drop(future.exception()),
            |future| drop(future.result()),
            |future| drop(future.take_result()),
            |future| assert!(!future.cancel()),
            |future| assert!(poll(&mut future.wait(), Waker::noop()).is_ready()),
            |future| assert!(poll(&mut future.take(), Waker::noop()).is_ready()),
        ];
        for read in reads {
            let future = failed(&l);
            read(&future);
            drop(future);
            assert_eq!(l.messages(), [""; 0]);
        }
        // Looking at the text, or at the state, is no reading.
        let future = failed(&l);
        assert!(future.done() && !future.cancelled() && !format!("{future:?}").is_empty());
        drop(future);
        assert_eq!(l.messages(), [NEVER]);
        l.close();
    }

    fn fut_16_an_error_that_a_waiting_task_got_is_not_reported(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        let setter = future.clone();
        l.event_loop.call_soon(move || setter.set_exception("broken").unwrap()).unwrap();
        assert_eq!(l.run(future.wait()).unwrap_err().to_string(), "broken");
        drop(future);
        l.close();
    }

    /// There is nothing that switches it on.
    fn fut_17_the_report_can_be_switched_off(kind: DriverKind) {
        let l = lab(kind);
        let future = failed(&l);
        future.suppress_report();
        drop(future);
        assert_eq!(l.messages(), [""; 0]);
        // It is not switched off for an error that comes later.
        let future = l.event_loop.create_future::<i32>();
        future.suppress_report();
        future.set_exception("later").unwrap();
        drop(future);
        assert_eq!(l.messages(), [NEVER]);
        l.close();
    }

    fn fut_18_the_text_tells_state_result_and_callbacks(kind: DriverKind) {
        fn callback(_: &Future<i32>) {}
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        assert_eq!(format!("{future:?}"), "<Future pending>");
        future.add_done_callback(callback);
        let name = std::any::type_name_of_val(&callback);
        assert_eq!(format!("{future:?}"), format!("<Future pending cb=[{name}]>"));
        let mut waiting = future.wait();
        assert!(poll(&mut waiting, Waker::noop()).is_pending());
        assert_eq!(format!("{future:?}"), format!("<Future pending cb=[{name}, wakeup]>"));
        for _ in 0..3 {
            future.add_done_callback(callback);
        }
        assert_eq!(
            format!("{future:?}"),
            format!("<Future pending cb=[{name}, <3 more>, {name}]>")
        );
        future.set_result(5).unwrap();
        assert_eq!(format!("{future:?}"), "<Future finished result=5>");
        future.take_result().unwrap();
        assert_eq!(format!("{future:?}"), "<Future finished>");
        let future = l.event_loop.create_future::<i32>();
        future.cancel();
        assert_eq!(format!("{future:?}"), "<Future cancelled>");
        let future = failed(&l);
        assert_eq!(format!("{future:?}"), "<Future finished exception=\"broken\">");
        drop(future.exception());
        turn(&l);
        l.close();
    }

    fn fut_19_debug_mode_shows_where_it_was_made(kind: DriverKind) {
        let l = lab(kind);
        let future = l.event_loop.create_future::<i32>();
        let line = line!() - 1;
        assert_eq!(format!("{future:?}"), "<Future pending>");
        l.event_loop.set_debug(true);
        let text = format!("{future:?}");
        let place = format!(" created at {}:{line}:", file!());
        assert!(text.starts_with("<Future pending created at "), "{text}");
        assert!(text.contains(&place), "{text}, not {place}");
        l.event_loop.set_debug(false);
        l.close();
    }
}
