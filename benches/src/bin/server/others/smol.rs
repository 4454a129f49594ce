//! smol on a local executor.

use crate::Settings;
use crate::answer::Handler;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor};
use std::io;
use std::net::{TcpListener, TcpStream};

pub fn serve(listener: TcpListener, settings: Settings) -> io::Result<()> {
    let executor = LocalExecutor::new();
    let listener = Async::new(listener)?;
    smol::block_on(executor.run(async {
        loop {
            let (stream, _) = listener.accept().await?;
            executor.spawn(connection(stream, settings)).detach();
        }
    }))
}

async fn connection(mut stream: Async<TcpStream>, settings: Settings) -> io::Result<()> {
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
