//! tokio on its current-thread runtime.

use crate::Settings;
use crate::answer::Handler;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub fn serve(listener: std::net::TcpListener, settings: Settings) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(connection(stream, settings));
            }
        })
}

async fn connection(mut stream: TcpStream, settings: Settings) -> io::Result<()> {
    let mut handler = Handler::new(settings.mode);
    let mut buffer = vec![0; settings.buffer];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let bytes = &buffer[..length];
        let answer = handler.received(bytes)?.unwrap_or(bytes);
        stream.write_all(answer).await?;
    }
}
