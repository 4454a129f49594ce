//! Streams: asyncio's contract for readers and writers, and that nothing is lost or copied in vain.

mod careless;
mod connections;
mod flow;
mod reader;
mod separators;
mod servers;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;

use ringloop::driver::DriverKind;
use ringloop::stream::{StreamReader, StreamReaderProtocol};
use ringloop::{AbstractEventLoop, Builder, EventLoopExt, Task, block_on, get_running_loop};
use uring_tests::lab::is_slow;

/// Runs `main` on a loop on that driver, and closes the loop. Nothing may be reported.
fn run<F: Future + 'static>(kind: DriverKind, main: F) -> F::Output {
    let reports = Reports::default();
    let output = run_reporting(kind, main, reports.collect());
    assert_eq!(reports.all(), [] as [String; 0]);
    output
}

/// The same; what is reported to the exception handler is given to `reported`.
fn run_reporting<F: Future + 'static>(
    kind: DriverKind,
    main: F,
    reported: impl Fn(String) + 'static,
) -> F::Output {
    let event_loop = new_loop(kind);
    let handler = move |context: &ringloop::ExceptionContext| {
        if !is_slow(&context.message) {
            reported(context.to_string());
        }
    };
    event_loop.set_exception_handler(Some(Rc::new(handler)));
    block_on(&event_loop, main).unwrap_or_else(|error| panic!("{error:?}"))
}

fn new_loop(kind: DriverKind) -> Rc<dyn AbstractEventLoop> {
    let event_loop = Builder::new().driver(kind).build();
    event_loop.expect("the driver is to be had")
}

/// What was reported.
#[derive(Clone, Default)]
struct Reports(Rc<RefCell<Vec<String>>>);

impl Reports {
    fn collect(&self) -> impl Fn(String) + use<> + 'static {
        let reports = self.0.clone();
        move |message| reports.borrow_mut().push(message)
    }

    fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// A task of the running loop.
fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    let task = get_running_loop().create_task(future);
    task.expect("the loop runs")
}

/// A reader of the running loop, and what feeds it.
fn reader(limit: usize) -> (StreamReader, Rc<StreamReaderProtocol>) {
    let reader = StreamReader::new(limit).expect("a loop runs");
    let feeder = reader.protocol();
    (reader, feeder)
}

/// A reader with the default limit that was fed these pieces.
fn fed(pieces: &[&[u8]]) -> (StreamReader, Rc<StreamReaderProtocol>) {
    let (reader, feeder) = reader(ringloop::stream::DEFAULT_LIMIT);
    for piece in pieces {
        feeder.feed_data(piece.to_vec());
    }
    (reader, feeder)
}

/// Feeds each piece in an iteration of its own, then the end.
fn feed_later(feeder: &Rc<StreamReaderProtocol>, pieces: &[&[u8]]) {
    let feeder = feeder.clone();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    spawn(async move {
        for piece in pieces {
            ringloop::yield_now().await.expect("not cancelled");
            feeder.feed_data(piece);
        }
        ringloop::yield_now().await.expect("not cancelled");
        feeder.feed_eof();
    });
}

/// Lets everything that is ready run.
async fn settle() {
    for _ in 0..5 {
        ringloop::yield_now().await.expect("not cancelled");
    }
}

/// The kind and text of an error.
fn told<T: std::fmt::Debug>(result: io::Result<T>) -> (io::ErrorKind, String) {
    let error = result.expect_err("an error is due");
    (error.kind(), error.to_string())
}
