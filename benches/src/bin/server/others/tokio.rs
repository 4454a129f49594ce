//! tokio on its current-thread runtime.

use crate::answer::Handler;
use crate::{BUFFER_SIZE, Mode};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub fn serve(listener: std::net::TcpListener, mode: Mode) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(connection(stream, mode));
            }
        })
}

async fn connection(mut stream: TcpStream, mode: Mode) -> io::Result<()> {
    let mut handler = Handler::new(mode);
    let mut buffer = vec![0; BUFFER_SIZE];
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
