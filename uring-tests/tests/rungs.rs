//! A server and its clients on each rung of io_uring's set-up, as if the kernel lacked the rest.
//!
//! Not on both drivers: only io_uring has rungs. `uring-tests/rungs.sh` runs all tests of the network
//! on each of them.

use std::rc::Rc;

use ringloop::driver::DriverKind;
use ringloop::driver::uring::UringOptions;
use ringloop::stream::{
    StreamReader, StreamWriter, open_connection, open_unix_connection, start_server,
    start_unix_server,
};
use ringloop::{
    AbstractEventLoop, Builder, ConnectOptions, EventLoopExt, ServerOptions, UnixConnectOptions,
    UnixServerOptions, block_on, get_running_loop,
};
use uring_tests::TempDir;
use uring_tests::drive::pattern;

/// Sends back what comes, then the end.
async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    loop {
        let bytes = reader.read(64 * 1024).await?;
        if bytes.is_empty() {
            writer.write_eof()?;
            writer.drain().await?;
            writer.close();
            return writer.wait_closed().await;
        }
        writer.write(&bytes)?;
        writer.drain().await?;
    }
}

/// Small messages one after the other, then one that fills the sockets, while the answer is read.
async fn talk(mut reader: StreamReader, writer: StreamWriter, large: usize) {
    for len in [1, 100, 5000, 40_000] {
        let message = pattern(len);
        writer.write(&message).unwrap();
        assert!(reader.readexactly(len).await.unwrap() == message, "{len}");
    }
    let message = Rc::new(pattern(large));
    let sent = message.clone();
    let sends = get_running_loop().create_task(async move {
        for part in sent.chunks(100_000) {
            writer.write(part).unwrap();
            writer.drain().await.unwrap();
        }
        writer.write_eof().unwrap();
        writer
    });
    let answer = reader.read_to_end().await.unwrap();
    assert!(answer == *message);
    let writer = sends.unwrap().await.unwrap();
    writer.close();
    writer.wait_closed().await.unwrap();
}

async fn scenario() {
    const CLIENTS: usize = 12;
    const LARGE: usize = 1 << 20;
    let dir = TempDir::new();
    let path = dir.join("socket");
    let tcp = start_server(echo, ServerOptions::new("127.0.0.1", 0));
    let tcp = tcp.await.unwrap();
    let unix = start_unix_server(echo, UnixServerOptions::new(&path));
    let unix = unix.await.unwrap();
    let address = tcp.local_addrs()[0].as_inet().unwrap();
    let event_loop = get_running_loop();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (reader, writer) = match number % 2 {
            0 => open_connection(ConnectOptions::from(address))
                .await
                .unwrap(),
            _ => open_unix_connection(UnixConnectOptions::new(&path))
                .await
                .unwrap(),
        };
        let large = if number < 4 { LARGE } else { 10_000 };
        clients.push(event_loop.create_task(talk(reader, writer, large)).unwrap());
    }
    for client in clients {
        client.await.unwrap();
    }
    tcp.close();
    unix.close();
    tcp.wait_closed().await.unwrap();
    unix.wait_closed().await.unwrap();
}

fn holds(list: &str, line: &str) {
    let options: UringOptions = list.parse().unwrap();
    let builder = Builder::new()
        .driver(DriverKind::Uring)
        .uring_options(options);
    let event_loop: Rc<dyn AbstractEventLoop> = builder.build().unwrap();
    let core = event_loop.core().unwrap().clone();
    let report = core.driver_report();
    assert!(report.lines().any(|found| found == line), "{report}");
    let reports = uring_tests::net::Reports::of(&event_loop);
    block_on(&event_loop, scenario()).unwrap();
    assert_eq!(reports.messages(), [] as [String; 0]);
    let stats = core.stats();
    assert_eq!((stats.live_operations, stats.lent_buffers), (0, 0));
    assert_eq!(stats.leaked_operations, 0);
    println!("{:?}", stats.driver);
}

macro_rules! rungs {
    ($($name:ident = $list:literal, $line:literal;)+) => {
        uring_tests::on_one_driver! { Uring: $(fn $name() { holds($list, $line); })+ }
    };
}

rungs! {
    all = "", "multishot receive: yes";
    without_no_sqarray = "no_sqarray=off", "NO_SQARRAY: no (switched off)";
    without_a_registered_descriptor =
        "registered_fd=off", "registered ring descriptor: no (switched off)";
    without_no_iowait = "no_iowait=off", "NO_IOWAIT: no (switched off)";
    without_absolute_timeouts = "absolute_timeouts=off", "absolute timeouts: no (switched off)";
    without_inline_sends =
        "inline_sends=off",
        "inline sends: no, every send asks for its completion (switched off)";
    without_multishot_receives = "multishot_receive=off", "multishot receive: no (switched off)";
    without_multishot_accepts = "multishot_accept=off", "multishot accept: no (switched off)";
    without_anything_optional =
        "no_sqarray=off,registered_fd=off,no_iowait=off,absolute_timeouts=off,inline_sends=off,\
         multishot_receive=off,multishot_accept=off",
        "multishot accept: no (switched off)";
    with_tiny_queues = "sq_entries=2,cq_entries=4", "queues: 2 submissions, 4 completions";
    with_few_buffers = "sq_entries=64,cq_entries=256,buffers=2", "receive buffers: at most 2";
}
