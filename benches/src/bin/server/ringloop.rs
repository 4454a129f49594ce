//! ringloop: on io_uring or epoll, with callbacks or with streams.

use crate::answer::Handler;
use crate::{Mode, Settings};
use bytes::Bytes;
use ringloop::protocol::{BaseProtocol, Protocol};
use ringloop::stream::{StreamReader, StreamWriter, start_server};
use ringloop::{
    Builder, Chunk, DriverKind, EventLoopExt, Lease, ServerOptions, Transport, block_on,
    get_running_loop,
};
use std::cell::{OnceCell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;

pub fn protocol_on_uring(listener: TcpListener, settings: Settings) -> io::Result<()> {
    serve_protocol(listener, settings.mode, DriverKind::Uring)
}

pub fn protocol_on_epoll(listener: TcpListener, settings: Settings) -> io::Result<()> {
    serve_protocol(listener, settings.mode, DriverKind::Epoll)
}

pub fn streams_on_uring(listener: TcpListener, settings: Settings) -> io::Result<()> {
    serve_streams(listener, settings.mode, DriverKind::Uring)
}

pub fn streams_on_epoll(listener: TcpListener, settings: Settings) -> io::Result<()> {
    serve_streams(listener, settings.mode, DriverKind::Epoll)
}

fn options(listener: TcpListener) -> ServerOptions {
    ServerOptions::default().sock(listener).backlog(4096)
}

fn serve_protocol(listener: TcpListener, mode: Mode, driver: DriverKind) -> io::Result<()> {
    block_on(&Builder::new().driver(driver).build()?, async move {
        get_running_loop()
            .create_server(move || Connection::new(mode), options(listener))
            .await?
            .serve_forever()
            .await
    })?
}

fn serve_streams(listener: TcpListener, mode: Mode, driver: DriverKind) -> io::Result<()> {
    block_on(&Builder::new().driver(driver).build()?, async move {
        start_server(
            move |reader, writer| connection(reader, writer, mode),
            options(listener),
        )
        .await?
        .serve_forever()
        .await
    })?
}

fn answer(handler: &mut Handler, data: Lease) -> io::Result<Chunk> {
    Ok(match handler.received(&data)? {
        None => data.into(),
        Some(answer) => Bytes::from_static(answer).into(),
    })
}

/// An `async fn` would keep its arguments twice, and a `while let` what was read until all of it is sent.
fn connection(
    mut reader: StreamReader,
    writer: StreamWriter,
    mode: Mode,
) -> impl Future<Output = io::Result<()>> {
    let mut handler = Handler::new(mode);
    async move {
        loop {
            match reader.read_lease().await? {
                Some(data) => writer.write_chunk(answer(&mut handler, data)?)?,
                None => return Ok(()),
            }
            writer.drain().await?;
        }
    }
}

struct Connection {
    handler: RefCell<Handler>,
    transport: OnceCell<Rc<dyn Transport>>,
}

impl Connection {
    fn new(mode: Mode) -> Rc<Self> {
        Rc::new(Self {
            handler: RefCell::new(Handler::new(mode)),
            transport: OnceCell::new(),
        })
    }
}

impl BaseProtocol for Connection {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        // Called once.
        let _ = self.transport.set(transport);
    }

    fn pause_writing(&self) {
        if let Some(transport) = self.transport.get() {
            transport.pause_reading();
        }
    }

    fn resume_writing(&self) {
        if let Some(transport) = self.transport.get() {
            transport.resume_reading();
        }
    }
}

impl Protocol for Connection {
    fn data_received(&self, data: Lease) {
        let Some(transport) = self.transport.get() else {
            return;
        };
        let sent = answer(&mut self.handler.borrow_mut(), data)
            .and_then(|answer| transport.write_chunk(answer));
        if sent.is_err() {
            transport.abort();
        }
    }
}
