//! Measures a cell: all its servers up at once, driven in turn.

use crate::cells::Cell;
use crate::options::Options;
use ringloop_benches::histogram::Histogram;
use ringloop_benches::load::{Load, Session, Slice, Work};
use ringloop_benches::process::{Server, Softirqs};
use ringloop_benches::stats::{Median, median};
use ringloop_benches::syscalls::Tool;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What a server did in a cell.
pub struct Figures {
    pub server: String,
    /// Nanoseconds of CPU for each request.
    pub cpu: Median,
    /// The same as a ratio to the first server, within the same cycle.
    pub ratio: Median,
    /// Requests in a second.
    pub rate: Median,
    pub latency: Histogram,
    /// System calls for each request.
    pub system_calls: Option<f64>,
    /// Allocations for each request.
    pub allocations: f64,
}

pub struct Measured {
    pub cell: Cell,
    pub figures: Vec<Figures>,
}

struct Running {
    server: Server,
    session: Session,
    cpu: Vec<f64>,
    rate: Vec<f64>,
    latency: Histogram,
}

fn named<T>(result: io::Result<T>, server: &str) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{server}: {error}")))
}

fn requests(slice: &Slice) -> f64 {
    slice.requests.max(1) as f64
}

pub fn cell(
    load: &mut Load,
    cell: Cell,
    servers: &[String],
    program: &Path,
    options: &Options,
    tool: Option<Tool>,
) -> io::Result<Measured> {
    let mut all = Vec::new();
    for name in servers {
        let server = Server::start(program, name, cell.mode(), options.server_core, false)?;
        let session = named(load.open(server.port(), cell.work, cell.connections), name)?;
        named(load.drive(&session, options.slice * 2), name)?;
        all.push(Running {
            server,
            session,
            cpu: Vec::new(),
            rate: Vec::new(),
            latency: Histogram::default(),
        });
    }
    let softirqs = Softirqs::of(options.server_core);
    for cycle in 0..options.cycles {
        // Each cycle begins with another server, so that none is always first after a pause.
        for turn in 0..all.len() {
            let place = (cycle + turn) % all.len();
            let running = &mut all[place];
            let before = running.server.cpu()? + softirqs.cpu();
            let slice = named(load.drive(&running.session, options.slice), &servers[place])?;
            let used = running.server.cpu()? + softirqs.cpu() - before;
            running.cpu.push(used as f64 / requests(&slice));
            running
                .rate
                .push(requests(&slice) / slice.elapsed.as_secs_f64());
            running.latency.add(&slice.latency);
        }
    }
    let reference = all[0].cpu.clone();
    let mut figures = Vec::new();
    for (name, running) in servers.iter().zip(all) {
        let Running {
            server, session, ..
        } = running;
        let mut system_calls = None;
        if let Some(tool) = tool {
            let (slice, count) = named(
                tool.count(server.id(), || load.drive(&session, options.slice)),
                name,
            )?;
            system_calls = count.map(|count| count as f64 / requests(&slice));
        }
        server.page().count(true);
        let slice = named(load.drive(&session, options.slice), name)?;
        server.page().count(false);
        let ratios: Vec<f64> = std::iter::zip(&running.cpu, &reference)
            .map(|(cpu, reference)| cpu / reference)
            .collect();
        figures.push(Figures {
            server: name.clone(),
            cpu: median(&running.cpu),
            ratio: median(&ratios),
            rate: median(&running.rate),
            latency: running.latency,
            system_calls,
            allocations: server.page().allocations() as f64 / requests(&slice),
        });
        named(load.close(session), name)?;
    }
    Ok(Measured { cell, figures })
}

/// Bytes of memory, and of heap, for each of so many connections, each served once.
pub fn memory(
    load: &mut Load,
    name: &str,
    program: &Path,
    options: &Options,
    connections: usize,
) -> io::Result<(i64, i64)> {
    let work = Work::Echo {
        size: 64,
        in_flight: 1,
    };
    let server = Server::start(program, name, "echo", options.server_core, true)?;
    let few = named(load.open(server.port(), work, 10), name)?;
    named(load.drive(&few, Duration::from_millis(20)), name)?;
    let (memory, heap) = (server.memory()?, server.page().live());
    let many = named(load.open(server.port(), work, connections), name)?;
    named(load.once(&many), name)?;
    let each = |bytes: i64| bytes / connections as i64;
    let result = (
        each(server.memory()? as i64 - memory as i64),
        each(server.page().live() - heap),
    );
    named(load.close(many), name)?;
    named(load.close(few), name)?;
    Ok(result)
}
