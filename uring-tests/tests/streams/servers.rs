//! The tasks of a server's clients.

use super::connections::address;
use super::{Reports, run_reporting, settle};
use ringloop::stream::{StreamReader, StreamWriter, open_connection, start_server};
use ringloop::task::{LocalTask, current};
use ringloop::{Cancelled, ConnectOptions, ServerOptions, get_running_loop};
use std::cell::RefCell;
use std::future::{Future, pending};
use std::io;
use std::rc::Rc;
use uring_tests::DriverKind;
use uring_tests::on_both_drivers;

const UNHANDLED: &str = "Unhandled exception in client_connected_cb";

/// Connects to a server of this callback; the reports until the connection was closed by it.
fn reports_of<C, F>(kind: DriverKind, callback: C) -> Vec<String>
where
    C: Fn(StreamReader, StreamWriter) -> F + 'static,
    F: Future<Output: ringloop::stream::ClientOutcome> + 'static,
{
    let reports = Reports::default();
    run_reporting(
        kind,
        async move {
            let server = start_server(callback, ServerOptions::new("127.0.0.1", 0));
            let server = server.await.unwrap();
            let to = ConnectOptions::from(address(&server));
            let (mut reader, writer) = open_connection(to).await.unwrap();
            writer.write(b"x").unwrap();
            // The end, or a reset because our byte was not read.
            let _ = reader.read_to_end().await;
            writer.close();
            server.close();
            server.wait_closed().await.unwrap();
        },
        reports.collect(),
    );
    reports.all()
}

/// Keeps writers alive, so that only the server can close.
type Kept = Rc<RefCell<Vec<StreamWriter>>>;

on_both_drivers! {
    fn stw_11_a_panicking_callback_is_reported_and_closed(kind: DriverKind) {
        let kept = Kept::default();
        let keep = kept.clone();
        let all = reports_of(kind, move |mut reader: StreamReader, writer| {
            keep.borrow_mut().push(writer);
            async move {
                let byte = reader.read(1).await.unwrap();
                assert_eq!(byte, b"y", "a bug in the handler");
            }
        });
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].starts_with(UNHANDLED), "{all:?}");
        assert!(all[0].contains("a bug in the handler"), "{all:?}");
        assert!(all[0].contains("127.0.0.1:"), "{all:?}");
        assert!(kept.borrow()[0].is_closing());
    }

    fn stw_11_a_failing_callback_is_reported_and_closed(kind: DriverKind) {
        let kept = Kept::default();
        let keep = kept.clone();
        let all = reports_of(kind, move |mut reader: StreamReader, writer| {
            keep.borrow_mut().push(writer);
            async move {
                reader.read(1).await?;
                io::Result::Err(io::Error::other("no such command"))
            }
        });
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].starts_with(UNHANDLED) && all[0].contains("no such command"), "{all:?}");
        assert!(kept.borrow()[0].is_closing());
    }

    fn stw_11_a_cancelled_callback_is_closed_silently(kind: DriverKind) {
        // Carried out by `?`, as Cancelled itself, and by a body that waits for foreign things only
        // and is dropped.
        for way in 0..3 {
            let kept = Kept::default();
            let keep = kept.clone();
            let all = reports_of(kind, move |mut reader: StreamReader, writer| {
                keep.borrow_mut().push(writer);
                async move {
                    let me: LocalTask = current().expect("a task");
                    let event_loop = get_running_loop();
                    ringloop::EventLoopExt::call_soon(&*event_loop, move || { me.cancel(); }).unwrap();
                    match way {
                        0 => reader.readexactly(100).await.map(drop),
                        1 => Ok(ringloop::sleep(std::time::Duration::from_secs(600)).await?),
                        _ => pending().await,
                    }
                }
            });
            assert_eq!(all, [] as [String; 0], "way {way}");
            assert!(kept.borrow()[0].is_closing());
        }
    }

    /// A callback that returns leaves a writer that somebody else holds open.
    fn stw_11_a_callback_that_returns_closes_nothing_itself(kind: DriverKind) {
        let kept = Kept::default();
        let keep = kept.clone();
        let reports = Reports::default();
        run_reporting(kind, async move {
            let callback = move |_reader: StreamReader, writer: StreamWriter| {
                keep.borrow_mut().push(writer);
                std::future::ready(Ok::<(), Cancelled>(()))
            };
            let server = start_server(callback, ServerOptions::new("127.0.0.1", 0)).await.unwrap();
            let (mut reader, writer) = open_connection(ConnectOptions::from(address(&server))).await.unwrap();
            while kept.borrow().is_empty() {
                ringloop::yield_now().await.unwrap();
            }
            settle().await;
            assert!(!kept.borrow()[0].is_closing());
            kept.borrow()[0].write(b"later").unwrap();
            assert_eq!(reader.readexactly(5).await.unwrap(), b"later");
            drop(kept.take());
            assert_eq!(reader.read_to_end().await.unwrap(), b"");
            writer.close();
        }, reports.collect());
        assert_eq!(reports.all(), [] as [String; 0]);
    }
}
