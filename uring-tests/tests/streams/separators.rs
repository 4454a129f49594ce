//! Lines and other separated pieces.

use super::{fed, feed_later, reader, run, told};
use ringloop::stream::{IncompleteReadError, LimitOverrunError};
use std::io::ErrorKind;
use uring_tests::on_both_drivers;

const NOT_FOUND: &str = "Separator is not found, and chunk exceed the limit";
const TOO_LONG: &str = "Separator is found, but chunk is longer than limit";

/// The overrun that a read ended with.
fn overrun(result: std::io::Result<Vec<u8>>) -> LimitOverrunError {
    let error = result.expect_err("an overrun is due");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    *LimitOverrunError::in_error(&error).expect("an overrun")
}

on_both_drivers! {
    fn str_06_lines_in_pieces_at_once_and_at_the_end(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[b"chunk1 "]);
            feed_later(&feeder, &[b"chunk2 ", b"chunk3 \n chunk4"]);
            assert_eq!(reader.readline().await.unwrap(), b"chunk1 chunk2 chunk3 \n");
            assert_eq!(reader.buffered(), 7);
            assert_eq!(reader.readline().await.unwrap(), b" chunk4");
            assert_eq!(reader.readline().await.unwrap(), b"");

            let (mut reader, feeder) = fed(&[b"line1\nline2\nline3\n"]);
            assert_eq!(reader.readline().await.unwrap(), b"line1\n");
            assert_eq!(reader.buffered(), 12);
            feeder.feed_eof();
            assert_eq!(reader.read_to_end().await.unwrap(), b"line2\nline3\n");
        });
    }

    fn str_07_a_line_over_the_limit_is_dropped_with_an_error(kind: DriverKind) {
        run(kind, async {
            // Its end was found: the line goes, what follows stays.
            let (mut short, feeder) = reader(3);
            feeder.feed_data(b"li".to_vec());
            feeder.feed_data(b"ne1\nline2\n".to_vec());
            assert_eq!(told(short.readline().await), (ErrorKind::InvalidData, TOO_LONG.to_owned()));
            assert_eq!(short.buffered(), 6);
            // Exactly the limit and a newline is a line.
            assert_eq!(short.read(6).await.unwrap(), b"line2\n");
            feeder.feed_data(b"abc\n".to_vec());
            assert_eq!(short.readline().await.unwrap(), b"abc\n");
            // Its end was not found: everything goes.
            feeder.feed_data(b"chunk".to_vec());
            assert_eq!(told(short.readline().await), (ErrorKind::InvalidData, NOT_FOUND.to_owned()));
            assert_eq!(short.buffered(), 0);
            feed_later(&feeder, &[b"x\n"]);
            assert_eq!(short.readline().await.unwrap(), b"x\n");
        });
    }

    fn str_09_separators_are_checked(kind: DriverKind) {
        run(kind, async {
            let (mut reader, _feeder) = fed(&[b"data"]);
            let empty = "Separator should be at least one-byte string".to_owned();
            assert_eq!(told(reader.readuntil(b"").await), (ErrorKind::InvalidInput, empty.clone()));
            let with_empty = reader.readuntil_any(&[b"x", b""]).await;
            assert_eq!(told(with_empty), (ErrorKind::InvalidInput, empty));
            let none = "Separator should contain at least one element".to_owned();
            assert_eq!(told(reader.readuntil_any(&[]).await), (ErrorKind::InvalidInput, none));
            assert_eq!(reader.buffered(), 4);
        });
    }

    fn str_10_separators_across_pieces_and_overlapping(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[b"lineAAA"]);
            assert_eq!(reader.readuntil(b"AAA").await.unwrap(), b"lineAAA");
            assert_eq!(reader.buffered(), 0);
            feed_later(&feeder, &[b"lineAAA", b"xxx", b"QWEaa", b"XYaa", b"aYZ", b"aaa"]);
            assert_eq!(reader.readuntil(b"AAA").await.unwrap(), b"lineAAA");
            assert_eq!(reader.readuntil(b"xxx").await.unwrap(), b"xxx");
            assert_eq!(reader.readuntil(b"aaa").await.unwrap(), b"QWEaaXYaaa");
            assert_eq!(reader.readuntil(b"aaa").await.unwrap(), b"YZaaa");
        });
    }

    fn str_11_the_end_and_the_limit_before_a_separator(kind: DriverKind) {
        run(kind, async {
            let (mut early, feeder) = fed(&[b"some dataAA"]);
            feeder.feed_eof();
            let error = early.readuntil(b"AAA").await.unwrap_err();
            assert_eq!(error.to_string(), "11 bytes read on a total of undefined expected bytes");
            let incomplete = error.downcast::<IncompleteReadError>().unwrap();
            assert_eq!(incomplete.partial, b"some dataAA");
            assert_eq!(early.buffered(), 0);

            // Data that completes the separator together with the end is enough.
            let (mut late, feeder) = fed(&[b"x"]);
            feeder.feed_data(b"AAA".to_vec());
            feeder.feed_eof();
            assert_eq!(late.readuntil(b"AAA").await.unwrap(), b"xAAA");

            let (mut short, feeder) = reader(3);
            feeder.feed_data(b"some dataAA".to_vec());
            let missed = overrun(short.readuntil(b"AAA").await);
            assert_eq!((missed.consumed, missed.found), (9, false));
            assert_eq!(missed.to_string(), NOT_FOUND);
            assert_eq!(short.buffered(), 11, "nothing is taken");
            feeder.feed_data(b"A".to_vec());
            let behind = overrun(short.readuntil(b"AAA").await);
            assert_eq!((behind.consumed, behind.found), (9, true));
            assert_eq!(behind.to_string(), TOO_LONG);
            assert_eq!(short.buffered(), 12);
        });
    }

    fn str_12_of_several_separators_the_earliest_end_wins(kind: DriverKind) {
        run(kind, async {
            let (mut many, feeder) = reader(3);
            feeder.feed_data(b"line\n".to_vec());
            // The limit is judged by where the separator begins.
            let behind = overrun(many.readuntil_any(&[b"A", b"\n"]).await);
            assert_eq!(behind.consumed, 4);
            assert_eq!(many.readuntil_any(&[b"ine\n", b"e\n"]).await.unwrap(), b"line\n");
            feeder.feed_data(b"AAABBB".to_vec());
            assert_eq!(many.readuntil_any(&[b"BBB", b"ABB", b"AB"]).await.unwrap(), b"AAAB");
            assert_eq!(many.read(2).await.unwrap(), b"BB");
            // One separator is longer than what is there: the search never begins before the start.
            feeder.feed_data(b"da".to_vec());
            feed_later(&feeder, &[b"ta!"]);
            assert_eq!(many.readuntil_any(&[b"ta", b"a longer one"]).await.unwrap(), b"data");
            assert_eq!(many.read(1).await.unwrap(), b"!");
        });
    }

    fn str_14_lines_end_with_the_stream(kind: DriverKind) {
        run(kind, async {
            let (mut reader, feeder) = fed(&[]);
            feed_later(&feeder, &[b"1\n2", b"\n3\nend"]);
            let mut lines = Vec::new();
            while let Some(line) = reader.next_line().await.unwrap() {
                lines.push(line);
            }
            assert_eq!(lines, [b"1\n".as_slice(), b"2\n", b"3\n", b"end"]);
        });
    }
}
