//! An HTTP/1.1 server with a small fixed answer, with either of the two programming interfaces.
//!
//!     cargo run --release --example http -- --api protocol
//!
//! Connections are kept, requests may be pipelined, answers that are ready together go out together.
//! In the steady state nothing is allocated for a request: heads are parsed where they were received,
//! and answers are static.

mod common;
#[path = "common/request.rs"]
mod request;

use common::{Api, Client, Service};
use request::{Next, Requests};
use ringloop::event_loop::TimerHandle;
use ringloop::protocol::{ProtocolCell, ProtocolMut};
use ringloop::stream::{StreamReader, StreamWriter, start_server};
use ringloop::{EventLoopExt, Lease, Transport, get_running_loop, timeout};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// After a refusal the client may still be sending; a connection that is closed with unread bytes is
/// reset, and the client would not see the answer. So they are read and dropped for so long.
const LINGER: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    common::main(async |options, service| {
        let service = service.clone();
        match options.api {
            Api::Protocol => {
                let factory = move || Rc::new(ProtocolCell::new(Http::new(service.clone())));
                get_running_loop()
                    .create_server(factory, options.server())
                    .await
            }
            Api::Stream => {
                let serve = move |reader, writer| serve(reader, writer, service.clone());
                start_server(serve, options.server()).await
            }
        }
    })
}

// --- with await

async fn serve(mut reader: StreamReader, writer: StreamWriter, service: Rc<Service>) {
    let client = service.connected(&writer.transport());
    if answer_requests(&mut reader, &writer, &client)
        .await
        .is_err()
    {
        client.failed();
    }
}

async fn answer_requests(
    reader: &mut StreamReader,
    writer: &StreamWriter,
    client: &Client,
) -> io::Result<()> {
    let mut requests = Requests::default();
    // Bytes at the front that were looked at and are not a whole request.
    let mut seen = 0;
    loop {
        let input = if seen == 0 {
            reader.fill_buf().await?
        } else {
            reader.fill_more().await?
        };
        if input.len() == seen || writer.is_closing() {
            return Ok(());
        }
        client.set_busy(true);
        let mut used = 0;
        loop {
            let (n, next) = requests.next(&input[used..], client.is_stopping());
            used += n;
            match next {
                Next::More => break,
                Next::Continue(interim) => writer.write(interim)?,
                Next::Answer(answer) => {
                    writer.write(answer)?;
                    client.answered();
                }
                Next::Last(answer) => {
                    writer.write(answer)?;
                    client.answered();
                    return Ok(());
                }
                Next::Refuse(answer) => {
                    writer.write(answer)?;
                    client.failed();
                    writer.write_eof()?;
                    let _ = timeout(LINGER, discard(reader)).await;
                    return Ok(());
                }
            }
        }
        seen = input.len() - used;
        reader.consume(used);
        writer.drain().await?;
        client.set_busy(requests.in_progress() || reader.buffered() > 0);
    }
}

async fn discard(reader: &mut StreamReader) -> io::Result<()> {
    while reader.read_lease().await?.is_some() {}
    Ok(())
}

// --- with callbacks

struct Http {
    service: Rc<Service>,
    connection: Option<(Rc<dyn Transport>, Client)>,
    requests: Requests,
    /// The start of a request that did not come in one piece.
    rest: Vec<u8>,
    /// Runs while what comes is dropped.
    linger: Option<TimerHandle>,
}

impl Http {
    fn new(service: Rc<Service>) -> Self {
        Self {
            service,
            connection: None,
            requests: Requests::default(),
            rest: Vec::new(),
            linger: None,
        }
    }

    /// Answers the requests in `input`: how much of it was used.
    fn answer(&mut self, input: &[u8]) -> io::Result<usize> {
        let Some((transport, client)) = &self.connection else {
            return Ok(input.len());
        };
        client.set_busy(true);
        let mut used = 0;
        loop {
            let (n, next) = self.requests.next(&input[used..], client.is_stopping());
            used += n;
            match next {
                Next::More => break,
                Next::Continue(interim) => transport.write(interim)?,
                Next::Answer(answer) => {
                    transport.write(answer)?;
                    client.answered();
                }
                Next::Last(answer) => {
                    transport.write(answer)?;
                    client.answered();
                    transport.close();
                    return Ok(input.len());
                }
                Next::Refuse(answer) => {
                    transport.write(answer)?;
                    client.failed();
                    transport.write_eof()?;
                    let closing = transport.clone();
                    let close = move || closing.close();
                    self.linger = Some(get_running_loop().call_later(LINGER, close)?);
                    return Ok(input.len());
                }
            }
        }
        client.set_busy(self.requests.in_progress() || used < input.len());
        Ok(used)
    }

    fn received(&mut self, data: &[u8]) -> io::Result<()> {
        if self.linger.is_some() {
            return Ok(());
        }
        if self.rest.is_empty() {
            let used = self.answer(data)?;
            self.rest.extend_from_slice(&data[used..]);
        } else {
            let mut input = std::mem::take(&mut self.rest);
            input.extend_from_slice(data);
            let used = self.answer(&input)?;
            input.drain(..used);
            self.rest = input;
        }
        Ok(())
    }
}

impl ProtocolMut for Http {
    fn connection_made(&mut self, transport: Rc<dyn Transport>) {
        let client = self.service.connected(&transport);
        self.connection = Some((transport, client));
    }

    fn data_received(&mut self, data: Lease) {
        if self.received(&data).is_err()
            && let Some((transport, _)) = &self.connection
        {
            transport.abort();
        }
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        if let Some(linger) = self.linger.take() {
            linger.cancel();
        }
        if let (Some((_, client)), Some(_)) = (self.connection.take(), error) {
            client.failed();
        }
    }

    /// The client does not read its answers: take no more requests.
    fn pause_writing(&mut self) {
        if let Some((transport, _)) = &self.connection {
            transport.pause_reading();
        }
    }

    fn resume_writing(&mut self) {
        if let Some((transport, _)) = &self.connection {
            transport.resume_reading();
        }
    }
}
