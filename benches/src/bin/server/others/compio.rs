//! compio on io_uring: receives into a buffer of the connection.

use crate::Settings;
use crate::answer::Handler;
use compio::buf::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use std::io;

pub fn serve(listener: std::net::TcpListener, settings: Settings) -> io::Result<()> {
    compio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            compio::runtime::spawn(connection(stream, settings)).detach();
        }
    })
}

async fn connection(mut stream: TcpStream, settings: Settings) -> io::Result<()> {
    let mut handler = Handler::new(settings.mode);
    let mut buffer: Vec<u8> = Vec::with_capacity(settings.buffer);
    loop {
        let BufResult(result, filled) = stream.read(buffer).await;
        buffer = filled;
        if result? == 0 {
            return Ok(());
        }
        match handler.received(&buffer)? {
            None => {
                let BufResult(result, sent) = stream.write_all(buffer).await;
                result?;
                buffer = sent;
            }
            Some(answer) => stream.write_all(answer).await.0?,
        }
        buffer.clear();
    }
}
