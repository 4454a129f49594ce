//! An echo server, with either of the two programming interfaces.
//!
//!     cargo run --release --example echo -- --api protocol
//!
//! Both ways send each received buffer back from where the kernel wrote it: nothing is copied.

mod common;

use common::{Api, Client, Service};
use ringloop::protocol::{BaseProtocol, Protocol};
use ringloop::stream::{StreamReader, StreamWriter, start_server};
use ringloop::{EventLoopExt, Lease, Transport, get_running_loop};
use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

fn main() -> ExitCode {
    common::main(async |options, service| {
        let service = service.clone();
        match options.api {
            Api::Protocol => {
                let factory = move || Echo::new(service.clone());
                get_running_loop()
                    .create_server(factory, options.server())
                    .await
            }
            Api::Stream => {
                let echo = move |reader, writer| echo(reader, writer, service.clone());
                start_server(echo, options.server()).await
            }
        }
    })
}

/// One connection, with `await`.
async fn echo(mut reader: StreamReader, writer: StreamWriter, service: Rc<Service>) {
    let client = service.connected(&writer.transport());
    let echoing: io::Result<()> = async {
        while let Some(data) = reader.read_lease().await? {
            client.set_busy(true);
            writer.write_lease(data)?;
            client.answered();
            writer.drain().await?;
            client.set_busy(reader.buffered() > 0);
        }
        Ok(())
    }
    .await;
    if echoing.is_err() {
        client.failed();
    }
}

/// One connection, with callbacks.
struct Echo {
    service: Rc<Service>,
    connection: RefCell<Option<(Rc<dyn Transport>, Client)>>,
}

impl Echo {
    fn new(service: Rc<Service>) -> Rc<Self> {
        Rc::new(Self {
            service,
            connection: RefCell::default(),
        })
    }

    fn transport(&self) -> Option<Rc<dyn Transport>> {
        let connection = self.connection.borrow();
        connection.as_ref().map(|(transport, _)| transport.clone())
    }
}

impl BaseProtocol for Echo {
    fn connection_made(&self, transport: Rc<dyn Transport>) {
        let client = self.service.connected(&transport);
        self.connection.replace(Some((transport, client)));
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        if let (Some((_, client)), Some(_)) = (self.connection.take(), error) {
            client.failed();
        }
    }

    /// The peer does not read: stop reading what it would have to be sent.
    fn pause_writing(&self) {
        if let Some(transport) = self.transport() {
            transport.pause_reading();
        }
    }

    fn resume_writing(&self) {
        if let Some(transport) = self.transport() {
            transport.resume_reading();
        }
    }
}

impl Protocol for Echo {
    fn data_received(&self, data: Lease) {
        let Some(transport) = self.transport() else {
            return;
        };
        if transport.write_chunk(data.into()).is_ok()
            && let Some((_, client)) = &*self.connection.borrow()
        {
            client.answered();
        }
    }
}
