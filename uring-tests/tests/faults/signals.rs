//! A storm of signals to the loop's thread while traffic runs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use ringloop::stream::{StreamReader, StreamWriter, start_unix_server};
use ringloop::{EventLoopExt, UnixServerOptions, sleep, timeout};
use uring_tests::net::{Changes, run_on};
use uring_tests::signals::Storm;
use uring_tests::{Rng, TempDir, isolated, on_both_drivers};

const CLIENTS: u64 = 6;
const BYTES: usize = 300_000;

/// Sends pieces of random lengths and checks each echo.
fn client(mut stream: UnixStream, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut left = BYTES;
    while left > 0 {
        let len = rng.below(20_000).max(1).min(left);
        let sent = rng.bytes(len);
        stream.write_all(&sent).expect("it reads");
        let mut echoed = vec![0; len];
        stream.read_exact(&mut echoed).expect("it answers");
        assert!(sent == echoed, "client {seed}, {left} bytes before the end");
        left -= len;
    }
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) {
    while let Some(data) = reader.read_lease().await.expect("no error") {
        writer.write_lease(data).expect("it is open");
        writer.drain().await.expect("no error");
    }
    writer.close();
}

on_both_drivers! {
    /// Waits that are interrupted begin again: every byte comes back, timers fire, timeouts hold.
    fn a_storm_of_signals_loses_nothing(kind: DriverKind) {
        isolated(|| {
            let dir = TempDir::new();
            let path = dir.path().join("socket");
            let _storm = Storm::begin();
            run_on(kind, |event_loop| async move {
                let server = start_unix_server(echo, UnixServerOptions::new(&path)).await.expect("it binds");
                let ended = Rc::new((Changes::default(), std::cell::Cell::new(0)));
                for seed in 0..CLIENTS {
                    let path = path.clone();
                    let job = event_loop.run_in_executor(move || {
                        client(UnixStream::connect(path).expect("it listens"), seed);
                    });
                    let ended = ended.clone();
                    let waits = async move {
                        job.await.expect("every byte came back");
                        ended.1.set(ended.1.get() + 1);
                        ended.0.happened();
                    };
                    drop(event_loop.create_task(waits));
                }
                for _ in 0..20 {
                    let late = timeout(Duration::from_millis(1), std::future::pending::<()>());
                    assert!(late.await.is_err());
                    sleep(Duration::from_millis(1)).await.expect("nobody cancels");
                }
                ended.0.until(|| (ended.1.get() == CLIENTS).then_some(())).await;
                server.close();
            });
        });
    }
}
