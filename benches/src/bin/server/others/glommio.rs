//! glommio on one executor.

use crate::Settings;
use crate::answer::Handler;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};

pub fn serve(listener: std::net::TcpListener, settings: Settings) -> io::Result<()> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .make()?
        .run(async {
            // SAFETY: a listening socket that nobody else owns any more.
            let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
            loop {
                let stream = listener.accept().await?;
                glommio::spawn_local(connection(stream, settings)).detach();
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
