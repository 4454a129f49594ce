//! Wakers that feed the very stream whose reader they are for.

use super::{reader, run};
use ringloop::stream::{DEFAULT_LIMIT, StreamReaderProtocol};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{Error, ErrorKind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use uring_tests::on_both_drivers;

type Feed = fn(&StreamReaderProtocol);

thread_local! {
    static FEED: RefCell<Option<(Rc<StreamReaderProtocol>, Feed)>> = const { RefCell::new(None) };
    static WOKEN: Cell<u32> = const { Cell::new(0) };
}

/// A waker whose next clone feeds the stream that stands in `FEED`.
fn feeds_when_cloned() -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        if let Some((stream, feed)) = FEED.take() {
            feed(&stream);
        }
        RawWaker::new(std::ptr::null(), &VTABLE)
    }
    fn wake(_: *const ()) {
        WOKEN.set(WOKEN.get() + 1);
    }
    fn nothing(_: *const ()) {}
    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, nothing);
    // SAFETY: the functions need no data, and work on any thread.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) }
}

on_both_drivers! {
    /// A read that was told to wait is woken for what came while its waker was made, and finds it.
    fn what_a_waker_feeds_is_not_lost(kind: DriverKind) {
        let feeds: [(Feed, &[u8]); 4] = [
            (|stream| stream.feed_data(b"1".to_vec()), b"1"),
            (
                |stream| {
                    stream.feed_data(b"1".to_vec());
                    stream.feed_data(b"2".to_vec());
                },
                b"12",
            ),
            (|stream| stream.feed_eof(), b""),
            (|stream| stream.set_exception(Error::from(ErrorKind::TimedOut)), b"!"),
        ];
        for (feed, expected) in feeds {
            run(kind, async move {
                let (mut reader, feeder) = reader(DEFAULT_LIMIT);
                FEED.set(Some((feeder.clone(), feed)));
                let mut read = pin!(reader.read(10));
                let waker = feeds_when_cloned();
                let woken = WOKEN.get();
                assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                assert!(WOKEN.get() > woken, "nobody was told");
                let Poll::Ready(read) = read.poll(&mut Context::from_waker(Waker::noop())) else {
                    panic!("it was told to wait again");
                };
                match read {
                    Ok(read) => assert_eq!(read, expected),
                    Err(error) => assert_eq!((error.kind(), expected), (ErrorKind::TimedOut, &b"!"[..])),
                }
            });
        }
    }
}
