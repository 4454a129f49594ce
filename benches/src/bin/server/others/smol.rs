//! smol on a local executor.

use crate::answer::Handler;
use crate::{BUFFER_SIZE, Mode};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor};
use std::io;
use std::net::{TcpListener, TcpStream};

pub fn serve(listener: TcpListener, mode: Mode) -> io::Result<()> {
    let executor = LocalExecutor::new();
    let listener = Async::new(listener)?;
    smol::block_on(executor.run(async {
        loop {
            let (stream, _) = listener.accept().await?;
            executor.spawn(connection(stream, mode)).detach();
        }
    }))
}

async fn connection(mut stream: Async<TcpStream>, mode: Mode) -> io::Result<()> {
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
