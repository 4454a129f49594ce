//! Reading what is fed by hand.

use super::{fed, feed_later, new_loop, reader, run, settle, spawn, told};
use ringloop::Cancelled;
use ringloop::stream::{DEFAULT_LIMIT, IncompleteReadError, StreamReader};
use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind};
use std::pin::pin;
use std::task::Poll;
use uring_tests::on_both_drivers;

/// Polls a future once and says whether it is pending.
async fn is_pending<F: Future>(future: &mut std::pin::Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

on_both_drivers! {
    /// Empty data is ignored, a read of nothing gives nothing and takes nothing.
    fn str_01_feeding_and_reading_nothing(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[b""]);
            assert_eq!(reader.buffered(), 0);
            feeder.feed_data(b"data".to_vec());
            assert_eq!(reader.buffered(), 4);
            assert_eq!(reader.read(0).await.unwrap(), b"");
            assert_eq!(reader.buffered(), 4);
            let mut nothing = [0; 0];
            assert_eq!(reader.read_into(&mut nothing).await.unwrap(), 0);
        });
    }

    fn str_02_read_gives_what_is_there_and_at_most_n(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[b"line1", b"line2"]);
            assert_eq!(reader.read(30).await.unwrap(), b"line1line2");
            feeder.feed_data(b"abcdef".to_vec());
            assert_eq!(reader.read(4).await.unwrap(), b"abcd");
            let mut rest = [0; 8];
            assert_eq!(reader.read_into(&mut rest).await.unwrap(), 2);
            assert_eq!(&rest[..2], b"ef");
            feed_later(&feeder, &[b"late"]);
            assert_eq!(reader.read(30).await.unwrap(), b"late");
        });
    }

    /// The same bytes come out whatever the mixture of reads and the pieces they arrive in.
    fn str_02_reads_of_all_kinds_see_one_stream(kind: DriverKind) {
        run(kind, async {
            let mut rng = uring_tests::Rng::new();
            for _ in 0..50 {
                let sent = rng.bytes(20_000);
                let (mut reader, feeder) = reader(DEFAULT_LIMIT);
                let mut left = sent.as_slice();
                let mut pieces = Vec::new();
                while !left.is_empty() {
                    let n = (1 + rng.below(3000)).min(left.len());
                    pieces.push(left[..n].to_vec());
                    left = &left[n..];
                }
                spawn(async move {
                    for (n, piece) in pieces.into_iter().enumerate() {
                        if n % 3 == 0 {
                            ringloop::yield_now().await.unwrap();
                        }
                        feeder.feed_data(piece);
                    }
                    feeder.feed_eof();
                });
                let mut got = Vec::new();
                while !reader.at_eof() {
                    match rng.below(6) {
                        0 => got.extend(reader.read(1 + rng.below(500)).await.unwrap()),
                        1 => {
                            if let Some(lease) = reader.read_lease().await.unwrap() {
                                got.extend_from_slice(&lease);
                            }
                        }
                        2 => {
                            let mut bytes = vec![0; 1 + rng.below(5000)];
                            let n = reader.read_into(&mut bytes).await.unwrap();
                            got.extend_from_slice(&bytes[..n]);
                        }
                        3 => {
                            let there = reader.fill_buf().await.unwrap();
                            let n = rng.below(there.len() + 1);
                            got.extend_from_slice(&there[..n]);
                            reader.consume(n);
                        }
                        4 => {
                            let there = reader.fill_more().await.unwrap();
                            let n = there.len();
                            got.extend_from_slice(there);
                            reader.consume(n);
                        }
                        _ => match reader.readexactly(1 + rng.below(4000)).await {
                            Ok(bytes) => got.extend(bytes),
                            Err(error) => {
                                got.extend(error.downcast::<IncompleteReadError>().unwrap().partial);
                            }
                        },
                    }
                    assert_eq!(got, sent[..got.len()]);
                }
                assert_eq!(got, sent);
            }
        });
    }

    fn str_03_reading_at_and_up_to_the_end(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[]);
            feed_later(&feeder, &[b"chunk1\n", b"chunk2"]);
            assert_eq!(reader.read_to_end().await.unwrap(), b"chunk1\nchunk2");
            assert_eq!(reader.read(1024).await.unwrap(), b"");
            assert_eq!(reader.read_to_end().await.unwrap(), b"");
            assert!(reader.read_lease().await.unwrap().is_none());
            assert!(reader.fill_buf().await.unwrap().is_empty());
            let mut bytes = [0; 4];
            assert_eq!(reader.read_into(&mut bytes).await.unwrap(), 0);
        });
    }

    /// A stored error comes out of every kind of read, before data, and again and again.
    fn str_04_a_stored_error_beats_data(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[b"line\n"]);
            assert!(reader.exception().is_none());
            feeder.set_exception(Error::other("broken"));
            let broken = (ErrorKind::Other, "broken".to_owned());
            assert_eq!(told(reader.read(2).await), broken);
            assert_eq!(told(reader.read(0).await), broken);
            assert_eq!(told(reader.readline().await), broken);
            assert_eq!(told(reader.readexactly(0).await), broken);
            assert_eq!(told(reader.readuntil(b"\n").await), broken);
            assert_eq!(told(reader.read_to_end().await), broken);
            assert_eq!(told(reader.read_lease().await), broken);
            assert_eq!(told(reader.fill_buf().await), broken);
            assert_eq!(told(reader.fill_more().await), broken);
            assert_eq!(reader.exception().unwrap().to_string(), "broken");
            feeder.set_exception(Error::from_raw_os_error(libc::ECONNRESET));
            assert_eq!(reader.read(2).await.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
        });
    }

    fn str_04_who_waits_gets_the_error_and_a_cancelled_one_is_left_alone(kind: DriverKind) {
        run(kind, async {
            let (mut one, feeder) = fed(&[]);
            let waiting = spawn(async move { told(one.read(2).await) });
            settle().await;
            feeder.set_exception(Error::other("broken"));
            assert_eq!(waiting.await.unwrap().1, "broken");

            let (mut two, feeder) = fed(&[]);
            let waiting = spawn(async move { two.read(2).await.map(drop) });
            settle().await;
            waiting.cancel();
            feeder.set_exception(Error::other("broken"));
            assert!(matches!(waiting.await, Err(ringloop::JoinError::Cancelled(_))));
        });
    }

    fn str_05_the_limit_is_positive_and_does_not_bound_reads(kind: DriverKind) {
        run(kind, async {
            let refused = told(StreamReader::new(0));
            assert_eq!(refused, (ErrorKind::InvalidInput, "Limit cannot be <= 0".to_owned()));
            let (mut reader, feeder) = reader(3);
            assert_eq!(reader.limit(), 3);
            feeder.feed_data(b"chunk".to_vec());
            assert_eq!(reader.read(5).await.unwrap(), b"chunk");
            feeder.feed_data(b"chunk".to_vec());
            feeder.feed_eof();
            assert_eq!(reader.read_to_end().await.unwrap(), b"chunk");
        });
    }

    fn str_08_at_eof_needs_the_end_and_an_empty_buffer(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[b"some data\n"]);
            assert!(!reader.at_eof());
            assert_eq!(reader.readline().await.unwrap(), b"some data\n");
            assert!(!reader.at_eof());
            feeder.feed_data(b"xy".to_vec());
            feeder.feed_eof();
            assert_eq!(reader.fill_buf().await.unwrap(), b"xy");
            assert!(!reader.at_eof(), "what was looked at is not read");
            reader.consume(2);
            assert!(reader.at_eof());
        });
    }

    fn str_13_readexactly(kind: DriverKind) {
        run(kind, async {
            let (mut short, feeder) = reader(3);
            assert_eq!(short.readexactly(0).await.unwrap(), b"");
            feed_later(&feeder, &[b"chunkchunk", b"chunkABCD"]);
            let chunk = short.readexactly(15).await.unwrap();
            assert_eq!(chunk, b"chunkchunkchunk");
            let error = short.readexactly(6).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert_eq!(error.to_string(), "4 bytes read on a total of 6 expected bytes");
            let incomplete = IncompleteReadError::in_error(&error).unwrap();
            assert_eq!((incomplete.partial.as_slice(), incomplete.expected), (b"ABCD".as_slice(), Some(6)));
            assert!(short.at_eof());
        });
    }

    fn str_15_a_reader_is_one_of_a_loop(kind: DriverKind) {
        let error = StreamReader::new(10).unwrap_err();
        assert_eq!(error.to_string(), "no running event loop");
        run(kind, async { StreamReader::new(10).expect("a loop runs") });
        let event_loop = new_loop(kind);
        let reader = StreamReader::on_loop(10, &event_loop).expect("it need not run");
        assert_eq!(reader.limit(), 10);
        event_loop.close().unwrap();
    }

    fn str_16_debug_shows_what_is_special(kind: DriverKind) {
        run(kind, async {
            let (mut small, feeder) = reader(123);
            assert_eq!(format!("{small:?}"), "<StreamReader limit=123>");
            feeder.feed_data(b"data".to_vec());
            assert_eq!(format!("{small:?}"), "<StreamReader 4 bytes limit=123>");
            small.read(4).await.unwrap();
            {
                let mut waiting = pin!(small.read(4));
                assert!(is_pending(&mut waiting).await);
                assert_eq!(format!("{feeder:?}"), "<StreamReader limit=123 waiter>");
            }
            feeder.feed_eof();
            assert_eq!(format!("{small:?}"), "<StreamReader eof limit=123>");
            let (default, feeder) = fed(&[]);
            assert_eq!(format!("{default:?}"), "<StreamReader>");
            feeder.set_exception(Error::from(ErrorKind::BrokenPipe));
            assert!(format!("{default:?}").contains(" exception="), "{default:?}");
        });
    }

    /// A read that was dropped or cancelled while it waited, or after its data had come, took
    /// nothing.
    fn no_byte_is_lost_to_a_read_that_does_not_end(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[b"12"]);
            {
                let mut dropped = pin!(reader.readexactly(4));
                assert!(is_pending(&mut dropped).await);
            }
            {
                let mut dropped = pin!(reader.readuntil(b"\n"));
                assert!(is_pending(&mut dropped).await);
                feeder.feed_data(b"34\n".to_vec());
            }
            assert_eq!(reader.read(1).await.unwrap(), b"1");
            let cancelled = spawn(async move {
                let error = reader.readexactly(100).await.unwrap_err();
                assert!(Cancelled::in_error(&error).is_some());
                (reader.read_to_end().await, drop(error)).0
            });
            settle().await;
            // The data that completes the read is there when the request is delivered.
            feeder.feed_data(vec![b'x'; 200]);
            cancelled.cancel();
            feeder.feed_eof();
            let all = cancelled.await.expect("it went on").unwrap();
            assert_eq!(all, [b"234\n".as_slice(), &[b'x'; 200]].concat());
        });
    }
}
