//! A program that hangs, and how to see why.
//!
//!     cargo run --release --example stuck
//!
//! Its first line says how to ask it what it does. It ends on SIGINT.

use ringloop::debug::dump_on_signal;
use ringloop::stream::{open_connection, start_server};
use ringloop::task::TaskOptions;
use ringloop::{
    Cancelled, ConnectOptions, EventLoopExt, ServerOptions, get_running_loop, sleep, task_group,
    timeout,
};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

fn main() {
    match ringloop::run(serve()) {
        Err(ringloop::RunError::Interrupted) => println!("interrupted"),
        ended => println!("{ended:?}"),
    }
}

async fn serve() -> io::Result<()> {
    let _dumps = dump_on_signal(libc::SIGUSR1)?;
    // It takes requests and never answers.
    let server = start_server(
        |mut reader, writer| async move {
            while let Ok(Some(_)) = reader.read_lease().await {}
            writer.close();
        },
        ServerOptions::new("127.0.0.1", 0),
    )
    .await?;
    let silent = server.sockets()[0]
        .local_addr()
        .and_then(|address| address.as_inet());
    let silent = silent.expect("an IP socket has an address");

    let prices =
        get_running_loop().create_task_with(prices(silent), TaskOptions::named("prices"))?;
    let orders = task_group::<(), Cancelled, _>(async |group| {
        group.create_task_with(order(prices), TaskOptions::named("order 1"))?;
        group.create_task_with(heartbeat(), TaskOptions::named("heartbeat"))?;
        println!("kill -USR1 {}", std::process::id());
        Ok(())
    });
    orders.await.map_err(io::Error::other)
}

/// Asks the server that never answers.
async fn prices(from: SocketAddr) -> io::Result<usize> {
    let to = ConnectOptions::new(from.ip().to_string(), from.port());
    let (mut reader, writer) = open_connection(to).await?;
    writer.write(b"prices?\n")?;
    Ok(reader.read_lease().await?.map_or(0, |answer| answer.len()))
}

/// Waits for the prices, with more patience than anybody has.
async fn order(prices: ringloop::Task<io::Result<usize>>) -> Result<(), Cancelled> {
    let _ = timeout(Duration::from_secs(3600), prices).await;
    Ok(())
}

async fn heartbeat() -> Result<(), Cancelled> {
    loop {
        sleep(Duration::from_secs(1)).await?;
    }
}
