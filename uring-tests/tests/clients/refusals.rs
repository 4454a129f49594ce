//! What the HTTP example accepts and refuses, byte for byte.

use std::io::{Read, Write};

use uring_tests::on_both_drivers;

use super::on_both_apis;
use super::server::{read_answer, talk};

/// The status line that ends the connection.
fn refused(said: &str) -> &str {
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    assert!(said.contains("\r\nConnection: close\r\n"), "{said}");
    said.lines().next().expect("a status line")
}

on_both_drivers! {
    fn bad_requests_are_refused_with_the_right_status(kind: DriverKind) {
        let large = "x".repeat(20_000);
        let many: String = (0..70).map(|n| format!("H{n}: v\r\n")).collect();
        let requests = [
            ("nonsense\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", "400 Bad Request"),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501 Not Implemented"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", "413 Content Too Large"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", "413 Content Too Large"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "400 Bad Request"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", "413 Content Too Large"),
            (&format!("GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n"), "431 Request Header Fields Too Large"),
            (&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {large}\r\n\r\n"), "431 Request Header Fields Too Large"),
            (&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431 Request Header Fields Too Large"),
        ];
        on_both_apis("http", kind, |server| {
            for (request, status) in &requests {
                let said = talk(server.connect(), request.as_bytes(), false);
                assert_eq!(refused(&said), format!("HTTP/1.1 {status}"), "{request:.100}");
                // Good requests before it are answered.
                let mixed = ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", request].concat();
                let said = talk(server.connect(), mixed.as_bytes(), true);
                let (good, bad) = said.split_once("Hello, world!\n").expect("an answer");
                assert!(good.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
                assert_eq!(refused(bad), format!("HTTP/1.1 {status}"), "{request:.100}");
            }
        });
    }

    fn good_requests_of_all_kinds_share_a_connection(kind: DriverKind) {
        let all = [
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nGET /",
            "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n",
            "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, CLOSE\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: this comes after the end\r\n\r\n",
        ]
        .concat();
        on_both_apis("http", kind, |server| {
            let said = talk(server.connect(), all.as_bytes(), true);
            assert_eq!(said.matches("HTTP/1.1 200 OK\r\n").count(), 6, "{said}");
            assert_eq!(said.matches("Hello, world!\n").count(), 5, "{said}");
            assert!(said.ends_with("Connection: close\r\n\r\nHello, world!\n"), "{said}");
        });
    }

    /// A client that asks first is told to go on; then its body is read.
    fn bodies_that_wait_for_continue_are_asked_for(kind: DriverKind) {
        on_both_apis("http", kind, |server| {
            let mut stream = server.connect();
            stream
                .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
                .expect("it reads");
            let mut interim = [0; 25];
            stream.read_exact(&mut interim).expect("it answers");
            assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
            stream.write_all(b"abc").expect("it reads");
            let answer = read_answer(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        });
    }

    /// The refusal arrives although the client goes on sending.
    fn a_refusal_survives_what_is_still_being_sent(kind: DriverKind) {
        on_both_apis("http", kind, |server| {
            let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n";
            let request = [head.as_slice(), &vec![b'x'; 3_000_000]].concat();
            let said = talk(server.connect(), &request, false);
            assert_eq!(refused(&said), "HTTP/1.1 413 Content Too Large");
        });
    }
}
