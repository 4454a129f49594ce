//! monoio with the driver that it picks, io_uring where there is one.

use crate::Settings;
use crate::answer::Handler;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use std::io;

pub fn serve(listener: std::net::TcpListener, settings: Settings) -> io::Result<()> {
    monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
        .build()?
        .block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                monoio::spawn(connection(stream, settings));
            }
        })
}

async fn connection(mut stream: TcpStream, settings: Settings) -> io::Result<()> {
    let mut handler = Handler::new(settings.mode);
    let mut buffer: Vec<u8> = Vec::with_capacity(settings.buffer);
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        match handler.received(&buffer)? {
            None => {
                (result, buffer) = stream.write_all(buffer).await;
                result?;
            }
            Some(answer) => {
                stream.write_all(answer).await.0?;
            }
        }
        buffer.clear();
    }
}
